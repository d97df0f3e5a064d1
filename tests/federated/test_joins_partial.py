"""Joining a room without its members: usable at once, whole a little later.

Spec: MSC3902, server-server-api#put_matrixfederationv2send_joinroomideventid
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from federation.pdu import parse_pdu
from federation.wire.transport import Answer
from homeserver.errors import MatrixError
from homeserver.rooms import completing, restating
from homeserver.rooms.partial import until_whole
from tests.support.client import Client, RefusedError
from tests.support.liars import LyingRoom, known
from tests.support.peer import Peer
from tests.support.seen import Seen
from tests.support.sites import Site, World, agree, eventually

_LAZY = json.dumps({"room": {"state": {"lazy_load_members": True}}})
_OTHERS = 12
_MEMBER = "m.room.member"


@dataclass
class HeldBack:
    """A site that cannot ask for a room's state, until it is let."""

    site: Site
    asked: int = 0
    let: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        for process in self.site.processes:
            wire = process.ctx.wire
            wire._deliver = self._guarded(wire._deliver)

    def _guarded(self, deliver: Any) -> Any:
        async def guarded(request: Any) -> Any:
            if "/federation/v1/state/" in request.target and not self.let.is_set():
                self.asked += 1
                body = b'{"errcode":"M_UNKNOWN","error":"held back by the test"}'
                return Answer(503, CIMultiDictProxy(CIMultiDict()), body)
            return await deliver(request)

        return guarded


async def _large_room(a: Site, alice: Client, **options: Any) -> str:
    room = await alice.creates_room(preset="public_chat", name="Large", **options)
    for n in range(_OTHERS):
        other = await a.person(f"other{n}")
        await other.joins(room)
    await agree(room, a)
    return room


async def _is_partial(site: Site, room_id: str) -> bool:
    return bool((await site.room(room_id)).is_partial)


async def _is_whole(*sites: Site, room: str) -> None:
    async def whole() -> bool:
        return not any([await _is_partial(site, room) for site in sites])

    await eventually(whole, "the members arrive", 60)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of two counts as large."""
    monkeypatch.setattr("homeserver.rooms.server_api.handover.FEW_MEMBERS", 0)


@pytest.fixture
async def a(world: World) -> Site:
    return await world.site(1)


async def test_a_room_is_read_and_written_before_its_members_are_there(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await _large_room(a, alice)
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    assert await _is_partial(b, room)
    await bob.sends(room, "hello")
    await alice.sees(room, "hello", by=bob)
    await alice.sends(room, "welcome")

    # Who loads members as they are needed sees the room, and who speaks in it.
    lazy = Client(bob.http, bob.base_url, bob.access_token, user_id=bob.user_id)
    lazy.seen = Seen()

    async def heard() -> dict[str, Any] | None:
        reply = await lazy.syncs(filter=_LAZY)
        found = reply.get("rooms", {}).get("join", {}).get(room)
        said = lazy.seen.room(room).timeline
        return (
            found if any(e["content"].get("body") == "welcome" for e in said) else None
        )

    await eventually(heard, "bob hears alice")
    members = {
        key for kind, key in lazy.seen.room(room).state if kind == "m.room.member"
    }
    assert {alice.user_id, bob.user_id} <= members
    # Who wants all members does not see it yet.
    everything = Client(bob.http, bob.base_url, bob.access_token, user_id=bob.user_id)
    everything.seen = Seen()
    reply = await everything.syncs()
    assert room not in reply.get("rooms", {}).get("join", {})
    with pytest.raises(MatrixError) as late:
        await until_whole(b.ctx.live, await b.room(room), 0.01)
    assert late.value.status == 503

    waiting = asyncio.create_task(bob.members(room))
    held.let.set()
    await _is_whole(b, room=room)
    assert len(await waiting) == _OTHERS + 2
    await agree(room, a, b)
    reply = await everything.syncs(wait=10)
    state = reply["rooms"]["join"][room]["state"]["events"]
    timeline = reply["rooms"]["join"][room]["timeline"]["events"]
    shown = {
        e["state_key"] for e in (*state, *timeline) if e["type"] == "m.room.member"
    }
    assert len(shown) == _OTHERS + 2
    assert {e["content"].get("body") for e in timeline} >= {"hello", "welcome"}
    counted = (await lazy.syncs(filter=_LAZY))["rooms"]["join"][room]["summary"]
    assert counted["m.joined_member_count"] == _OTHERS + 2
    assert await b.query("SELECT FROM partial_rooms") == []
    servers = await b.query("SELECT server_name, joined FROM room_servers")
    assert [tuple(row) for row in servers] == [(a.name, _OTHERS + 1)]


async def test_members_who_come_in_are_there_for_all_processes(
    a: Site, b: Site, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come in before the room's state has another root, in steps of their own."""
    room = await _large_room(a, alice)
    held, let = HeldBack(b), asyncio.Event()

    async def later(*arguments: Any) -> Any:
        await let.wait()
        return await restating.make_whole(*arguments)

    monkeypatch.setattr(completing, "make_whole", later)
    await bob.joins(room, via=alice)
    lives = [process.ctx.live for process in b.processes]
    rooms = [await live.room(room) for live in lives]
    held.let.set()

    async def everywhere() -> bool:
        for live in lives:
            await live.follower.pull()
        found = [[k for k, _ in r.state if k == _MEMBER] for r in rooms]
        return all(len(members) == _OTHERS + 2 for members in found)

    await eventually(everywhere, "all processes know the members")
    assert all(r.is_partial for r in rooms)
    let.set()
    await _is_whole(b, room=room)
    await agree(room, a, b)


async def test_a_restart_in_the_middle_loses_nothing(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await _large_room(a, alice)
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    await bob.sends(room, "before the restart")
    await eventually(lambda: _true(held.asked), "b asks for the members")
    await b.stop()
    await alice.sends(room, "while b is away")
    await b.start()
    bob = await b.back_again(bob)
    await _is_whole(b, room=room)
    await alice.sends(room, "after the restart")
    await bob.sees(room, "after the restart", by=alice)
    await bob.sees(room, "while b is away", by=alice, seconds=60)
    assert len(await bob.members(room)) == _OTHERS + 2
    await agree(room, a, b)


async def _true(value: object) -> bool:
    return bool(value)


async def test_what_a_banned_user_said_meanwhile_is_taken_back(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer
) -> None:
    room = await alice.creates_room(preset="public_chat", name="Strict")
    theirs = await peer.joins(a, room, "mallory")
    peer.events.update((event.event_id, event.json) for event in theirs.known.values())
    await alice.post(
        f"/_matrix/client/v3/rooms/{room}/ban", {"user_id": theirs.user_id}
    )
    await agree(room, a)
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    # To b, who does not know of the ban, the peer says that mallory is in the room.
    rows = await b.query(
        """
        SELECT json FROM events JOIN event_json USING (event_nid)
         WHERE position > 0 AND type = 'm.room.member' AND sender = $1
        """,
        bob.user_id,
    )
    joined = parse_pdu(json.loads(rows[0]["json"]), theirs.version)
    lie = theirs.event("m.room.message", {"body": "I am back"}, after=[joined])
    topic = theirs.event(
        "m.room.member",
        {"membership": "join", "displayname": "M"},
        theirs.user_id,
        after=[joined],
    )
    theirs.site = b
    await theirs.pushes(lie, topic)
    row = await known(b, lie.event_id)
    assert row["rejected"] is None
    held.let.set()
    await _is_whole(b, room=room)
    for event in (lie, topic):
        row = await known(b, event.event_id)
        assert row["rejected"] is not None
    said = [e["content"].get("body") for e in await bob.history(room)]
    assert "I am back" not in said
    assert (await bob.members(room))[theirs.user_id] == "ban"
    await agree(room, a, b)
    await bob.sends(room, "all is well")
    await alice.sees(room, "all is well", by=bob)


async def test_a_second_user_of_ours_joins_by_the_other_server_meanwhile(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat", name="Strict")
    bert, cora = await b.person("bert"), await b.person("cora")
    await alice.post(f"/_matrix/client/v3/rooms/{room}/ban", {"user_id": bert.user_id})
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    with pytest.raises(RefusedError):  # b does not know of the ban; a does
        await bert.joins(room, via=alice)
    await cora.joins(room, via=alice)
    assert await _is_partial(b, room)
    held.let.set()
    await _is_whole(b, room=room)
    await agree(room, a, b)
    assert (await cora.members(room))[bert.user_id] == "ban"


async def test_members_who_come_with_the_join_are_brought_in_a_few_at_a_time(
    a: Site, b: Site, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.rooms.server_api.handover.FEW_MEMBERS", 1000)
    monkeypatch.setattr("homeserver.rooms.join.FEW_MEMBERS", 3)
    monkeypatch.setattr("homeserver.rooms.completing._MEMBERS", 5)
    room = await _large_room(a, alice)
    held = HeldBack(b)  # nothing needs to be fetched
    await bob.joins(room, via=alice)
    await bob.sends(room, "hello")
    await alice.sees(room, "hello", by=bob)
    assert len(await bob.members(room)) == _OTHERS + 2
    await _is_whole(b, room=room)
    await agree(room, a, b)
    assert not held.asked
    assert await b.query("SELECT FROM partial_rooms") == []
    servers = await b.query("SELECT server_name, joined FROM room_servers")
    assert [tuple(row) for row in servers] == [(a.name, _OTHERS + 1)]


# ── Lies ─────────────────────────────────────────────────────────────────────────────


async def _cannot_join(alice: Client, lies: LyingRoom) -> None:
    with pytest.raises(RefusedError) as refused:
        await alice.joins(lies.room_id, via=lies.peer.name)
    assert refused.value.status in (403, 502), refused.value
    assert lies.peer.name in str(refused.value)
    assert lies.room_id not in await alice.joined_rooms()


def _short(lies: LyingRoom) -> dict[str, Any]:
    """What a server that leaves out the members answers."""
    return {
        "state": [lies.create.json, lies.levels.json, lies.rules.json],
        "auth_chain": [lies.host_joins.json],
        "members_omitted": True,
        "servers_in_room": [lies.peer.name],
    }


async def test_lies_in_a_short_answer_are_refused(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    lies.given = _short(lies) | {"auth_chain": []}  # all else rests on the host's join
    await _cannot_join(alice, lies)
    lies.given = _short(lies)
    del lies.given["servers_in_room"]
    await _cannot_join(alice, lies)
    other = lies.room.event(
        "m.room.join_rules", {"join_rule": "invite"}, "", keep=False
    )
    lies.given = _short(lies)
    lies.given["state"].append(other.json)  # two events of one key
    await _cannot_join(alice, lies)


async def test_members_that_are_lies_are_left_out_and_failures_outlived(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    honest = lies.room.event(
        "m.room.member", {"membership": "join"}, f"@honest:{peer.name}",
        sender=f"@honest:{peer.name}", auth=[lies.create, lies.levels, lies.rules],
        after=[lies.rules], keep=False,
    )  # fmt: skip
    forged = honest.json | {
        "sender": "@forged:elsewhere.example",
        "state_key": "@forged:elsewhere.example",
    }
    state = [*_short(lies)["state"], lies.host_joins.json, honest.json, forged]
    answers = iter(
        [
            (500, {"errcode": "M_UNKNOWN", "error": "busy"}),
            {"pdus": [], "auth_chain": []},
            {"pdus": state, "auth_chain": [lies.create.json]},
        ]
    )
    peer.answers["v1/state/"] = lambda _: next(answers)
    lies.given = _short(lies)
    await alice.joins(lies.room_id, via=peer.name)
    await alice.sends(lies.room_id, "usable at once")
    await _is_whole(a, room=lies.room_id)
    members = await alice.members(lies.room_id)
    assert set(members) == {alice.user_id, lies.host, f"@honest:{peer.name}"}
    await alice.sends(lies.room_id, "and later")
