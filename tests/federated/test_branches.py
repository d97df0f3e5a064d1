"""A peer that never merges anything leaves dozens of branches; we tidy them up."""

from typing import Any

import pytest

from homeserver.rooms.merging import ENOUGH, Merger
from tests.support.client import Client
from tests.support.liars import shared
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site, eventually

DUMMY = "org.matrix.dummy_event"
BRANCHES = 55


async def extremities(site: Site, room_id: str) -> list[int]:
    room = await site.room(room_id)
    return list(room.head.extremities)


async def branches(alice: Client, a: Site, peer: Peer, **options: Any) -> PeerRoom:
    """A room with one extremity for each message of the peer's."""
    room = await shared(alice, a, peer, **options)
    await alice.sets_power(room.room_id, _client(alice, room), 50)
    await _catch_up(a, room)
    base = room.latest
    topic = room.event("m.room.topic", {"topic": "on a branch"}, "", after=base)
    room.latest = base
    messages = [room.says(f"branch {i}", after=base) for i in range(BRANCHES)]
    # Deeper than the topic, so that what is said next does not cite it.
    deeper = [room.says(f"deeper {i}", after=[m]) for i, m in enumerate(messages)]
    for start in range(0, BRANCHES, 20):
        await room.pushes(*messages[start : start + 20])
    await room.pushes(topic)
    for start in range(0, BRANCHES, 20):
        await room.pushes(*deeper[start : start + 20])
    assert len(await extremities(a, room.room_id)) == BRANCHES + 1
    return room


def _client(alice: Client, room: PeerRoom) -> Client:
    return Client(alice.http, alice.base_url, user_id=room.user_id)


async def _catch_up(a: Site, room: PeerRoom) -> None:
    """Let the peer know the room as it is at the site now."""
    now = await a.room(room.room_id)
    events = await a.ctx.live.events.by_nids(
        {*now.state.values(), *now.head.extremities}
    )
    for event in events.values():
        room.known[event.event_id] = event.pdu
    for nid in now.state.values():
        room.take(events[nid].pdu)
    room.latest = [events[nid].pdu for nid in now.head.extremities]


async def dummies(site: Site) -> list[Any]:
    return await site.query(
        "SELECT sender, rejected, soft_failed FROM events WHERE type = $1", DUMMY
    )


@pytest.mark.parametrize("version", ["2", "10", "12"])
async def test_what_we_say_cites_twenty_and_keeps_the_state_of_the_rest(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await branches(alice, a, peer, room_version=version)
    event_id = await alice.sends(room.room_id, "hello")
    event = await a.ctx.live.events.by_id(event_id)
    assert len(event.pdu.prev_events) == 20
    assert len(await extremities(a, room.room_id)) == BRANCHES + 1 - 19
    assert await alice.state_of(room.room_id, "m.room.topic") == {
        "topic": "on a branch"
    }
    before = await a.ctx.live.states.items(event.state_before)
    assert ("m.room.topic", "") not in before
    now = await a.room(room.room_id)
    stored = await a.ctx.live.states.items(now.head.state_root)
    assert stored == now.state
    # A state event on top of some of the branches comes together with all of them.
    await alice.sets_state(room.room_id, "m.room.name", {"name": "a name"})
    now = await a.room(room.room_id)
    assert await a.ctx.live.states.items(now.head.state_root) == now.state
    assert {"m.room.topic", "m.room.name"} <= {kind for kind, _ in now.state}


async def test_branches_of_a_silent_room_are_merged_by_one_process(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await branches(alice, a, peer)
    await alice.sends(room.room_id, "once")
    mergers = [Merger(process.ctx) for process in a.processes]
    for _ in range(2):  # it waits a round: perhaps somebody speaks
        assert await dummies(a) == []
        for merger in mergers:
            await merger.run()
    sent = await dummies(a)
    assert {tuple(row) for row in sent} == {(alice.user_id, None, False)}
    assert len(await extremities(a, room.room_id)) <= ENOUGH
    assert len(sent) == 2  # 37 branches, 19 fewer with each event
    for merger in mergers:
        await merger.run()
    assert len(await dummies(a)) == len(sent)
    await eventually(lambda: _got(peer, len(sent)), "the peer gets them")
    await alice.sends(room.room_id, "and on")
    await alice.sees(room.room_id, "and on")
    for event in await alice.history(room.room_id):
        assert event["type"] != DUMMY
    assert all(e["type"] != DUMMY for e in alice.seen.room(room.room_id).timeline)


async def _got(peer: Peer, count: int) -> bool:
    got = [p for t in peer.received for p in t["pdus"] if p["type"] == DUMMY]
    assert all(p["content"] == {} and len(p["prev_events"]) <= 20 for p in got)
    return len(got) == count


async def test_only_who_may_speak_merges(a: Site, alice: Client, peer: Peer) -> None:
    quiet = await a.person("quiet")
    room = await shared(alice, a, peer)
    await quiet.joins(room.room_id)
    levels = await alice.state_of(room.room_id, "m.room.power_levels")
    users = {**levels["users"], room.user_id: 100, quiet.user_id: 20}
    content = {**levels, "users": users, "events": {DUMMY: 50}}
    await alice.sets_state(room.room_id, "m.room.power_levels", content)
    await alice.leaves(room.room_id)
    await _catch_up(a, room)
    base = room.latest
    for start in (0, 15):
        await room.pushes(*(room.says(f"{start + i}", after=base) for i in range(15)))
    merger = Merger(a.ctx)
    for _ in range(3):
        await merger.run()
    assert await dummies(a) == []
    assert len(await extremities(a, room.room_id)) == 30
    await quiet.sends(room.room_id, "but others may do it by speaking")
    assert len(await extremities(a, room.room_id)) == 11


async def test_what_comes_beside_a_goodbye_is_judged_after_it(
    alice: Client, a: Site, peer: Peer
) -> None:
    """One transaction holds both; the message stands on another branch."""
    room = await shared(alice, a, peer)
    base, me = room.latest, room.user_id
    named = {"membership": "join", "displayname": "M"}
    one = room.event("m.room.member", named, me, after=base, keep=False)
    other = room.says("on the other branch", after=base, keep=False)
    await room.pushes(one, other)
    bye = {"membership": "leave"}
    goodbye = room.event("m.room.member", bye, me, after=[one], keep=False)
    message = room.says("still here", after=[other], keep=False)
    await room.pushes(goodbye, message)
    await alice.sees_id(room.room_id, goodbye.event_id)
    rows = await a.query(
        "SELECT event_id, soft_failed FROM events WHERE event_id = ANY($1)",
        [goodbye.event_id, message.event_id],
    )
    assert {row["event_id"]: row["soft_failed"] for row in rows} == {
        goodbye.event_id: False,
        message.event_id: True,
    }
