"""How accounts are made and how clients log in to them.

Tables: none of its own; those of accounts.

- `client_api` has log-in, log-in tokens, refresh and registration; `password_api`
  changes passwords, also forgotten ones;
- `register` also says what somebody must go through to register: `terms` and `captcha`
  are stages of that, `fallback_pages` the pages for clients that do not know a stage;
- `tokens_api` administers registration tokens, `invite_page` is behind their links;
  `approval` lets in who waits for it;
- `web_tokens` takes the word of another program, `ldap` that of a directory;
  `elsewhere` has the accounts of those whom they know;
- `register` makes accounts; `shared_secret` is what `admin_api` rests on: accounts for
  tools that know the configured secret.
"""
