"""Answers that do not end, arrive byte by byte, lead home, or go round in circles."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from federation.pdu import Pdu
from tests.support.client import Client, RefusedError
from tests.support.liars import LyingRoom, known, shared
from tests.support.peer import Peer, PeerRoom, answering, copied
from tests.support.sites import Site, agree, eventually

MISSING = "v1/get_missing_events/"


class Stream:
    """An answer that goes on until it is told to stop."""

    def __init__(self, piece: bytes, pause: float) -> None:
        self.piece = piece
        self.pause = pause
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.sent = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(b'{"events": [')
            while not self.over.is_set():
                self.begun.set()
                await response.write(self.piece)
                self.sent += len(self.piece)
                await asyncio.sleep(self.pause)
        return response


@contextlib.asynccontextmanager
async def quick(alice: Client, a: Site, room_id: str) -> AsyncIterator[None]:
    """Whatever happens in the block, the room is not held up by it."""
    yield
    before = asyncio.get_running_loop().time()
    body = f"still here {before}"
    await alice.sends(room_id, body)
    await alice.sees(room_id, body, seconds=5)
    assert asyncio.get_running_loop().time() - before < 5


async def test_an_answer_without_end_is_cut_off(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    await bob.joins(room.room_id, via=alice)
    endless = Stream(b'{"type": "m.room.message", "x": "' + b"x" * 2**18 + b'"},', 0)
    room.says("lost")
    last = room.says("waiting for it")
    with answering(peer, MISSING, endless):
        results = await asyncio.wait_for(room.pushes(last), 30)
    assert results[last.event_id] is not None
    assert await known(a, last.event_id) is None
    assert endless.sent < 100 * 2**20
    async with quick(alice, a, room.room_id):
        pass
    await agree(room.room_id, a, b)


async def test_an_answer_byte_by_byte_keeps_nobody_else_waiting(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    await bob.joins(room.room_id, via=alice)
    dribble = Stream(b" ", 0.05)
    room.says("lost")
    last = room.says("waiting for it")
    with answering(peer, MISSING, dribble):
        pushing = asyncio.create_task(room.pushes(last))
        await dribble.begun.wait()
        async with quick(alice, a, room.room_id):
            await bob.sends(room.room_id, "from b meanwhile")
            await alice.sees(room.room_id, "from b meanwhile", seconds=5)
        dribble.over.set()
        results = await pushing
    assert results[last.event_id] is not None
    await agree(room.room_id, a, b)


async def test_a_join_that_never_ends_holds_up_nobody_and_can_be_tried_again(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    honest = peer.answers["v2/send_join/"]
    dribble = Stream(b" ", 0.05)
    other = await alice.creates_room()
    with answering(peer, "v2/send_join/", dribble):
        joining = asyncio.create_task(alice.joins(lies.room_id, via=peer.name))
        await dribble.begun.wait()
        async with quick(alice, a, other):
            pass
        dribble.over.set()
        with pytest.raises(RefusedError) as refused:
            await joining
    assert refused.value.status == 502
    # Nobody asks that server for a while, but for a user who tries again.
    peer.answers["v2/send_join/"] = honest
    await alice.joins(lies.room_id, via=peer.name)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_signed_request_follows_no_redirect(
    a: Site, alice: Client, peer: Peer, status: int
) -> None:
    room = await shared(alice, a, peer)
    room.says("lost")
    last = room.says("waiting for it")

    def away(_: web.Request) -> web.Response:
        where = f"https://{peer.name}/_matrix/federation/v1/elsewhere"
        return web.Response(status=status, headers={"Location": where})

    with answering(peer, MISSING, away):
        results = await room.pushes(last)
    assert results[last.event_id] is not None
    assert "v1/elsewhere" not in peer.asked
    async with quick(alice, a, room.room_id):
        pass


# ── Circles ──────────────────────────────────────────────────────────────────────────


def named(room: PeerRoom, name: str, body: str, **references: list[Any]) -> Pdu:
    """A message whose ID was known before it was written: versions 1 and 2."""
    pairs = {
        key: [[each, {"sha256": "x"}] for each in references[key]] for key in references
    }
    return room.says(body, keep=False, event_id=name, **pairs)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_events_that_come_after_each_other_are_never_in_the_room(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    await bob.joins(room.room_id, via=alice)
    one, two = f"$one:{peer.name}", f"$two:{peer.name}"
    first = named(room, one, "the hen", prev_events=[two])
    second = named(room, two, "the egg", prev_events=[one])
    alone = named(room, f"$self:{peer.name}", "me", prev_events=[f"$self:{peer.name}"])

    def missing(_: web.Request) -> dict[str, Any]:
        return {"events": [second.json, first.json] * 10}

    with answering(peer, MISSING, missing):
        results = await asyncio.wait_for(room.pushes(first, second, alone), 30)
    assert all(results[event.event_id] for event in (first, second, alone))
    async with quick(alice, a, room.room_id):
        pass
    await agree(room.room_id, a, b)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_events_that_authorise_each_other_authorise_nothing(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    await bob.joins(room.room_id, via=alice)
    one, two = f"$one:{peer.name}", f"$two:{peer.name}"
    mine = room.state["m.room.member", room.user_id].event_id
    create = room.state["m.room.create", ""].event_id
    member = {"membership": "join"}

    def circular(name: str, other: str) -> Pdu:
        auth = [[each, {"sha256": "x"}] for each in (create, other)]
        return room.event(
            "m.room.member",
            member,
            room.user_id,
            keep=False,
            event_id=name,
            auth_events=auth,
        )

    first, second = circular(one, two), circular(two, one)
    chain = [first.json, second.json]
    resting = named(room, f"$r:{peer.name}", "on a circle", auth_events=[create, one])
    with answering(peer, "v1/event_auth/", lambda _: {"auth_chain": chain}):
        results = await asyncio.wait_for(room.pushes(resting, first, second), 30)
    assert all(results[event.event_id] for event in (resting, first, second))
    state = await a.state_ids(room.room_id)
    assert state["m.room.member", room.user_id] == mine
    async with quick(alice, a, room.room_id):
        pass
    await agree(room.room_id, a, b)


# ── Two beginnings, two states ───────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["1", "6", "10", "12"])
async def test_a_room_does_not_begin_twice(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    await bob.joins(room.room_id, via=alice)
    before = await a.state_ids(room.room_id)
    content = {"room_version": version, "creator": room.user_id}
    first = copied(
        room.event("m.room.create", content, "", after=[], auth=[], keep=False)
        if version != "12"
        else room.says("no create at all", keep=False)
    )
    later = (
        room.event("m.room.create", content, "", auth=[], keep=False)
        if version != "12"
        else None
    )
    raws = [first] if later is None else [first, later.json]
    results = await peer.pushes(a, raws)
    if version != "12":
        assert all(results.values())
    power = room.event(
        "m.room.power_levels",
        {"users": {room.user_id: 100}},
        "",
        auth=[],
        keep=False,
    )
    assert (await room.pushes(power))[power.event_id] is not None
    assert await a.state_ids(room.room_id) == before
    async with quick(alice, a, room.room_id):
        pass
    await agree(room.room_id, a, b)


@pytest.mark.parametrize("version", ["1", "6", "12"])
async def test_a_state_that_has_two_of_a_kind_or_others_events_gives_nobody_power(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    await bob.joins(room.room_id, via=alice)
    other = await shared(alice, a, peer, room_version=version)
    foreign = other.state["m.room.power_levels", ""]
    seized = room.event(
        "m.room.power_levels",
        {"users": {room.user_id: 100}},
        "",
        auth=[room.state["m.room.create", ""]],
        keep=False,
    )
    state = [event.event_id for event in room.state.values()]
    lied = [*state, seized.event_id, foreign.event_id, *state]
    before = await a.state_ids(room.room_id)
    room.says("lost")
    last = room.says("at last")
    topic = room.event("m.room.topic", {"topic": "mine"}, "", after=[last], keep=False)
    with (
        answering(peer, MISSING, lambda _: {"events": []}),
        answering(
            peer,
            "v1/state_ids/",
            lambda _: {"pdu_ids": lied, "auth_chain_ids": state},
        ),
    ):
        await asyncio.wait_for(room.pushes(last, topic), 30)
    now = await a.state_ids(room.room_id)
    assert now["m.room.power_levels", ""] == before["m.room.power_levels", ""]
    assert ("m.room.topic", "") not in now
    async with quick(alice, a, room.room_id):
        pass
    await eventually(lambda: _same(a, b, room.room_id), "a and b agree")


async def _same(a: Site, b: Site, room_id: str) -> bool:
    return await a.state_ids(room_id) == await b.state_ids(room_id)
