"""OAuth 2.0: this server is the authorization server of its own clients.

A client registers itself, sends its user's browser to a page of ours, and gets a code
for tokens once the user has allowed it. The tokens are those of an ordinary session, so
every other endpoint knows nothing of this.

Tables: oauth_clients, oauth_codes, oauth_device_codes, browser_sessions, rendezvous;
with accounts: oauth_sessions, cross_signing_resets. Secrets are
stored as hashes only.

- `uris`, `client_metadata`, `scopes`: what clients may say of themselves and ask for;
- `metadata_api`, `token_api`: what programs call;
- `authorize_pages`, `login_pages`, `register_pages`, `link_pages`: what people see;
- `sso_pages`: the same for clients that know `m.login.sso` only;
- `account_pages`: profile, devices, end of the account, new cross-signing keys;
- `rendezvous_api`: where two devices meet, to log one in by a QR code;
- `requests`: an authorization request and its answers; `sessions` gives out tokens;
- `browsers` knows who is logged in with a browser; `tasks` forgets.

Spec: client-server-api#oauth-20-api
"""
