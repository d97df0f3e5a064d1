"""The endpoints by which users come into rooms and go."""

from collections.abc import Sequence
from typing import Any

import msgspec

from federation.bodies import (
    ThirdPartyInviteExchange,
    parse_third_party_invite_exchange,
)
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import (
    RoomAlias,
    RoomId,
    ServerName,
    UserId,
    parse_room_alias,
    parse_room_id,
    parse_server_name,
    parse_user_id,
    server_of,
)
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import invites, joins, writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.rooms import membership
from homeserver.rooms.aliases import MAX_SERVERS, resolve_alias
from homeserver.rooms.redact_on_ban import FLAG, UNSTABLE_FLAG
from homeserver.rooms.third_party import redeem

ROOM = "/_matrix/client/v3/rooms/{roomId}"


class Reason(msgspec.Struct):
    """The body of a leave or a knock."""

    reason: str | None = None


class Join(msgspec.Struct):
    """The body of a join."""

    reason: str | None = None
    third_party_signed: dict[str, Any] | None = None


class Target(msgspec.Struct):
    """The body of what is done to another user."""

    user_id: str
    reason: str | None = None


class Expulsion(Target):
    """The body of a kick or a ban. MSC4293."""

    redact_events: bool | None = msgspec.field(default=None, name=FLAG)
    unstable_redact_events: bool | None = msgspec.field(
        default=None, name=UNSTABLE_FLAG
    )

    def flags(self) -> JsonObject:
        """What goes into the event besides the reason."""
        given = {FLAG: self.redact_events, UNSTABLE_FLAG: self.unstable_redact_events}
        return {name: flag for name, flag in given.items() if flag is not None}


class Invite(msgspec.Struct):
    """The body of an invite, by user ID or by third-party identifier."""

    user_id: str | None = None
    reason: str | None = None
    medium: str | None = None
    address: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


def _user(value: str) -> UserId:
    try:
        return parse_user_id(value)
    except Malformed as error:
        raise errors.invalid_param(f"user_id: {error}.") from None


def via_of(request: ClientRequest) -> list[ServerName]:
    """The servers that the client names.

    COMPAT(clients of v1.11 and older): `server_name` is what `via` was called.
    """
    named = [*request.query_list("via"), *request.query_list("server_name")]
    servers = []
    for value in named[:MAX_SERVERS]:
        try:
            servers.append(parse_server_name(value))
        except Malformed as error:
            raise errors.invalid_param(f"via: {error}.") from None
    return servers


def room_id_or_alias(value: str) -> RoomId | RoomAlias:
    """Either identifier. Raises: Malformed."""
    return parse_room_alias(value) if value.startswith("#") else parse_room_id(value)


async def _room_and_servers(
    ctx: Context, request: ClientRequest
) -> tuple[RoomId, Sequence[ServerName]]:
    """The room that the path names by ID or alias, and servers to reach it through."""
    given = request.path(room_id_or_alias, "roomIdOrAlias")
    via = via_of(request)
    if not given.startswith("#"):
        return RoomId(given), via
    entry = await resolve_alias(ctx, RoomAlias(given))
    return entry.room_id, [*via, *entry.servers]


# ── Coming ───────────────────────────────────────────────────────────────────────────


@route("POST", f"{ROOM}/join", auth=by_access_token, limit=joins)
async def join_room_by_id(ctx: Context, request: ClientRequest) -> Answer:
    """Join a room by its ID. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#post_matrixclientv3roomsroomidjoin
    """
    return await _join(ctx, request, request.path(RoomId, "roomId"), via_of(request))


@route(
    "POST",
    "/_matrix/client/v3/join/{roomIdOrAlias}",
    auth=by_access_token,
    limit=joins,
)
async def join_room(ctx: Context, request: ClientRequest) -> Answer:
    """Join a room by its ID or alias. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#post_matrixclientv3joinroomidoralias
    """
    request.body(Join, empty_ok=True)
    room_id, servers = await _room_and_servers(ctx, request)
    return await _join(ctx, request, room_id, servers)


async def _join(
    ctx: Context,
    request: ClientRequest,
    room_id: RoomId,
    via: Sequence[ServerName],
) -> Answer:
    body = request.body(Join, empty_ok=True)
    if body.third_party_signed is not None:
        exchange = _exchange(request.user_id, room_id, body.third_party_signed)
        await redeem(ctx, exchange)
        via = [*via, server_of(exchange.sender)]
    if request.is_guest:
        await membership.check_guest_may_join(ctx, room_id)
    await membership.join(ctx, request.user_id, room_id, via=via, reason=body.reason)
    return {"room_id": room_id}


def _exchange(
    user_id: UserId, room_id: RoomId, signed: dict[str, Any]
) -> ThirdPartyInviteExchange:
    """What proves that the user's address was invited. Raises: M_BAD_JSON.

    Spec: client-server-api#post_matrixclientv3roomsroomidjoin
    """
    try:
        return parse_third_party_invite_exchange(
            {
                "type": "m.room.member",
                "room_id": room_id,
                "sender": signed.get("sender"),
                "state_key": user_id,
                "content": {
                    "membership": "invite",
                    "third_party_invite": {
                        # Their server takes the name from the invite in the room.
                        "display_name": user_id,
                        "signed": {k: v for k, v in signed.items() if k != "sender"},
                    },
                },
            }
        )
    except Malformed as error:
        raise errors.bad_json(f"third_party_signed: {error}.") from None


@route(
    "POST",
    "/_matrix/client/v3/knock/{roomIdOrAlias}",
    auth=by_access_token,
    limit=joins,
    since="1.1",
)
async def knock_room(ctx: Context, request: ClientRequest) -> Answer:
    """Ask to be let in. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#post_matrixclientv3knockroomidoralias
    """
    body = request.body(Reason, empty_ok=True)
    room_id, servers = await _room_and_servers(ctx, request)
    await membership.knock(
        ctx, request.user_id, room_id, via=servers, reason=body.reason
    )
    return {"room_id": room_id}


@route("POST", f"{ROOM}/invite", auth=by_access_token, limit=invites)
async def invite_user(ctx: Context, request: ClientRequest) -> Answer:
    """Invite a user. Raises: M_FORBIDDEN, M_INVITE_BLOCKED, M_UNSUPPORTED_ROOM_VERSION.

    The same path with a third-party identifier instead of a user ID is the operation
    `inviteBy3PID`, which this server does not allow: it trusts no identity server.

    Spec: client-server-api#post_matrixclientv3roomsroomidinvite
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(Invite)
    if body.user_id is None:
        if body.medium is None and body.address is None and body.id_server is None:
            raise errors.bad_json("user_id: a user ID is needed.")
        await ctx.live.require_joined(room_id, request.user_id)
        raise errors.server_not_trusted(
            "This server asks no identity servers. Invite by user ID instead."
        )
    extra = membership.with_reason({}, body.reason)
    await membership.invite(ctx, request.user_id, room_id, _user(body.user_id), extra)
    return {}


# ── Going ────────────────────────────────────────────────────────────────────────────


@route("POST", f"{ROOM}/leave", auth=by_access_token, limit=writes)
async def leave_room(ctx: Context, request: ClientRequest) -> Answer:
    """Leave a room, reject an invite, or take back a knock. Raises: M_FORBIDDEN.

    Spec: client-server-api#post_matrixclientv3roomsroomidleave
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(Reason, empty_ok=True)
    await membership.leave(ctx, request.user_id, room_id, reason=body.reason)
    return {}


@route("POST", f"{ROOM}/forget", auth=by_access_token, limit=writes)
async def forget_room(ctx: Context, request: ClientRequest) -> Answer:
    """Remember the room no longer. Raises: M_UNKNOWN when the user is still in it.

    Spec: client-server-api#post_matrixclientv3roomsroomidforget
    """
    room_id = request.path(RoomId, "roomId")
    await membership.forget(ctx, request.user_id, room_id)
    return {}


@route("POST", f"{ROOM}/kick", auth=by_access_token, limit=writes)
async def kick(ctx: Context, request: ClientRequest) -> Answer:
    """Make somebody leave. Raises: M_FORBIDDEN.

    Spec: client-server-api#post_matrixclientv3roomsroomidkick
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(Expulsion)
    target = _user(body.user_id)
    extra = membership.with_reason(body.flags(), body.reason)
    await membership.kick(ctx, request.user_id, room_id, target, extra)
    return {}


@route("POST", f"{ROOM}/ban", auth=by_access_token, limit=writes)
async def ban(ctx: Context, request: ClientRequest) -> Answer:
    """Keep somebody out. Raises: M_FORBIDDEN.

    Spec: client-server-api#post_matrixclientv3roomsroomidban
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(Expulsion)
    target = _user(body.user_id)
    extra = membership.with_reason(body.flags(), body.reason)
    await membership.ban(ctx, request.user_id, room_id, target, extra)
    return {}


@route("POST", f"{ROOM}/unban", auth=by_access_token, limit=writes)
async def unban(ctx: Context, request: ClientRequest) -> Answer:
    """Let somebody come again. Raises: M_FORBIDDEN, M_BAD_STATE.

    Spec: client-server-api#post_matrixclientv3roomsroomidunban
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(Target)
    target = _user(body.user_id)
    await membership.unban(ctx, request.user_id, room_id, target, reason=body.reason)
    return {}
