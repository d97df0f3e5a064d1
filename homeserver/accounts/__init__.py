"""Accounts: who may log in, with what, and what they keep here for themselves.

Tables: users, devices, access_tokens, refresh_tokens, spent_refresh_tokens,
registration_tokens, user_threepids, threepid_bindings,
uia_sessions, openid_tokens, account_data, filters, profiles, farewells.
Positions: account data (ACCOUNT_DATA); devices and tokens that go away, and accounts
that are locked or suspended (TOKENS); accounts that end (DEACTIVATED).

- `passwords` hashes and checks passwords, in threads; `tokens` makes the secrets that
  clients hold, of which only hashes are stored.
- `sessions` opens and ends a user's sessions: a device and its tokens.
- `authentication` is what `http` asks whose an access token is.
- `uia` is user-interactive authentication.
- `addresses` has the one form of e-mail addresses and phone numbers; `identity_servers`
  speaks with the servers at which users bind theirs.
- `tags` and `filters` are what the client API's modules of that name rest on.
- `tasks` forgets what has run out.
"""
