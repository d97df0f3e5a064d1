"""Room aliases: those of this server, and the rooms behind those of others.

Also which rooms are published. Both are what rooms are made and found with; the
endpoints about them are in `directory`.

Spec: client-server-api#room-aliases
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import (
    RoomAlias,
    RoomId,
    ServerName,
    UserId,
    parse_room_alias,
    server_of,
)
from federation.query_bodies import DirectoryEntry
from federation.wire import calls_queries
from federation.wire.errors import RemoteError, WireError
from homeserver import errors
from homeserver.appservices.queries import has_alias
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as
from homeserver.errors import MatrixError
from homeserver.live.room import Room

MAX_SERVERS: Final = 50  # that are told to be in a room
_MAX_NEW_ALIASES: Final = 50  # in one canonical alias event
_LOOKUPS_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True)
class Alias:
    """A name of this server for a room, and who gave it."""

    alias: RoomAlias
    room_id: RoomId
    creator: UserId


# ── The tables room_aliases and published_rooms ──────────────────────────────────────


async def find_alias(tx: Tx, alias: RoomAlias) -> Alias | None:
    """The alias, when this server has it."""
    return await fetch_one_as(
        tx,
        Alias,
        "SELECT alias, room_id, creator FROM room_aliases WHERE alias = $1",
        alias,
    )


async def insert_alias(tx: Tx, alias: Alias) -> bool:
    """Give a room a name; False when the name is taken."""
    inserted = await tx.fetchval(
        """
        INSERT INTO room_aliases (alias, room_id, creator) VALUES ($1, $2, $3)
        ON CONFLICT (alias) DO NOTHING RETURNING true
        """,
        alias.alias,
        alias.room_id,
        alias.creator,
    )
    return inserted is not None


async def delete_alias(tx: Tx, alias: RoomAlias, room_id: RoomId) -> bool:
    """Take the name from that room; False when the room does not have it."""
    deleted = await tx.fetchval(
        "DELETE FROM room_aliases WHERE alias = $1 AND room_id = $2 RETURNING true",
        alias,
        room_id,
    )
    return deleted is not None


async def aliases_of(tx: Tx, room_id: RoomId) -> list[RoomAlias]:
    """The names that this server has for the room."""
    rows = await tx.fetch(
        "SELECT alias FROM room_aliases WHERE room_id = $1 ORDER BY alias", room_id
    )
    return [RoomAlias(row["alias"]) for row in rows]


async def move_aliases(tx: Tx, old: RoomId, new: RoomId) -> None:
    """Have all the names of a room name another one instead."""
    await tx.execute(
        "UPDATE room_aliases SET room_id = $2 WHERE room_id = $1", old, new
    )


async def publish(tx: Tx, room_nid: int) -> None:
    """List the room in this server's directory."""
    await tx.execute(
        "INSERT INTO published_rooms (room_nid) VALUES ($1) ON CONFLICT DO NOTHING",
        room_nid,
    )


async def unpublish(tx: Tx, room_nid: int) -> None:
    """Take the room out of this server's directory."""
    await tx.execute("DELETE FROM published_rooms WHERE room_nid = $1", room_nid)


async def is_published(tx: Tx, room_nid: int) -> bool:
    """Whether this server's directory lists the room."""
    found: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM published_rooms WHERE room_nid = $1)", room_nid
    )
    return found


# ── From an alias to a room ──────────────────────────────────────────────────────────


def no_such_alias(alias: RoomAlias) -> MatrixError:
    """Nobody knows the alias."""
    return errors.not_found(f"There is no room with the alias {alias}.")


async def resolve_alias(ctx: Context, alias: RoomAlias) -> DirectoryEntry:
    """The room behind an alias, and servers to join it through.

    Raises: M_NOT_FOUND; M_UNKNOWN with 502 when the alias's server does not answer.
    """
    server = server_of(alias)
    if server == ctx.server_name:
        return await resolve_local_alias(ctx, alias)
    try:
        return await calls_queries.query_room_directory(ctx.wire, server, alias)
    except RemoteError as error:
        if error.status in (400, 403, 404):
            raise no_such_alias(alias) from None
        raise _cannot_ask(server) from error
    except WireError as error:
        raise _cannot_ask(server) from error


def _cannot_ask(server: ServerName) -> MatrixError:
    return errors.bad_gateway(f"{server} does not answer. Try again later.")


async def resolve_local_alias(ctx: Context, alias: RoomAlias) -> DirectoryEntry:
    """The room behind an alias of this server. Raises: M_NOT_FOUND."""
    async with ctx.db.read() as tx:
        found = await find_alias(tx, alias)
    if found is None and await has_alias(ctx, alias):
        async with ctx.db.read() as tx:
            found = await find_alias(tx, alias)
    if found is None:
        raise no_such_alias(alias)
    room = await ctx.live.room(found.room_id)
    return DirectoryEntry(found.room_id, tuple(servers_in(room, ctx.server_name)))


def servers_in(room: Room | None, our_name: ServerName) -> list[ServerName]:
    """Servers that are in the room: ours first, then those with most members."""
    if room is None or not room.is_resident:
        return [our_name]
    others = [(name, count) for name, count in room.servers.items() if name != our_name]
    others.sort(key=lambda entry: (-entry[1], entry[0]))
    return [our_name, *(name for name, _ in others[: MAX_SERVERS - 1])]


# ── Aliases in events ────────────────────────────────────────────────────────────────


def aliases_in(content: JsonObject) -> list[str]:
    """The aliases that a canonical alias event lists.

    Raises: M_INVALID_PARAM when they are not strings.
    """
    alias, others = content.get("alias"), content.get("alt_aliases")
    listed: list[JsonValue] = [] if alias is None or alias == "" else [alias]
    if others is not None:
        if not isinstance(others, list):
            raise errors.invalid_param("alt_aliases: a list of aliases is needed.")
        listed += others
    for value in listed:
        if not isinstance(value, str):
            raise errors.invalid_param("An alias must be a string.")
    return [value for value in listed if isinstance(value, str)]


async def check_canonical_alias(
    ctx: Context, room_id: RoomId, content: JsonObject, before: JsonObject
) -> None:
    """Check that the aliases new in the event are valid and name this room.

    Spec: client-server-api#put_matrixclientv3roomsroomidstateeventtypestatekey

    Raises: M_INVALID_PARAM, M_BAD_ALIAS.
    """
    known = _strings_in(before)
    new: list[RoomAlias] = []
    for value in dict.fromkeys(aliases_in(content)):
        if value not in known:
            try:
                new.append(parse_room_alias(value))
            except Malformed as error:
                raise errors.invalid_param(f"{error}.") from None
    if len(new) > _MAX_NEW_ALIASES:
        raise errors.invalid_param(
            f"At most {_MAX_NEW_ALIASES} aliases can be added at once."
        )
    at_once = asyncio.Semaphore(_LOOKUPS_AT_ONCE)

    async def check(alias: RoomAlias) -> None:
        async with at_once:
            if not await _names_room(ctx, alias, room_id):
                raise errors.bad_alias(f"The alias {alias} does not name this room.")

    await asyncio.gather(*map(check, new))


def _strings_in(content: JsonObject) -> set[str]:
    others = content.get("alt_aliases")
    values = [content.get("alias"), *(others if isinstance(others, list) else ())]
    return {value for value in values if isinstance(value, str)}


async def _names_room(ctx: Context, alias: RoomAlias, room_id: RoomId) -> bool:
    try:
        return (await resolve_alias(ctx, alias)).room_id == room_id
    except MatrixError:
        return False


def is_alias_of(value: JsonValue, server_name: ServerName) -> bool:
    """Whether the value is an alias of that server."""
    return isinstance(value, str) and value.endswith(f":{server_name}")


def without_alias(content: JsonObject, alias: RoomAlias) -> JsonObject | None:
    """A canonical alias event's content without that alias; None: it is not listed."""
    if alias not in _strings_in(content):
        return None
    kept = dict(content)
    if kept.get("alias") == alias:
        del kept["alias"]
    others = kept.get("alt_aliases")
    if isinstance(others, list):
        kept["alt_aliases"] = [other for other in others if other != alias]
    return kept


def unique_servers(
    servers: Iterable[ServerName], without: ServerName
) -> Sequence[ServerName]:
    """The servers, each once, in order, at most MAX_SERVERS; not `without`."""
    unique = dict.fromkeys(server for server in servers if server != without)
    return list(unique)[:MAX_SERVERS]
