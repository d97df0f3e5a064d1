"""Resolution of large conflicts: what it costs, whom it stalls, what is remembered."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import pytest

from federation import state_resolution
from federation.ids import UserId
from federation.room_versions import ROOM_VERSIONS
from federation.signatures import SigningKey
from federation.state_resolution import Known, run
from homeserver.bounded import MIB, LruCache
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.context import Context
from homeserver.live.live import Live
from homeserver.live.reversals import read_reversals
from homeserver.rooms.build import NewEvent
from homeserver.rooms.create import NewRoom, make_room
from homeserver.rooms.send import send_event
from homeserver.state import budget
from homeserver.state.budget import Account, Budget
from homeserver.state.resolve import Resolver
from tests.support.forks import Forked

MEMBERS = 2000


ALICE = UserId("@alice:a.test")


@pytest.fixture
async def ctx(database) -> AsyncIterator[Context]:
    live = Live(database, "a.test")
    await live.start()
    yield Context(
        config=Config(),
        server_name="a.test",
        db=database,
        key=SigningKey.generate("1"),
        wire=None,
        live=live,
        clock=Clock(),
        known_keys=LruCache("server keys", MIB, 300),
    )
    await live.stop()


async def roots_of(ctx: Context, *tips) -> list[int]:
    events = await ctx.live.events.by_ids(tip.event_id for tip in tips)
    return [event.state_after for event in events.values()]


@pytest.mark.parametrize("version", ["1", "6", "10"])
async def test_the_maps_give_what_the_whole_states_give(ctx, version):
    forked = await Forked.make(ctx, 60, version)
    left, right = forked.branch("b.test", 40), forked.branch("c.test", 40)
    await forked.accepts(*left, *right)
    live = ctx.live
    roots = await roots_of(ctx, left[-1], right[-1])
    root = await live.resolver.resolve(forked.version, forked.room.nid, roots)
    # The algorithm over whole states, all of which are at hand.
    everything = {
        event.event_id: Known(event)
        for event in (*forked.state.values(), forked.join, *left, *right)
    }
    states = []
    for each in roots:
        nids = await live.states.items(each)
        events = await live.events.by_nids(nids.values())
        states.append({key: events[nid].event_id for key, nid in nids.items()})
    expected = run(state_resolution.resolve_states(forked.version, states), everything)
    nids = await live.states.items(root)
    events = await live.events.by_nids(nids.values())
    assert {key: events[nid].event_id for key, nid in nids.items()} == expected


async def test_what_was_resolved_is_remembered_in_any_order(ctx, monkeypatch):
    forked = await Forked.make(ctx, 60)
    left, right = forked.branch("b.test", 20), forked.branch("c.test", 20)
    await forked.accepts(*left, *right)
    first, second = await roots_of(ctx, left[-1], right[-1])
    resolver = ctx.live.resolver
    root = await resolver.resolve(forked.version, forked.room.nid, (first, second))

    async def again(*_: object) -> None:
        raise AssertionError("it was resolved before")

    monkeypatch.setattr(Resolver, "_separate", again)
    for roots in ((first, second), (second, first), (second, first, second)):
        assert root == await resolver.resolve(forked.version, forked.room.nid, roots)


async def test_what_comes_together_is_resolved_once(ctx, monkeypatch):
    forked = await Forked.make(ctx, 60)
    left, right = forked.branch("b.test", 20), forked.branch("c.test", 20)
    await forked.accepts(*left)
    count = 0
    separate = Resolver._separate

    async def counted(self, roots):
        nonlocal count
        count += 1
        return await separate(self, roots)

    monkeypatch.setattr(Resolver, "_separate", counted)
    await forked.accepts_together(*right)
    assert count == 1
    room = await ctx.live.room(forked.room_id)
    roots = await roots_of(ctx, left[-1], right[-1])
    root = await ctx.live.resolver.resolve(forked.version, forked.room.nid, roots)
    assert room.state == await ctx.live.states.items(root)
    events = await ctx.live.events.by_ids(e.event_id for e in (left[-1], right[-1]))
    assert set(room.head.extremities) == {event.nid for event in events.values()}
    # What each changed and what was undone is told as if they had come one by one.
    async with ctx.db.read() as tx:
        told = await read_reversals(tx, forked.room_id, 100)
    lost = {each.lost for each in told}
    topics = [e.event_id for e in (*left, *right) if e.type == "m.room.topic"]
    won = (await ctx.live.events.by_nid(room.state["m.room.topic", ""])).event_id
    # Of each branch the last topic; those before it were followed by another.
    assert lost & set(topics) == {topics[3], topics[7]} - {won}


@pytest.mark.parametrize("together", [True, False])
async def test_who_is_let_in_on_a_branch_may_come_in_at_once(ctx, together):
    """Their own invite is part of what came together: the state must know of it."""
    forked = await Forked.make(ctx, 5)
    mod, other = forked.moderators
    rules = {"join_rule": "invite"}
    closed = forked.event(
        mod, "m.room.join_rules", rules, "", [forked.join], {**forked.state}
    )
    await forked.accepts(closed)
    guest = UserId("@guest:d.test")
    state = dict(forked.state)
    more = {"users": dict.fromkeys(forked.moderators, 100), "invite": 50}
    steps = [
        (other, "m.room.join_rules", {"join_rule": "invite"}, ""),
        (other, "m.room.power_levels", more, ""),
        (other, "m.room.member", {"membership": "invite"}, guest),
        (guest, "m.room.member", {"membership": "join"}, guest),
        (guest, "m.room.message", {"body": "hello"}, None),
    ]
    branch = [forked.join]
    for who, kind, content, key in steps:
        branch.append(forked.event(who, kind, content, key, branch[-1:], state))
    if together:
        await forked.accepts_together(*branch[1:])
    else:
        await forked.accepts(*branch[1:])
    room = await ctx.live.room(forked.room_id)
    assert room.is_joined(guest)
    events = await ctx.live.events.by_ids(e.event_id for e in branch[1:])
    assert not [e.pdu.type for e in events.values() if e.soft_failed]


async def test_only_events_of_the_conflict_are_read(ctx, monkeypatch):
    asked: list[int] = []
    by_nids = type(ctx.live.events).by_nids

    async def counted(self, nids):
        wanted = list(nids)
        asked.append(len(wanted))
        return await by_nids(self, wanted)

    sizes = []
    for members in (100, MEMBERS):
        forked = await Forked.make(ctx, members)
        left, right = forked.branch("b.test", 15), forked.branch("c.test", 15)
        await forked.accepts(*left, *right)
        roots = await roots_of(ctx, left[-1], right[-1])
        ctx.live.resolver._memo.clear()
        with monkeypatch.context() as patched:
            patched.setattr(type(ctx.live.events), "by_nids", counted)
            asked.clear()
            await ctx.live.resolver.resolve(forked.version, forked.room.nid, roots)
        sizes.append(sum(asked))
    assert sizes[0] == sizes[1] < 200


async def test_a_hostile_room_stalls_nobody_else(ctx):
    forked = await Forked.make(ctx, MEMBERS)
    left, right = forked.branch("b.test", 600), forked.branch("c.test", 10)
    await forked.accepts(*left)
    content = {"room_version": "12"}
    joined = NewEvent("m.room.member", ALICE, {"membership": "join"}, ALICE)
    new = NewRoom(ROOM_VERSIONS["12"], ALICE, content, [joined])
    quiet, _ = await make_room(ctx, new)
    turns: list[float] = []

    async def count_turns() -> None:
        """CPU time between two turns of this task: other processes do not matter."""
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - began)

    gc.collect()
    gc.disable()  # it takes 50 ms of its own now and then
    attack = asyncio.create_task(forked.accepts(*right))
    counting = asyncio.create_task(count_turns())
    took = []
    try:
        while not attack.done():
            began = time.monotonic()
            message = {"msgtype": "m.text", "body": f"message {len(took)}"}
            await send_event(ctx, quiet, NewEvent("m.room.message", ALICE, message))
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.005)
    finally:
        gc.enable()
        counting.cancel()
    await attack
    # All at once, each of these ten resolutions takes some 80 ms.
    assert max(turns) < 0.04
    # A thirtieth of that on a quiet machine.
    assert sorted(took)[len(took) * 99 // 100] < 0.5


def test_a_room_that_used_up_its_share_waits_and_the_share_comes_back(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    account = Account.full(share=0.1, burst=3.0)
    assert account.spend(3.0) == 0
    assert account.spend(0.05) == pytest.approx(0.5)
    now += 0.5
    assert account.spend(0.0) == pytest.approx(0.0)
    now += 1_000_000  # it holds no more than its burst
    assert account.spend(3.0) == 0
    assert account.spend(100.0) == 2.0  # however much it was


async def test_work_gives_others_a_turn_after_each_slice(monkeypatch):
    turns = 0
    now = 0.0
    waits: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds
        await sleep(0)

    def steps():
        nonlocal now
        for _ in range(2000):
            now += 0.003
            yield frozenset()
        return "done"

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await sleep(0)

    async def nothing(_: object) -> dict[str, str]:
        raise AssertionError("nothing was asked for")

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(budget.asyncio, "sleep", slept)
    other = asyncio.create_task(others())
    accounts = Budget()
    assert await accounts.work(1).drive(steps(), nothing) == "done"
    other.cancel()
    assert len(waits) == 1000
    assert turns >= 1000
    # 6 s of work in a room: 3 at once, the rest at a tenth of the time.
    assert sum(waits) == pytest.approx(30, rel=0.2)
    before = len(waits)
    assert await accounts.work(2).drive(steps(), nothing) == "done"
    assert waits[before] == 0  # another room has an account of its own
