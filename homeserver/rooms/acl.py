"""Server ACLs: which servers a room lets take part.

Spec: server-server-api#server-access-control-lists-acls
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import ServerName
from homeserver import errors
from homeserver.bounded import MIB, LruCache
from homeserver.live.live import Live
from homeserver.live.room import Room

SERVER_ACL: Final = ("m.room.server_acl", "")
# Each fits into one event, so a list is never long enough to hurt.
_BYTES: Final = 16 * MIB
_EACH: Final = 800  # bytes, roughly; a compiled pattern takes many times its text
_PER_CHARACTER: Final = 20
# By event ID. An event does not change, so what it says may be kept.
_compiled: Final[LruCache[str, "Acl"]] = LruCache(
    "server ACLs",
    _BYTES,
    lambda a: _EACH + _PER_CHARACTER * (len(a.allow.pattern) + len(a.deny.pattern)),
)


@dataclass(frozen=True, slots=True)
class Acl:
    """What one ACL event says."""

    allow: re.Pattern[str]
    deny: re.Pattern[str]
    allow_ip_literals: bool

    def allows(self, server: ServerName) -> bool:
        """Whether the server may take part. Spec: client-server-api#mroomserver_acl."""
        host = _host_of(server)
        if not self.allow_ip_literals and _is_ip_literal(host):
            return False
        if self.deny.fullmatch(host):
            return False
        return self.allow.fullmatch(host) is not None


def read_acl(content: JsonObject) -> Acl:
    """The ACL that the content of an event says."""
    ip_literals = content.get("allow_ip_literals")
    return Acl(
        allow=_any_of(content.get("allow")),
        deny=_any_of(content.get("deny")),
        allow_ip_literals=ip_literals if isinstance(ip_literals, bool) else True,
    )


def _any_of(globs: JsonValue) -> re.Pattern[str]:
    """A pattern that matches what any of the globs does, whatever the case."""
    listed = globs if isinstance(globs, list) else []
    parts = dict.fromkeys(_regex(glob) for glob in listed if isinstance(glob, str))
    # Without any, a pattern that nothing matches.
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def _regex(glob: str) -> str:
    # Runs of stars are one: each further one would cost a factor in the worst case.
    pieces = re.split(r"(\*+|\?)", glob)
    return "".join(
        ".*" if piece.startswith("*") else "." if piece == "?" else re.escape(piece)
        for piece in pieces
    )


def _host_of(server: ServerName) -> str:
    """The server name without its port."""
    if server.startswith("["):
        return server[: server.index("]") + 1]
    return server.partition(":")[0]


def _is_ip_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


async def is_allowed(live: Live, room: Room, server: ServerName) -> bool:
    """Whether the room's current ACL, if any, lets the server take part."""
    nid = room.state.get(SERVER_ACL)
    if nid is None:
        return True
    event = await live.events.by_nid(nid)
    if event is None:
        return True
    key = event.event_id if event.redaction is None else f"{event.event_id} redacted"
    acl = _compiled.get(key)
    if acl is None:
        acl = read_acl(event.shown.content)
        _compiled.put(key, acl)
    return acl.allows(server)


async def check_allowed(live: Live, room: Room, servers: Sequence[ServerName]) -> None:
    """Raise M_FORBIDDEN unless the room's ACL lets all those servers take part."""
    for server in servers:
        if not await is_allowed(live, room, server):
            raise errors.forbidden(f"This room does not admit {server}.")
