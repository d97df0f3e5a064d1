"""Whether a server may ask about a room, or hand an event in."""

from dataclasses import dataclass

from federation.canonical_json import JsonObject
from federation.errors import BadSignature, ProtocolError
from federation.ids import EventId, RoomId, ServerName, server_of
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import RoomVersion
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.stored import StoredEvent
from homeserver.http.requests import FederationRequest
from homeserver.live.room import Room
from homeserver.rooms import acl
from homeserver.rooms.partial import SERVER_SECONDS, until_whole
from homeserver.server_keys.verify import Verified, verify


async def admitted_room(ctx: Context, request: FederationRequest) -> Room:
    """The room of the path, which we are in and whose ACL admits the asking server.

    Raises: M_NOT_FOUND, M_FORBIDDEN.
    """
    room = await _room(ctx, request)
    if not room.is_resident:
        raise errors.not_found("This server is not in such a room.")
    return room


@dataclass(frozen=True, slots=True)
class Asker:
    """A server that may ask about a room, and how far.

    `upto` is None for a server that is in the room. One that has left may ask about
    what there was until then, or it could not even check the event that sent it away.
    """

    room: Room
    server: ServerName
    upto: int | None = None

    def may_ask_about(self, event: StoredEvent) -> bool:
        """Whether the event was there while the server was."""
        if event.room_nid != self.room.nid:
            return False
        return self.upto is None or event.pdu.depth <= self.upto


async def admitted_asker(ctx: Context, request: FederationRequest) -> Asker:
    """Who asks about a room of ours, present or past.

    Who has left a room still has to answer for what it said there.

    Raises: M_NOT_FOUND, M_FORBIDDEN.
    """
    room = await _room(ctx, request)
    asker = await find_asker(ctx, room, request.origin)
    if asker is None:
        raise errors.forbidden("Your server is not in this room.")
    return asker


async def find_asker(ctx: Context, room: Room, server: ServerName) -> Asker | None:
    """What a server may ask about the room; None: it never was there."""
    if server not in room.servers:
        await ctx.live.follower.pull()  # another process may be a moment ahead
    if server in room.servers:
        return Asker(room, server)
    async with ctx.db.read() as tx:
        upto = await _departure(tx, room.nid, server)
    return None if upto is None else Asker(room, server, upto)


async def _departure(tx: Tx, room_nid: int, server: ServerName) -> int | None:
    """The depth at which the last user of a server left the room, if any was in it."""
    depth: int | None = await tx.fetchval(
        """
        SELECT max(e.depth)
          FROM room_servers s
          JOIN memberships m ON m.room_nid = s.room_nid
           AND substr(m.user_id, strpos(m.user_id, ':') + 1) = s.server_name
          JOIN events e ON e.event_nid = m.event_nid
         WHERE s.room_nid = $1 AND s.server_name = $2
           AND m.membership IN ('leave', 'ban')
        """,
        room_nid,
        server,
    )
    return depth


async def _room(ctx: Context, request: FederationRequest) -> Room:
    """The room of the path, whose state we know and whose ACL admits the server.

    Spec: server-server-api#server-access-control-lists-acls
    """
    room_id = request.path(RoomId, "roomId")
    room = await ctx.live.room(room_id)
    if room is None or not room.is_resident:
        await ctx.live.follower.pull()  # another process may be a moment ahead
        room = await ctx.live.room(room_id)
    if room is None or not room.head.extremities:
        raise errors.not_found("This server is not in such a room.")
    await acl.check_allowed(ctx.live, room, (request.origin,))
    # Without the members there is no telling what the server may know.
    return await until_whole(ctx.live, room, SERVER_SECONDS)


def member_event(
    request: FederationRequest,
    version: RoomVersion,
    raw: JsonObject,
    membership: str,
) -> Pdu:
    """The member event that a server hands in for one of its users.

    Raises: M_INVALID_PARAM when it is not the event that the path names, or another
    server's, or of another kind.
    """
    try:
        pdu = parse_pdu(raw, version)
    except ProtocolError as error:
        raise errors.invalid_param(
            f"This is no event of room version {version}: {_text_of(error)}."
        ) from None
    if pdu.event_id != request.path(EventId, "eventId"):
        raise errors.invalid_param("The event has another ID than the path says.")
    if pdu.room_id != request.path(RoomId, "roomId"):
        raise errors.invalid_param("The event is of another room than the path says.")
    if pdu.type != "m.room.member" or pdu.membership != membership:
        raise errors.invalid_param(
            f"An m.room.member event with membership {membership!r} is needed."
        )
    if server_of(pdu.sender) != request.origin:
        raise errors.invalid_param(f"The sender is not a user of {request.origin}.")
    return pdu


async def with_valid_signature(ctx: Context, pdu: Pdu) -> Verified:
    """The event, once its signatures are checked. Raises: M_INVALID_PARAM."""
    try:
        return await verify(ctx, pdu)
    except BadSignature as error:
        raise errors.invalid_param(
            f"The signature does not hold: {_text_of(error)}."
        ) from None


def _text_of(error: ProtocolError) -> str:
    # Lone surrogates in a quoted value cannot be sent.
    return str(error).encode("utf-8", "backslashreplace").decode()[:300]
