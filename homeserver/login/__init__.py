"""How accounts are made and how clients log in to them.

Tables: none of its own; those of accounts.

- `client_api` has log-in, log-in tokens, refresh and registration;
- `register` makes accounts; `shared_secret` is what `admin_api` rests on: accounts for
  tools that know the configured secret.
"""
