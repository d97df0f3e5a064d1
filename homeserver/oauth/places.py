"""Where everything of OAuth is."""

from typing import Final

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
