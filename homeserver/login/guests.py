"""Guests: how they come, and how rooms that do not want them any more are left.

Spec: client-server-api#guest-access
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from federation.errors import Rejected
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import tokens
from homeserver.accounts.store import tokens as tokens_store
from homeserver.accounts.store import users
from homeserver.chores import Chores
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.errors import MatrixError
from homeserver.live.changes import Change, Kind, Positioned
from homeserver.live.room import Room, RoomDelta
from homeserver.login.register import new_user_id
from homeserver.rooms import membership
from homeserver.rooms.restricted import state_pdus

ACCESS: Final = ("m.room.guest_access", "")
_TRIES: Final = 5

log = structlog.get_logger(__name__)


async def make_guest(ctx: Context) -> UserId:
    """Make an account for a guest. Raises: M_FORBIDDEN when there are to be none."""
    if not ctx.config.registration.guests:
        raise errors.forbidden("This server has no guest accounts.")
    for _ in range(_TRIES):
        user_id = new_user_id(None, ctx.server_name)
        async with ctx.db.transaction() as tx:
            if await users.create_user(tx, user_id, None, is_guest=True):
                return user_id
    raise errors.user_in_use()


async def guest_of(ctx: Context, access_token: str, username: str | None) -> UserId:
    """The guest who wants to stay, known by their access token.

    Raises: M_FORBIDDEN; M_INVALID_USERNAME when another name is wanted.
    """
    found = None
    if tokens.is_well_formed(access_token):
        async with ctx.db.read() as tx:
            found = await tokens_store.known_token(tx, tokens.hash_of(access_token))
    if found is None or not found.is_guest or found.is_deactivated:
        raise errors.forbidden("The guest's access token is not known.")
    if username is None or new_user_id(username, ctx.server_name) != found.user_id:
        raise errors.invalid_username("A guest who stays keeps their user name.")
    return found.user_id


async def note_end(ctx: Context, user_id: UserId) -> None:
    """Tell all processes that the user is a guest no longer."""
    await ctx.live.commit(_nothing, user_id, Change(Kind.TOKENS, user_id=user_id))


async def _nothing(_tx: Tx, _batch: Sequence[Positioned[UserId]]) -> None:
    """What is to be written is written: only the change counts."""


# ── Rooms that close ─────────────────────────────────────────────────────────────────


class GuestWatch:
    """Has guests leave rooms that do not admit them any more.

    "the server MUST set those users' `m.room.member` state to `leave`"
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._chores: Chores[int] = Chores("guests", self._clear, self._sweep)

    async def __aenter__(self) -> Self:
        self._ctx.live.on_events(self._on_events)
        await self._chores.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._chores.__aexit__(kind, error, trace)

    def _on_events(self, delta: RoomDelta, room: Room | None) -> None:
        has_ours = room is None or bool(room.joined_local)
        if has_ours and (delta.is_partial or ACCESS in delta.state):
            self._chores.add(delta.room_nid)

    async def _sweep(self) -> None:
        async with self._ctx.db.read() as tx:
            rows = await tx.fetch(
                """
                SELECT DISTINCT m.room_nid
                  FROM users u JOIN memberships m USING (user_id)
                 WHERE u.guest AND m.local AND m.membership = 'join'
                """
            )
        for row in rows:
            self._chores.add(row["room_nid"])

    async def _clear(self, room_nid: int) -> None:
        room = await self._ctx.live.view.room(room_nid)
        if room is None or await admits_guests(self._ctx, room):
            return
        async with self._ctx.db.read() as tx:
            guests = await users.guests_among(tx, list(room.joined_local))
        for user_id in guests:
            try:
                await membership.leave(self._ctx, user_id, room.room_id)
            except (MatrixError, Rejected) as error:
                log.info("guest stays", room_id=room.room_id, reason=str(error))


async def admits_guests(ctx: Context, room: Room) -> bool:
    """Whether guests may be in the room."""
    pdu = (await state_pdus(ctx.live, room, ACCESS)).get(ACCESS)
    return pdu is not None and pdu.content.get("guest_access") == "can_join"
