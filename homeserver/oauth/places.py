"""Where everything of OAuth is."""

from typing import Final
from urllib.parse import quote, urlencode

TOKEN: Final = "/oauth2/token"  # noqa: S105 - paths
REVOKE: Final = "/oauth2/revoke"
REGISTER: Final = "/oauth2/register"
DEVICE: Final = "/oauth2/device"

AUTHORIZE: Final = "/account/authorize"
LOGIN: Final = "/account/login"
LOGOUT: Final = "/account/logout"
SIGN_UP: Final = "/account/register"
LINK: Final = "/account/link"
SSO: Final = "/account/sso"
# Log-in through a provider, which stands further down, in `sign_on`.
PROVIDER: Final = "/account/provider/{idpId}"
PROVIDER_BACK: Final = PROVIDER + "/callback"
PROVIDER_LOGOUT: Final = PROVIDER + "/logout"
WELCOME: Final = "/account/welcome"


def provider_page(provider: str, **query: str) -> str:
    """The page that sends a browser to a provider."""
    where = PROVIDER.replace("{idpId}", quote(provider, safe=""))
    return f"{where}?{urlencode(query)}" if query else where
