"""What a client says of itself when it registers.

Spec: client-server-api#client-metadata
"""

import base64
import hashlib
from typing import Final

import msgspec

from federation.canonical_json import JsonObject
from homeserver.oauth import uris
from homeserver.oauth.errors import OAuthError

CODE_GRANT: Final = "authorization_code"
REFRESH_GRANT: Final = "refresh_token"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
GRANTS: Final = (CODE_GRANT, REFRESH_GRANT, DEVICE_GRANT)
RESPONSE_TYPES: Final = ("code",)

MAX_REDIRECT_URIS: Final = 20
MAX_NAME: Final = 200
_ID_BYTES: Final = 20


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of it."""

    client_uri: str
    application_type: str
    token_endpoint_auth_method: str
    response_types: list[str]
    grant_types: list[str]
    redirect_uris: list[str]
    client_name: str | None = None
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None

    @property
    def is_native(self) -> bool:
        """Whether it is a program on the user's device."""
        return self.application_type == "native"

    @property
    def host(self) -> str:
        """The host that all its URIs have in common."""
        return uris.client_host(self.client_uri) or ""

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.client_name or self.host


class _Given(msgspec.Struct):
    client_uri: str = ""
    application_type: str = "web"
    token_endpoint_auth_method: str = "none"  # noqa: S105 - no secret at all
    response_types: list[str] = msgspec.field(default_factory=lambda: ["code"])
    grant_types: list[str] = msgspec.field(default_factory=lambda: [CODE_GRANT])
    redirect_uris: list[str] = msgspec.field(default_factory=list)
    client_name: str | None = None
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None


def check_metadata(body: JsonObject) -> Metadata:
    """What is kept of what a client says. Raises: invalid_client_metadata and so on."""
    try:
        given = msgspec.convert(body, _Given)
    except msgspec.ValidationError as error:
        raise _invalid(f"{error}.") from None
    host = uris.client_host(given.client_uri)
    if host is None:
        raise _invalid("client_uri: an https URI without user and password is needed.")
    if given.application_type not in ("web", "native"):
        raise _invalid("application_type: 'web' or 'native' is needed.")
    if given.token_endpoint_auth_method != "none":  # noqa: S105 - "no secret at all"
        raise _invalid("token_endpoint_auth_method: only 'none' is known here.")
    if given.client_name is not None and not 0 < len(given.client_name) <= MAX_NAME:
        raise _invalid(f"client_name: at most {MAX_NAME} characters are taken.")
    for name in ("logo_uri", "tos_uri", "policy_uri"):
        uri = getattr(given, name)
        if uri is not None and not uris.is_below(uri, host):
            raise _invalid(f"{name}: an https URI below client_uri is needed.")
    grants: list[str] = [each for each in GRANTS if each in given.grant_types]
    if not {CODE_GRANT, DEVICE_GRANT} & {*grants}:
        raise _invalid("grant_types: none of them is known here.")
    _check_redirect_uris(given, host, grants)
    return Metadata(
        given.client_uri,
        given.application_type,
        given.token_endpoint_auth_method,
        [each for each in given.response_types if each in RESPONSE_TYPES],
        grants,
        given.redirect_uris,
        given.client_name,
        given.logo_uri,
        given.tos_uri,
        given.policy_uri,
    )


def _check_redirect_uris(given: _Given, host: str, grants: list[str]) -> None:
    found = given.redirect_uris
    if CODE_GRANT in grants and not found:
        raise OAuthError("invalid_redirect_uri", "redirect_uris: one is needed.")
    if len(found) > MAX_REDIRECT_URIS:
        raise OAuthError(
            "invalid_redirect_uri",
            f"redirect_uris: at most {MAX_REDIRECT_URIS} are taken.",
        )
    is_native = given.application_type == "native"
    for uri in found:
        if not uris.is_redirect_uri(uri, host, is_native=is_native):
            raise OAuthError(
                "invalid_redirect_uri",
                f"{uri[:200]!r} cannot be a redirect URI of this client.",
            )


def client_id_of(metadata: Metadata) -> str:
    """The ID of a client: whoever says the same of itself is the same client."""
    digest = hashlib.sha256(encode(metadata).encode()).digest()
    return base64.b32encode(digest[:_ID_BYTES]).decode().rstrip("=").lower()


def encode(metadata: Metadata) -> str:
    """As it is stored."""
    return msgspec.json.encode(metadata).decode()


def decode(stored: str) -> Metadata:
    """As it was stored."""
    return msgspec.json.decode(stored, type=Metadata)


def told(client_id: str, metadata: Metadata) -> JsonObject:
    """What the client is told: its ID, and what has been registered."""
    known: JsonObject = msgspec.to_builtins(metadata)
    return {"client_id": client_id, **known}


def _invalid(why: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", why)
