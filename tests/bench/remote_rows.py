"""What other servers push: many events, all that was missed, and branches that fight.

The other servers are played here, by `federation/` alone. All that they say was signed
beforehand, and both contenders get the same.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from federation.ids import EventId
from federation.pdu import Pdu
from tests.bench.field import Contender
from tests.bench.rows import Figure, Row, Scale, body
from tests.support.api import path
from tests.support.client import Client
from tests.support.liars import LyingRoom
from tests.support.peer import Peer, PeerRoom
from tests.support.resident import CrowdedRoom

ROOMS: Final = 10
EVENTS: Final = 1000
MISSED: Final = 5000
MEMBERS: Final = 10_000
BRANCH: Final = 500
MOST_SECONDS: Final = 120.0
_TRANSACTION: Final = 50
_LOOK: Final = 0.02
_SECONDS: Final = 300


async def _peer(contender: Contender, name: str) -> Peer:
    peer = Peer(contender.authority, contender.directory / f"{name}-{time.time_ns()}")
    await peer.start()
    return peer


async def _joined(contender: Contender, lies: LyingRoom, guest: Client) -> PeerRoom:
    """The room, once a guest of the contender's is in it."""
    await guest.joins(lies.room_id, via=lies.peer.name)
    room = lies.room
    room.site = contender.server
    room.take(lies.joined[-1])
    room.latest = [lies.joined[-1]]
    return room


async def _push(room: PeerRoom, events: Sequence[Pdu], until: float = 0) -> int:
    """Push them, a transaction after the other; how many until then."""
    for start in range(0, len(events), _TRANSACTION):
        if until and time.perf_counter() > until:
            return start
        results = await room.pushes(*events[start : start + _TRANSACTION])
        assert not any(results.values()), results
    return len(events)


async def _is_there(guest: Client, room: str, event_id: str) -> None:
    where = path("rooms", room, "event", event_id)
    async with asyncio.timeout(_SECONDS):
        while (await guest.answer("GET", where, seconds=_SECONDS))[0] != 200:
            await asyncio.sleep(_LOOK)


async def remote_events(contender: Contender, _scale: Scale) -> list[Figure]:
    """10 other servers push 1,000 messages each, each into a room of its own."""
    guest = await contender.server.registers(f"guest{time.time_ns()}")
    peers = [await _peer(contender, f"pushing{n}") for n in range(ROOMS)]
    try:
        rooms = [await _joined(contender, LyingRoom(peer), guest) for peer in peers]
        said = [[room.says(body()) for _ in range(EVENTS)] for room in rooms]

        async def push(room: PeerRoom, events: Sequence[Pdu]) -> None:
            await _push(room, events)
            await _is_there(guest, room.room_id, events[-1].event_id)

        async def all_of_them() -> None:
            await asyncio.gather(*map(push, rooms, said))

        _, used = await contender.cost(all_of_them)
        await guest.leaves(rooms[0].room_id)
    finally:
        for peer in peers:
            await peer.stop()
    count = ROOMS * EVENTS
    return [
        Figure("rate", count / used.wall, "/s", more_is_better=True),
        Figure("server CPU", used.server_cpu / count * 1000, "ms"),
        Figure("database CPU", used.database_cpu / count * 1000, "ms", judged=False),
    ]


class _Told:
    """A history that the peer tells of, when it is asked."""

    def __init__(self, lies: LyingRoom, events: Sequence[Pdu]) -> None:
        self._events = {event.event_id: event for event in events}
        everything = [event.event_id for event in lies.state]
        ids = {"pdu_ids": everything, "auth_chain_ids": everything}
        state = {
            "pdus": [event.json for event in lies.state],
            "auth_chain": [event.json for event in lies.state],
        }
        answers: dict[str, Callable[[web.Request], Any]] = {
            "v1/get_missing_events/": self._missing,
            "v1/backfill/": self._backfill,
            "v1/state_ids/": lambda _: ids,
            "v1/state/": lambda _: state,
            "v1/event_auth/": lambda _: {"auth_chain": state["auth_chain"]},
        }
        lies.peer.answers |= answers

    def _back_from(self, starts: Sequence[EventId], limit: int) -> list[Any]:
        """The deepest of those and what stood before it: the messages are one line."""
        known = [self._events[each] for each in starts if each in self._events]
        at = max(known, key=lambda event: event.depth, default=None)
        found: list[Any] = []
        while at is not None and len(found) < limit:
            found.append(at.json)
            at = self._events.get(at.prev_events[0])
        return found

    async def _missing(self, request: web.Request) -> Any:
        asked = await request.json()
        latest = self._events[asked["latest_events"][0]]
        events = self._back_from(latest.prev_events, asked.get("limit", 10))
        return {"events": events[::-1]}

    def _backfill(self, request: web.Request) -> Any:
        starts = [EventId(each) for each in request.query.getall("v")]
        return {"pdus": self._back_from(starts, int(request.query["limit"]))}


async def catch_up(contender: Contender, _scale: Scale) -> list[Figure]:
    """5,000 messages were missed; the next one comes, and then they are read."""
    guest = await contender.server.registers(f"guest{time.time_ns()}")
    peer = await _peer(contender, "telling")
    try:
        lies = LyingRoom(peer)
        room = await _joined(contender, lies, guest)
        lies.state.append(lies.joined[0])
        missed = [room.says(body()) for _ in range(MISSED)]
        last = room.says(body())
        _Told(lies, [lies.joined[0], *missed, last])
        began = time.perf_counter()
        await room.pushes(last)
        await _is_there(guest, room.room_id, last.event_id)
        there = time.perf_counter() - began
        events = await guest.history(room.room_id, most=MISSED + 1)
        read = time.perf_counter() - began
        assert len({e["event_id"] for e in events}) >= MISSED, len(events)
        await guest.leaves(room.room_id)
    finally:
        await peer.stop()
    return [
        Figure("there", there * 1000, "ms"),
        Figure("all read", read * 1000, "ms"),
    ]


def _branch(room: PeerRoom, name: str, people: Sequence[str]) -> list[Pdu]:
    """What the host does on one branch, all of it state: power, bans and topics."""
    branch = replace(room, state=dict(room.state), latest=list(room.latest))
    host = branch.user_id
    events = []
    for n in range(BRANCH):
        who = people[n % len(people)]
        match n % 5:
            case 0:
                levels = {"users": {host: 100, who: n % 50}}
                event = branch.event("m.room.power_levels", levels, "")
            case 1:
                topic = {"topic": f"{name} {n}"}
                event = branch.event("m.room.topic", topic, "")
            case _:
                event = branch.event("m.room.member", {"membership": "ban"}, who)
        events.append(event)
    return events


async def forks(contender: Contender, _scale: Scale) -> list[Figure]:
    """Two branches of 500 state events each in a room of 10,000 members."""
    guest = await contender.server.registers(f"guest{time.time_ns()}")
    peer = await _peer(contender, "forking")
    try:
        crowd = CrowdedRoom(peer, MEMBERS, can_omit=False)
        room = await _joined(contender, crowd.lies, guest)
        people = [state_key for kind, state_key in room.state if "@member" in state_key]
        left = _branch(room, "left", people)
        right = _branch(room, "right", people)
        alone = time.perf_counter()
        first = await _push(room, left, alone + MOST_SECONDS)
        began = time.perf_counter()
        second = await _push(room, right, began + MOST_SECONDS)
        took = time.perf_counter() - began
        await guest.leaves(room.room_id)
    finally:
        await peer.stop()
    # Who takes too long is stopped, so that the row ends.
    return [
        Figure("first branch", first / (began - alone), "/s", more_is_better=True),
        Figure("second branch", second / took, "/s", more_is_better=True),
    ]


ROWS: Final[dict[str, Row]] = {
    "remote_events": remote_events,
    "catch_up": catch_up,
    "forks": forks,
}
