"""Matrix identifiers: one NewType each, one parser each.

A value of one of these types has been through its parser. Parsers raise Malformed.

Spec: appendices#identifier-grammar
"""

import ipaddress
import re
from typing import Final, NewType

from federation.errors import Malformed

UserId = NewType("UserId", str)
RoomId = NewType("RoomId", str)
RoomAlias = NewType("RoomAlias", str)
EventId = NewType("EventId", str)
ServerName = NewType("ServerName", str)
DeviceId = NewType("DeviceId", str)
KeyId = NewType("KeyId", str)

MAX_ID_BYTES: Final = 255

# server_name = hostname [ ":" port ]; dns-name = 1*255(ALPHA / DIGIT / "-" / ".")
_DNS_NAME: Final = re.compile(r"[A-Za-z0-9.\-]{1,255}")
_PORT: Final = re.compile(r"[0-9]{1,5}")
# user_id_char for new users: DIGIT / a-z / "-" / "." / "=" / "_" / "/" / "+"
_STRICT_LOCALPART: Final = re.compile(r"[a-z0-9._=/+\-]+")
# Event IDs since v3 and room IDs since v12 hold an unpadded base64 SHA-256: 43
# characters, of the standard alphabet in v3 and the URL-safe one since v4.
_HASH_ROOM_ID: Final = re.compile(r"![A-Za-z0-9_\-]{43}")
_HASH_EVENT_ID: Final = re.compile(r"\$(?:[A-Za-z0-9_\-]{43}|[A-Za-z0-9+/]{43})")
_OPAQUE: Final = re.compile(r"[A-Za-z0-9._~\-]{1,255}")


def _check_length(value: str, what: str) -> None:
    if len(value.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise Malformed(f"{what} is longer than {MAX_ID_BYTES} bytes")


def _check_text(value: str, what: str) -> None:
    """Identifiers may hold any code point but NUL and surrogates."""
    if "\0" in value or not (
        value.isascii() or all(not "\ud800" <= c <= "\udfff" for c in value)
    ):
        raise Malformed(f"{what} must not contain NUL or surrogates")


def parse_server_name(value: str) -> ServerName:
    """Check a server name: DNS name, IPv4 or bracketed IPv6, with optional port.

    Spec: appendices#server-name
    """
    if value.startswith("["):
        host, bracket, port = value[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise Malformed(f"{value!r} is not a server name: IPv6 needs brackets")
        has_port, port = bool(port), port[1:]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise Malformed(f"{value!r} is not a server name: {error}") from None
        if "%" in host:
            raise Malformed(f"{value!r} is not a server name: no zones")
    else:
        host, colon, port = value.partition(":")
        has_port = bool(colon)
        if not _DNS_NAME.fullmatch(host):
            raise Malformed(f"{value!r} is not a server name")
    if has_port and not (_PORT.fullmatch(port) and int(port) <= 65535):
        raise Malformed(f"{value!r} is not a server name: bad port")
    if len(value) > 255:
        raise Malformed("a server name has at most 255 characters")
    return ServerName(value)


def _split(value: str, sigil: str, what: str) -> tuple[str, str]:
    if not value.startswith(sigil):
        raise Malformed(f"{what} {value[:80]!r} must begin with {sigil!r}")
    _check_length(value, what)
    localpart, colon, domain = value[1:].partition(":")
    if not colon:
        raise Malformed(f"{what} {value!r} must end with a colon and a server name")
    return localpart, domain


def parse_user_id(value: str) -> UserId:
    """Check a user ID, historical ones included: any localpart without a NUL.

    Historical user IDs may hold any non-surrogate code point but `:` and NUL, and
    an empty localpart.

    Spec: appendices#historical-user-ids
    """
    localpart, domain = _split(value, "@", "user ID")
    _check_text(localpart, "user ID")
    parse_server_name(domain)
    return UserId(value)


def is_user_id(value: object) -> bool:
    """Whether a JSON value is a user ID, historical ones included."""
    try:
        return isinstance(value, str) and bool(parse_user_id(value))
    except Malformed:
        return False


def parse_new_localpart(value: str) -> str:
    """Check the localpart of a user about to be made here: the strict grammar.

    Spec: appendices#user-identifiers
    """
    if not _STRICT_LOCALPART.fullmatch(value):
        raise Malformed("a user name may hold only a-z, 0-9 and the marks . _ = - / +")
    return value


def parse_room_id(value: str) -> RoomId:
    """Check a room ID: `!opaque:domain`, or `!` and a hash from version 12.

    Spec: appendices#room-ids
    """
    if _HASH_ROOM_ID.fullmatch(value):
        return RoomId(value)
    opaque, domain = _split(value, "!", "room ID")
    _check_text(opaque, "room ID")
    parse_server_name(domain)
    return RoomId(value)


def parse_room_alias(value: str) -> RoomAlias:
    """Check a room alias: `#localpart:domain`, without NUL.

    Spec: appendices#room-aliases
    """
    localpart, domain = _split(value, "#", "room alias")
    _check_text(localpart, "room alias")
    parse_server_name(domain)
    return RoomAlias(value)


def parse_event_id(value: str) -> EventId:
    """Check an event ID of any room version.

    Spec: appendices#event-ids
    """
    if _HASH_EVENT_ID.fullmatch(value):
        return EventId(value)
    opaque, domain = _split(value, "$", "event ID")
    _check_text(opaque, "event ID")
    parse_server_name(domain)
    return EventId(value)


def parse_opaque(value: str, what: str) -> str:
    """Check an opaque identifier such as a device ID or a session ID.

    Spec: appendices#opaque-identifiers
    """
    if not _OPAQUE.fullmatch(value):
        raise Malformed(f"{what} must be 1 to 255 of the characters A-Za-z0-9._~-")
    return value


def server_of(value: UserId | RoomAlias) -> ServerName:
    """The server name in a user ID or room alias that has been parsed."""
    return ServerName(value.partition(":")[2])


def localpart_of(value: UserId | RoomAlias) -> str:
    """What stands between the sigil and the first colon."""
    return value[1:].partition(":")[0]
