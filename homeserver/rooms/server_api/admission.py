"""Whether a server may ask about a room, or hand an event in."""

from federation.canonical_json import JsonObject
from federation.errors import BadSignature, ProtocolError
from federation.ids import EventId, RoomId, server_of
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import RoomVersion
from homeserver import errors
from homeserver.context import Context
from homeserver.http.requests import FederationRequest
from homeserver.live.room import Room
from homeserver.rooms import acl
from homeserver.server_keys.verify import Verified, verify


async def admitted_room(ctx: Context, request: FederationRequest) -> Room:
    """The room of the path, which we are in and whose ACL admits the asking server.

    Raises: M_NOT_FOUND, M_FORBIDDEN.
    """
    room = await _room(ctx, request)
    if not room.is_resident:
        raise errors.not_found("This server is not in such a room.")
    return room


async def room_of_member(ctx: Context, request: FederationRequest) -> Room:
    """A room that the asking server is in, and that we are in or have been in.

    Who has left still has to answer for what it said before.

    Raises: M_NOT_FOUND, M_FORBIDDEN.
    """
    room = await _room(ctx, request)
    if request.origin not in room.servers:
        await ctx.live.follower.pull()
    if request.origin not in room.servers:
        raise errors.forbidden("Your server is not in this room.")
    return room


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
    return room


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
