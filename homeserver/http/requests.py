"""What an endpoint reads: path, query, body and caller, each with its type checked.

Everything here raises MatrixError, with the errcode of the specification, when the
caller sent something else; an endpoint that reads only through these functions cannot
answer 500 because of its input.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import msgspec
from aiohttp.web import BaseRequest

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import (
    DeviceId,
    EventId,
    RoomAlias,
    RoomId,
    ServerName,
    UserId,
    parse_event_id,
    parse_room_alias,
    parse_room_id,
    parse_server_name,
    parse_user_id,
)
from homeserver import errors
from homeserver.bounded import MIB, LruCache
from homeserver.http import bodies
from homeserver.http.limits import Limit, Limits

Kind = TypeVar("Kind")
Struct = TypeVar("Struct", bound=msgspec.Struct)

MAX_QUERY_FIELDS: Final = 200
# Clients send the same filter with each sync.
_LONG: Final = 40
_long_values: Final[LruCache[str, str]] = LruCache("long query values", 4 * MIB, 200)
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}")

# In `request.path(UserId, "userId")` the NewType stands for its parser.
_PARSERS: Final[Mapping[Any, Callable[[str], Any]]] = {
    UserId: parse_user_id,
    RoomId: parse_room_id,
    RoomAlias: parse_room_alias,
    EventId: parse_event_id,
    ServerName: parse_server_name,
}


def _parse(kind: Callable[[str], Kind], name: str, value: str) -> Kind:
    try:
        parsed: Kind = _PARSERS.get(kind, kind)(value)
    except (Malformed, ValueError) as error:
        reason = str(error).encode("utf-8", "backslashreplace").decode()
        raise errors.invalid_param(f"{name}: {reason[:300]}.") from None
    return parsed


@dataclass(frozen=True, slots=True)
class Requester:
    """The user who asks, known by an access token."""

    user_id: UserId
    device_id: DeviceId | None
    # SHA-256 of the token; None when the token belongs to no device.
    token_hash: bytes | None = None
    is_admin: bool = False
    is_guest: bool = False
    is_locked: bool = False
    is_suspended: bool = False
    # The application service that asks for this user; it may be free of rate limits.
    service_id: str | None = None
    is_unlimited: bool = False


class Request:
    """A request of which nobody knows who makes it."""

    __slots__ = (
        "_body",
        "_names",
        "_query",
        "_value",
        "_values",
        "ip",
        "limits",
        "raw",
    )

    def __init__(
        self,
        raw: BaseRequest,
        names: tuple[str, ...],
        values: Sequence[str],
        ip: str,
        limits: Limits,
    ) -> None:
        self.raw = raw
        # The address that asks, as far as our own proxies tell.
        self.ip = ip
        self.limits = limits
        self._names = names
        self._values = values
        self._query: dict[str, list[str]] | None = None
        self._body = b""
        self._value: JsonValue = None

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.raw.method

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers; names in any case."""
        return self.raw.headers

    def spend(self, limit: Limit, key: str) -> None:
        """Count against a further limit. Raises: M_LIMIT_EXCEEDED."""
        self.limits.spend(limit, key)

    # ── Path ─────────────────────────────────────────────────────────────────────────

    def path(self, kind: Callable[[str], Kind], name: str) -> Kind:
        """The path parameter `name`: `request.path(RoomId, "roomId")`.

        A parameter that stands only in another spelling of the path is "".

        Raises: M_INVALID_PARAM.
        """
        position = self._names.index(name)
        values = self._values
        value = values[position] if position < len(values) else ""
        if kind is str:
            return value  # type: ignore[return-value]
        return _parse(kind, name, value)

    # ── Query ────────────────────────────────────────────────────────────────────────

    def query_list(self, name: str) -> list[str]:
        """All values of a query parameter that may be repeated."""
        if self._query is None:
            self._query = _parse_query(self.raw.rel_url.raw_query_string)
        return self._query.get(name, [])

    def query_pairs(self) -> list[tuple[str, str]]:
        """All query parameters, for what is passed on."""
        self.query_list("")
        fields = self._query or {}
        return [(name, value) for name, values in fields.items() for value in values]

    def query_str(self, name: str) -> str | None:
        """The query parameter, None when it is not there."""
        values = self.query_list(name)
        return values[0] if values else None

    def query_required(self, name: str) -> str:
        """The query parameter. Raises: M_MISSING_PARAM."""
        value = self.query_str(name)
        if value is None:
            raise errors.missing_param(f"The query parameter {name!r} is required.")
        return value

    def query(self, kind: Callable[[str], Kind], name: str) -> Kind | None:
        """The query parameter, parsed like one of the path.

        Raises: M_INVALID_PARAM.
        """
        value = self.query_str(name)
        return None if value is None else _parse(kind, name, value)

    def query_int(
        self,
        name: str,
        default: int,
        *,
        minimum: int = 0,
        at_most: int | None = None,
    ) -> int:
        """An integer; above `at_most` it is taken for that.

        Raises: M_INVALID_PARAM, when it is none or below `minimum`.
        """
        text = self.query_str(name)
        if text is None:
            value = default
        elif _INTEGER.fullmatch(text):
            value = int(text)
        else:
            raise errors.invalid_param(f"{name}: an integer is needed.")
        if value < minimum:
            raise errors.invalid_param(f"{name}: at least {minimum} is needed.")
        return value if at_most is None else min(value, at_most)

    def query_bool(self, name: str, *, default: bool = False) -> bool:
        """`true` or `false`. Raises: M_INVALID_PARAM."""
        text = self.query_str(name)
        if text is None:
            return default
        if text not in ("true", "false"):
            raise errors.invalid_param(f"{name}: 'true' or 'false' is needed.")
        return text == "true"

    def query_choice(self, name: str, *choices: str) -> str | None:
        """One of the choices, None when it is not there. Raises: M_INVALID_PARAM."""
        text = self.query_str(name)
        if text is not None and text not in choices:
            raise errors.invalid_param(
                f"{name}: one of {', '.join(choices)} is needed."
            )
        return text

    # ── Body ─────────────────────────────────────────────────────────────────────────

    def receive(self, body: bytes) -> None:
        """Take the body that `dispatch` has read."""
        self._body = body

    @property
    def body_bytes(self) -> bytes:
        """The body as it came."""
        return self._body

    def json_object(self, *, empty_ok: bool = False) -> JsonObject:
        """The body, any JSON object; no body counts as `{}` when `empty_ok`.

        Raises: M_NOT_JSON, M_BAD_JSON.
        """
        if empty_ok and not self._body:
            return {}
        if self._value is None:
            self._value = bodies.parse_body(self._body)
        return bodies.as_object(self._value)

    def event_content(self, *, empty_ok: bool = False) -> JsonObject:
        """The body as the content of an event: an object without floats.

        Raises: M_NOT_JSON, M_BAD_JSON. Spec: appendices#canonical-json
        """
        if empty_ok and not self._body:
            return {}
        return bodies.parse_event_content(self._body)

    def body(self, kind: type[Struct], *, empty_ok: bool = False) -> Struct:
        """The body as a struct. Raises: M_NOT_JSON, M_BAD_JSON."""
        return bodies.to_struct(self.json_object(empty_ok=empty_ok), kind)


class ClientRequest(Request):
    """A request of a user, or of a client that has not said whose it is."""

    __slots__ = ("identify", "requester")

    requester: Requester | None
    # Learn anew whose it is, as who waits for long has to: tokens end, and accounts are
    # locked. Raises: as it did before the endpoint was called.
    identify: Callable[[], Awaitable[None]]

    def spend(self, limit: Limit, key: str) -> None:
        """Count against a further limit. Raises: M_LIMIT_EXCEEDED."""
        if self.requester is None or not self.requester.is_unlimited:
            super().spend(limit, key)

    @property
    def who(self) -> Requester:
        """The user who asks. Raises: M_MISSING_TOKEN, when nobody said."""
        if self.requester is None:
            raise errors.missing_token()
        return self.requester

    @property
    def user_id(self) -> UserId:
        """The user who asks. Raises: M_MISSING_TOKEN, when nobody said."""
        return self.who.user_id

    @property
    def device_id(self) -> DeviceId | None:
        """The device that asks; None for tokens without one."""
        return self.who.device_id

    @property
    def is_guest(self) -> bool:
        """Whether a guest asks. Spec: client-server-api#guest-access."""
        return self.who.is_guest


class FederationRequest(Request):
    """A request of another server, whose signature has been checked."""

    __slots__ = ("origin",)

    origin: ServerName

    def content(self) -> JsonValue:
        """The body as it was signed, None without one. Raises: M_NOT_JSON."""
        if self._value is None and self._body:
            self._value = bodies.parse_server_body(self._body)
        return self._value

    def json_object(self, *, empty_ok: bool = False) -> JsonObject:
        """The body, with all its integers and floats as they are.

        Raises: M_NOT_JSON, M_BAD_JSON.
        """
        if not self._body:
            if empty_ok:
                return {}
            raise errors.not_json()
        return bodies.as_object(self.content())


def _parse_query(text: str) -> dict[str, list[str]]:
    """The same as `urllib.parse.parse_qsl`, which takes three times as long."""
    fields: dict[str, list[str]] = {}
    if text.count("&") >= MAX_QUERY_FIELDS:
        raise errors.invalid_param("The query string has too many fields.")
    try:
        for part in text.split("&"):
            if part:
                name, _, value = part.partition("=")
                fields.setdefault(_decoded(name), []).append(_decoded(value))
    except UnicodeDecodeError:
        raise errors.invalid_param("The query string cannot be read.") from None
    return fields


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    if len(text) < _LONG:
        return unquote(text.replace("+", " "), errors="strict")
    known = _long_values.get(text)
    if known is None:
        known = unquote(text.replace("+", " "), errors="strict")
        _long_values.put(text, known, 2 * len(text))
    return known
