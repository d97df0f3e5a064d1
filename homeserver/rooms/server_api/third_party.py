"""Invites of e-mail addresses, for other servers and for identity servers.

Spec: server-server-api#third-party-invites
"""

import asyncio
from typing import Any, Final

import msgspec
import structlog

from federation.bodies import (
    ThirdPartyInviteExchange,
    parse_third_party_invite_exchange,
)
from federation.errors import Malformed, ProtocolError
from federation.ids import RoomId, UserId, parse_user_id, server_of
from homeserver import errors
from homeserver.accounts.store import users
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import by_server, nobody
from homeserver.http.limits import Limit, federation
from homeserver.http.replies import Answer
from homeserver.http.requests import FederationRequest, Request
from homeserver.http.routes import route
from homeserver.rooms import acl
from homeserver.rooms.third_party import exchange_here, redeem

_V1: Final = "/_matrix/federation/v1"
MAX_INVITES: Final = 50  # for one address
_AT_ONCE: Final = 5
# By address: nobody signs these.
bindings: Final = Limit("bindings", per_second=0.5, burst=20)

log = structlog.get_logger(__name__)


@route(
    "PUT",
    f"{_V1}/exchange_third_party_invite/{{roomId}}",
    auth=by_server,
    limit=federation,
)
async def exchange_third_party_invite(
    ctx: Context, request: FederationRequest
) -> Answer:
    """Invite a user whose address one of ours has invited.

    Raises: M_BAD_JSON, M_INVALID_PARAM, M_FORBIDDEN, M_NOT_FOUND.

    Spec: server-server-api#put_matrixfederationv1exchange_third_party_inviteroomid
    """
    try:
        exchange = parse_third_party_invite_exchange(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    if exchange.room_id != request.path(RoomId, "roomId"):
        raise errors.invalid_param("room_id: another room than the path says.")
    room = await ctx.live.room(exchange.room_id)
    if room is not None:
        await acl.check_allowed(ctx.live, room, (request.origin,))
    await exchange_here(ctx, exchange)
    return {}


class _Bound(msgspec.Struct):
    medium: str
    address: str
    mxid: str
    invites: list[dict[str, Any]]


@route("PUT", f"{_V1}/3pid/onbind", auth=nobody, limit=bindings)
async def on_bind_third_party_identifier(ctx: Context, request: Request) -> Answer:
    """Learn from an identity server that an address belongs to a user of ours.

    Nothing is believed: each invite holds a signature that the room's servers check.

    Spec: server-server-api#put_matrixfederationv13pidonbind

    Raises: M_BAD_JSON, M_INVALID_PARAM, M_NOT_FOUND.
    """
    body = request.body(_Bound)
    if len(body.invites) > MAX_INVITES:
        raise errors.too_large(f"At most {MAX_INVITES} invites are taken at once.")
    user_id = await _user(ctx, body.mxid)
    exchanges = [_exchange(user_id, invite) for invite in body.invites]
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def take(exchange: ThirdPartyInviteExchange) -> None:
        async with at_once:
            try:
                await redeem(ctx, exchange)
            except (MatrixError, ProtocolError) as error:
                log.info(
                    "third-party invite not redeemed",
                    room_id=exchange.room_id,
                    reason=str(error),
                )

    await asyncio.gather(*map(take, exchanges))
    return {}


async def _user(ctx: Context, mxid: str) -> UserId:
    try:
        user_id = parse_user_id(mxid)
    except Malformed as error:
        raise errors.invalid_param(f"mxid: {error}.") from None
    account = None
    if server_of(user_id) == ctx.server_name:
        async with ctx.db.read() as tx:
            account = await users.account(tx, user_id)
    if account is None or account.is_deactivated:
        raise errors.not_found(f"There is no user {user_id} here.")
    return user_id


def _exchange(user_id: UserId, invite: dict[str, Any]) -> ThirdPartyInviteExchange:
    """What is asked of the server of who invited. Raises: M_BAD_JSON."""
    try:
        return parse_third_party_invite_exchange(
            {
                "type": "m.room.member",
                "room_id": invite.get("room_id"),
                "sender": invite.get("sender"),
                "state_key": user_id,
                "content": {
                    "membership": "invite",
                    "third_party_invite": {
                        # Their server takes the name from the invite in the room.
                        "display_name": user_id,
                        "signed": invite.get("signed"),
                    },
                },
            }
        )
    except Malformed as error:
        raise errors.bad_json(f"invites: {error}.") from None
