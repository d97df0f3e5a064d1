"""An authorization request, and how its answer reaches the client.

Laws. Nothing is sent to a redirect URI that the client did not register; what is wrong
before that is known is told to the user only.

Spec: client-server-api#authorisation-code-flow; RFC 6749, 4.1
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from homeserver import errors
from homeserver.context import Context
from homeserver.oauth import places, uris
from homeserver.oauth.client_metadata import CODE_GRANT, Metadata
from homeserver.oauth.errors import OAuthError
from homeserver.oauth.scopes import Scope, parse_scope
from homeserver.oauth.token_api import known_client

MAX_QUERY: Final = 8000
MAX_STATE: Final = 4096
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Reception:
    """Where answers go, and how."""

    issuer: str
    redirect_uri: str
    mode: str  # query or fragment
    state: str | None

    def answer(self, **values: str) -> str:
        """The URI that brings the values to the client."""
        if self.state is not None:
            values["state"] = self.state
        # RFC 9207: the client can tell who answers.
        values["iss"] = self.issuer
        said = urlencode(values)
        if self.mode == "fragment":
            return f"{self.redirect_uri}#{said}"
        sign = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{sign}{said}"

    def refuse(self, error: OAuthError) -> str:
        """The URI that tells the client of an error."""
        return self.answer(error=error.code, error_description=error.description)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks of a user, all of it checked."""

    client_id: str
    client: Metadata
    reception: Reception
    scope: Scope
    challenge: str
    prompt: str
    login_hint: str


class Refused(Exception):  # noqa: N818 - reads as what happened
    """The client is told of an error, at this URI."""

    def __init__(self, where: str) -> None:
        super().__init__("the request cannot be granted")
        self.where = where


async def parse_request(ctx: Context, base: str, query: str) -> AuthorizationRequest:
    """The request of a query string.

    Raises: M_INVALID_PARAM, told to the user; Refused, told to the client.
    """
    fields = _fields(query)
    client_id, redirect_uri = fields.get("client_id", ""), fields.get("redirect_uri")
    try:
        client = await known_client(ctx, client_id)
    except OAuthError:
        raise errors.invalid_param(
            "This server does not know the app that sent you here. Begin again there."
        ) from None
    if redirect_uri is None or not uris.is_registered(
        redirect_uri, client.redirect_uris, is_native=client.is_native
    ):
        raise errors.invalid_param(
            "The app that sent you here wants the answer at an address that is not"
            " known to be its own."
        )
    mode = fields.get("response_mode", "query")
    state = fields.get("state")
    reception = Reception(
        f"{base}/", redirect_uri, "fragment" if mode == "fragment" else "query", state
    )
    try:
        return AuthorizationRequest(
            client_id,
            client,
            reception,
            _checked(fields, client, mode),
            fields["code_challenge"],
            fields.get("prompt", ""),
            fields.get("login_hint", ""),
        )
    except OAuthError as error:
        raise Refused(reception.refuse(error)) from None


def _fields(query: str) -> dict[str, str]:
    if len(query) > MAX_QUERY:
        raise errors.invalid_param("The request is too long.")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=50
        )
    except ValueError:
        raise errors.invalid_param("The request cannot be read.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or any("\0" in value for value in fields.values()):
        raise errors.invalid_param("The request cannot be read.")
    return fields


def _checked(fields: dict[str, str], client: Metadata, mode: str) -> Scope:
    """What is asked for. Raises: what the client is told."""
    if mode not in ("query", "fragment"):
        raise OAuthError("invalid_request", "response_mode: query or fragment.")
    if fields.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type: only code.")
    if CODE_GRANT not in client.grant_types or "code" not in client.response_types:
        raise OAuthError("unauthorized_client", "Not registered for this grant.")
    if len(fields.get("state", "")) > MAX_STATE:
        raise OAuthError("invalid_request", f"state: at most {MAX_STATE} characters.")
    if "request" in fields:
        raise OAuthError("request_not_supported", "Parameters stand for themselves.")
    if fields.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(
        fields.get("code_challenge", "")
    ):
        raise OAuthError("invalid_request", "PKCE with S256 is needed.")
    return parse_scope(fields.get("scope", ""))


def without_prompt(query: str) -> str:
    """The same request, for when what it prompts for is done."""
    kept = [pair for pair in parse_qsl(query, True) if pair[0] != "prompt"]  # noqa: FBT003 - the standard library's
    return f"{places.AUTHORIZE}?{urlencode(kept)}"
