"""Invites of our users to rooms of other servers.

We sign the invite. Where we are not in the room it is kept aside for the user; where we
are, it comes as every other event does.

Spec: server-server-api#inviting-to-a-room
"""

from typing import Final

import orjson
import structlog

from federation import bodies, room_versions, signatures
from federation.bodies import Invite
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import RoomId, UserId, parse_user_id, server_of
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import RoomVersion
from homeserver import errors
from homeserver.accounts.store import users
from homeserver.context import Context
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.rooms import acl
from homeserver.rooms.aside import set_membership
from homeserver.rooms.create import insert_room
from homeserver.rooms.invite_check import check_takes_invite
from homeserver.rooms.server_api.admission import member_event, with_valid_signature
from homeserver.rooms.stripped import MAX_EVENTS, read_stripped_events, strip_pdu

# An invite and some state events of up to 64 KiB each.
_MAX_BODY: Final = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


@route(
    "PUT",
    "/_matrix/federation/v2/invite/{roomId}/{eventId}",
    auth=by_server,
    limit=federation,
    max_body=_MAX_BODY,
)
async def send_invite_v2(ctx: Context, request: FederationRequest) -> Answer:
    """Sign an invite of one of our users.

    Raises: M_INVALID_PARAM, M_FORBIDDEN, M_INVITE_BLOCKED,
    M_INCOMPATIBLE_ROOM_VERSION.

    Spec: server-server-api#put_matrixfederationv2inviteroomideventid
    """
    try:
        invite = bodies.parse_invite(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    return {"event": await _sign(ctx, request, invite)}


@route(
    "PUT",
    "/_matrix/federation/v1/invite/{roomId}/{eventId}",
    auth=by_server,
    limit=federation,
    max_body=_MAX_BODY,
)
async def send_invite_v1(ctx: Context, request: FederationRequest) -> Answer:
    """The same for older servers, in rooms of version 1 and 2.

    Raises: M_INVALID_PARAM, M_FORBIDDEN.

    Spec: server-server-api#put_matrixfederationv1inviteroomideventid
    """
    try:
        invite = bodies.parse_v1_invite(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    signed = await _sign(ctx, request, invite)
    return Reply(200, orjson.dumps([200, {"event": signed}]))


async def _sign(ctx: Context, request: FederationRequest, invite: Invite) -> JsonObject:
    version = room_versions.find(invite.room_version)
    if version is None:
        raise errors.incompatible_room_version(invite.room_version)
    pdu = member_event(request, version, invite.event, "invite")
    user_id = await _invited(ctx, pdu)
    await check_takes_invite(ctx.live, pdu.sender, user_id)
    pdu = (await with_valid_signature(ctx, pdu)).pdu
    stripped = await _told(ctx, version, pdu, invite)
    signed = signatures.sign_event(pdu.json, version, ctx.server_name, ctx.key)
    async with ctx.turns.take(("join", pdu.room_id)):
        await _keep(
            ctx, request, version, user_id, parse_pdu(signed, version), stripped
        )
    return {**invite.event, "signatures": signed["signatures"]}


async def _invited(ctx: Context, pdu: Pdu) -> UserId:
    """The user of ours who is invited. Raises: M_INVALID_PARAM, M_NOT_FOUND."""
    try:
        user_id = parse_user_id(pdu.state_key or "")
    except Malformed:
        raise errors.invalid_param("state_key must be a user ID.") from None
    if server_of(user_id) != ctx.server_name:
        raise errors.invalid_param(f"{user_id} is not a user of this server.")
    async with ctx.db.read() as tx:
        account = await users.account(tx, user_id)
    if account is None or account.is_deactivated:
        raise errors.not_found(f"There is no user {user_id}.")
    return user_id


async def _told(
    ctx: Context, version: RoomVersion, pdu: Pdu, invite: Invite
) -> list[JsonObject]:
    """What the user may see of the room. Raises: M_INVALID_PARAM.

    The checks are those "which servers MAY apply to room versions 1 through 11 and
    SHOULD apply to all other room versions".
    """
    raws = invite.invite_room_state
    pdus, stripped = await read_stripped_events(ctx, pdu.room_id, version, raws)
    creates = [event for event in pdus if event.is_create]
    if version.room_id_is_create_hash:
        if not creates:
            raise errors.invalid_param("invite_room_state must hold m.room.create.")
        if len(pdus) < len(raws[:MAX_EVENTS]):
            raise errors.invalid_param(
                "invite_room_state must hold signed state events of the room."
            )
    elif len(pdus) < len(raws):
        log.debug("stripped state without signatures", event_id=pdu.event_id)
    for create in creates:
        if create.content.get("room_version", "1") != version.identifier:
            raise errors.invalid_param("The room has another version.")
    return [*stripped, strip_pdu(pdu)]


async def _keep(
    ctx: Context,
    request: FederationRequest,
    version: RoomVersion,
    user_id: UserId,
    signed: Pdu,
    stripped: list[JsonObject],
) -> None:
    room = await ctx.live.room(request.path(RoomId, "roomId"))
    if room is not None and not room.is_resident:
        await ctx.live.follower.pull()  # another process may just have joined
    if room is not None:
        await acl.check_allowed(ctx.live, room, (request.origin,))
        if room.is_joined(user_id):
            raise errors.forbidden(f"{user_id} is in the room already.")
        if room.is_resident:
            return  # the invite comes to us as part of the room
    room = await insert_room(ctx, signed.room_id, version)
    if room.version != version:
        raise errors.invalid_param("The room has another version.")
    await set_membership(ctx, room, signed, stripped)
