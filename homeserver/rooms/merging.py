"""Merging the forward extremities of rooms in which nobody of ours speaks.

Each event of ours merges what it cites. Where nobody says anything the branches pile
up: every event that comes in is then resolved over all of them, and what is said next
can cite but 20. So a dummy event, which clients never see, is sent by a user of ours
who may: in rooms that had too many a minute ago and have too many still.

More than ten are too many: one event then still merges all there are, with as many
again that arrive meanwhile.

Spec: server-server-api#pdus
"""

import secrets
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import Counter

from federation.auth_rules import PowerLevels
from federation.errors import ProtocolError
from federation.ids import UserId
from homeserver.context import Context
from homeserver.db import leases
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Tx
from homeserver.errors import MatrixError
from homeserver.live.committer import Overloaded
from homeserver.live.room import Room, RoomDelta
from homeserver.live.steps import Conflict
from homeserver.rooms.build import CREATE, NewEvent
from homeserver.rooms.judging import state_pdus_of
from homeserver.rooms.send import send_event
from homeserver.rooms.visibility import DUMMY_EVENT

EVERY_S: Final = 60.0
ENOUGH: Final = 10
_LEASE: Final = "merge-extremities"
_LEASE_SECONDS: Final = 2 * EVERY_S
_LOOK_EVERY: Final = 60  # rounds between looks at all rooms in the database
_ROOMS_AT_ONCE: Final = 200
_MOST_NOTED: Final = 10_000
_EVENTS_AT_ONCE: Final = 10  # in one room and one round: 190 branches
_SENDERS_TRIED: Final = 5
_POWER: Final = ("m.room.power_levels", "")

log = structlog.get_logger(__name__)
merged = Counter(
    "hearth_dummy_events", "Events sent to merge the branches of a silent room"
)


class Merger:
    """One process's part: knows which rooms have many extremities, and merges them."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        self._noted: set[int] = set()
        self._due: set[int] = set()  # noted a round ago already
        self._round = 0
        ctx.live.on_events(self._on_events)

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        if len(delta.head.extremities) <= ENOUGH:
            self._noted.discard(delta.room_nid)
            self._due.discard(delta.room_nid)
        elif len(self._noted) < _MOST_NOTED:
            self._noted.add(delta.room_nid)

    async def run(self) -> None:
        """One round."""
        async with self._ctx.db.transaction() as tx:
            is_ours = await leases.claim(tx, _LEASE, self._me, _LEASE_SECONDS)
            if is_ours and self._round % _LOOK_EVERY == 0:
                self._noted.update(await read_branched(tx, _ROOMS_AT_ONCE))
        self._round += 1
        due = sorted(self._due)[:_ROOMS_AT_ONCE] if is_ours else []
        for room_nid in due:
            await self._merge(room_nid)
        self._noted.difference_update(due)
        self._due = set(self._noted)

    async def _merge(self, room_nid: int) -> None:
        room = await self._ctx.live.view.room(room_nid)
        if room is None:
            return
        try:
            await merge(self._ctx, room)
        except (Conflict, Overloaded, MatrixError, DatabaseError) as error:
            log.info("room not merged", room_id=room.room_id, reason=repr(error))


async def merge(ctx: Context, room: Room) -> int:
    """Send dummy events until the room has few extremities; how many.

    A room without a user of ours who may send them stays as it is, and so does one
    whose members we do not know yet.

    Raises: what sending raises, but for refusals.
    """
    if room.is_partial:
        return 0
    senders = await _senders(ctx, room)
    sent = 0
    while len(room.head.extremities) > ENOUGH and sent < _EVENTS_AT_ONCE and senders:
        try:
            await send_event(ctx, room, NewEvent(DUMMY_EVENT, senders[0], {}))
        except ProtocolError:  # this one may not, or has meanwhile left
            senders = senders[1:]
            continue
        sent += 1
        merged.inc()
    if sent:
        log.info("branches merged", room_id=room.room_id, events=sent)
    return sent


async def _senders(ctx: Context, room: Room) -> Sequence[UserId]:
    """Users of ours in the room, those first who may do most."""
    nids = {key: room.state[key] for key in (_POWER, CREATE) if key in room.state}
    levels = PowerLevels.of(await state_pdus_of(ctx.live, nids), room.version)
    ours = sorted(room.joined_local, key=lambda who: (-levels.user(who), who))
    return ours[:_SENDERS_TRIED]


async def read_branched(tx: Tx, limit: int) -> list[int]:
    """Rooms with too many extremities, by number."""
    rows = await tx.fetch(
        "SELECT room_nid FROM rooms WHERE cardinality(extremities) > $1 LIMIT $2",
        ENOUGH,
        limit,
    )
    return [row["room_nid"] for row in rows]
