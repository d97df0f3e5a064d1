"""Single sign-on: somebody else says who a person is.

Our pages send the browser to a provider, which sends it back with a proof. Whoever is
known is logged in with the browser then, as if by password, and goes on to where they
were going: to a client's consent page, `m.login.sso`, or their account. Whoever is new
chooses a name, or links an account that is theirs already, with its password.

Laws. An answer counts once, for the browser and the provider that it was asked of. An
account is linked by its own password, by the operator, or, where the operator trusts a
provider with it, by a confirmed e-mail address; never by a name.

Tables: sign_on_requests, sign_on_arrivals, sign_on_used; with accounts: sign_on_links,
sign_ons, sign_on_devices.

- `identity`: whom a provider speaks of; `claims` (pure) makes that of what it says;
- `providers`: what all kinds have in common; `oidc` is OpenID Connect, `keys` the keys
  that it signs with, `calls` asks it over HTTP; `cas` and `saml` are the others, whose
  forms `saml_api` takes;
- `arrivals` lets in who comes back; `pages` is where browsers come through, `welcome`
  for whom nobody here knows yet, `pictures` their avatar;
  `logout_api` hears that a log-in ended there.

Spec: client-server-api#sso-client-loginauthentication
"""
