"""E-mail addresses and phone numbers: shown to be somebody's, added, bound, removed.

Tables: threepid_sessions; user_threepids and threepid_bindings (of accounts).

Laws. A session shows that whoever holds its client secret reads what is sent to one
address, for one purpose; it is good once. Whether an address belongs to an account is
told to its owner only, unless the configuration has it otherwise: the answer, and what
is done for it, are the same. The link in an e-mail shows a page whose button confirms,
so that programs which follow links in e-mails confirm nothing.

- `validation` begins and completes sessions; `store` is their table;
- `stages` are m.login.email.identity and m.login.msisdn;
- `client_api` manages the addresses of an account, `tokens_api` begins sessions,
  `pages` has the page behind the link.
"""
