"""The member events of a room, now or as they were at a token."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from federation.errors import Malformed
from federation.pdu import StateKey
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.client_format import Sight
from homeserver.live.live import Live
from homeserver.rooms.access import Access
from homeserver.rooms.partial import until_whole
from homeserver.rooms.timeline import Point, parse_point, state_roots_at
from homeserver.rooms.viewing import state_sights

_BATCH: Final = 250  # looked at in one go


@dataclass(frozen=True, slots=True)
class Members:
    """Which memberships are wanted: those that are the one, or are not the other."""

    membership: str | None
    not_membership: str | None

    def keeps(self, membership: str | None) -> bool:
        """Whether such a member is wanted."""
        if self.membership is None and self.not_membership is None:
            return True
        is_one = self.membership is not None and membership == self.membership
        is_not = self.not_membership is not None and membership != self.not_membership
        return is_one or is_not


async def members_at(
    ctx: Context, may: Access, token: str | None
) -> Mapping[StateKey, int]:
    """The member events that the reader may see, at a token when there is one.

    Raises: M_INVALID_PARAM for a token that is none.
    """
    if token is None:
        state: Mapping[StateKey, int] = await may.state(ctx.live)
    else:
        try:
            point = parse_point(token)
        except Malformed as error:
            raise errors.invalid_param(f"at: {error}.") from None
        await until_whole(ctx.live, may.room)
        async with ctx.db.read() as tx:
            root = await _root_at(tx, may, point)
        state = await ctx.live.states.items(root)
    return {key: nid for key, nid in state.items() if key[0] == "m.room.member"}


async def _root_at(tx: Tx, may: Access, point: Point) -> int:
    """The state right after the event that the point stands behind; 0 before all."""
    nid, upto = may.room.nid, may.upto
    if point.at is not None and (upto is None or point.at <= upto):
        root: int | None = await tx.fetchval(
            "SELECT state_after FROM events WHERE room_nid = $1 AND position = $2",
            nid,
            point.at,
        )
        if root is not None:
            return root
    position = point.position if upto is None else min(point.position, upto)
    return (await state_roots_at(tx, (nid,), position)).get(nid, 0)


async def read_members(
    live: Live, state: Mapping[StateKey, int], wanted: Members
) -> list[Sight]:
    """The member events with a membership that is wanted."""
    nids = list(state.values())
    kept: list[Sight] = []
    for start in range(0, len(nids), _BATCH):
        sights = await state_sights(live, nids[start : start + _BATCH])
        kept += (s for s in sights if wanted.keeps(s.event.pdu.membership))
        await asyncio.sleep(0)  # others have their turn, also when all was at hand
    return kept
