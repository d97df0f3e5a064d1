"""What works in a room whose members are not there yet, and what must wait for them.

Spec: MSC3902
"""

import asyncio
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from federation.wire.transport import Answer
from tests.federated.test_joins_partial import (
    _LAZY,
    HeldBack,
    _is_partial,
    _is_whole,
    _large_room,
)
from tests.support.api import path
from tests.support.client import Client, RefusedError
from tests.support.seen import Seen
from tests.support.sites import Site, World, agree, eventually

MANY = "many.do.not.count.as.two"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of two counts as large."""
    monkeypatch.setattr("homeserver.rooms.server_api.handover.FEW_MEMBERS", 0)


@pytest.fixture
async def a(world: World) -> Site:
    return await world.site(1)


def _lazily(who: Client) -> Client:
    """The same person with a client that loads members as they are needed."""
    return Client(
        who.http, who.base_url, who.access_token, user_id=who.user_id, seen=Seen()
    )


async def test_typing_mentions_and_a_third_server(
    a: Site, b: Site, c: Site, alice: Client, bob: Client, carol: Client
) -> None:
    rule = {
        "conditions": [{"kind": "room_member_count", "is": "<=2"}],
        "actions": ["notify", {"set_tweak": "highlight"}],
    }
    await bob.put(path("pushrules", "global", "override", MANY), rule)
    room = await _large_room(a, alice)
    await carol.joins(room, via=alice)
    await alice.sees_member(room, carol, "join")
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    await bob.sends(room, "hello")
    # The third server is one of those that a has named, though no member says so yet.
    await carol.sees(room, "hello", by=bob)
    await alice.sends(room, "said to many")
    lazy = _lazily(bob)
    found: dict[str, Any] = {}

    async def hears(body: str) -> bool:
        reply = await lazy.syncs(wait=1, filter=_LAZY)
        found.update(reply.get("rooms", {}).get("join", {}).get(room, {}))
        return any(
            e["content"].get("body") == body for e in lazy.seen.room(room).timeline
        )

    await eventually(lambda: hears("said to many"), "bob hears alice")
    assert found["unread_notifications"] == {
        "notification_count": 1,
        "highlight_count": 0,
    }
    content = {"msgtype": "m.text", "body": "all!", "m.mentions": {"room": True}}
    await alice.sends_event(room, "m.room.message", content)
    await eventually(lambda: hears("all!"), "bob hears that all are meant")
    assert found["unread_notifications"]["highlight_count"] == 1
    await carol.sets_typing(room)

    async def types(who: Client, reader: Client, **query: str) -> bool:
        reply = await reader.syncs(wait=1, **query)
        part = reply.get("rooms", {}).get("join", {}).get(room, {})
        events = part.get("ephemeral", {}).get("events", [])
        return any(who.user_id in e["content"].get("user_ids", ()) for e in events)

    await eventually(lambda: types(carol, lazy, filter=_LAZY), "bob sees carol type")
    await bob.sets_typing(room)
    for reader in (alice, carol):
        await eventually(lambda r=reader: types(bob, r), "they see bob type")  # type: ignore[misc]
    assert await _is_partial(b, room)
    held.let.set()
    await _is_whole(b, c, room=room)
    await agree(room, a, b, c)


async def test_who_is_put_out_meanwhile_is_out(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await _large_room(a, alice)
    held = HeldBack(b)
    await bob.joins(room, via=alice)
    await bob.sends(room, "hello")
    await alice.sees(room, "hello", by=bob)
    # A first sync shows no rooms that were left, so bob's comes before that.
    await bob.syncs()
    await alice.kicks(room, bob, "not now")
    await bob.is_shown(room, "leave")
    with pytest.raises(RefusedError) as refused:
        await bob.sends(room, "but why?")
    assert refused.value.status == 403
    assert await bob.joined_rooms() == []
    # Banned he stays out; and let in again he finds the room as it is.
    await alice.bans(room, bob)
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403
    await alice.unbans(room, bob)
    held.let.set()
    await bob.joins(room, via=alice)
    await _is_whole(b, room=room)
    await agree(room, a, b)
    await alice.sends(room, "welcome back")
    await bob.sees(room, "welcome back")


async def test_members_of_an_earlier_stay_are_not_taken_for_those_of_this_one(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    """The answer about the first join comes when the second awaits its members."""
    room = await _large_room(a, alice)
    late = Late(b)
    await bob.joins(room, via=alice)
    await eventually(lambda: _is(late.asked), "b asks for the members")
    await bob.syncs()
    await alice.kicks(room, bob)
    await bob.is_shown(room, "leave")
    await alice.sets_state(room, "m.room.topic", {"topic": "set meanwhile"})
    await bob.joins(room, via=alice)
    first = late.asked[0]
    await eventually(lambda: _is(set(late.asked) - {first}), "b asks again")
    late.first.set()
    count = len(late.asked)
    await eventually(lambda: _is(len(late.asked) > count), "b goes on asking", 60)
    assert await _is_partial(b, room)
    late.rest.set()
    await _is_whole(b, room=room)
    await agree(room, a, b)


async def _is(value: object) -> bool:
    return bool(value)


class Late:
    """A site whose first question for a state waits, and whose next ones fail."""

    def __init__(self, site: Site) -> None:
        self.asked: list[str] = []  # the events at which the states are
        self.first, self.rest = asyncio.Event(), asyncio.Event()
        for process in site.processes:
            wire = process.ctx.wire
            wire._deliver = self._guarded(wire._deliver)

    def _guarded(self, deliver: Any) -> Any:
        async def guarded(request: Any) -> Any:
            if "/federation/v1/state/" not in request.target:
                return await deliver(request)
            self.asked.append(request.target.partition("event_id=")[2])
            if self.asked[-1] == self.asked[0]:
                await self.first.wait()
            elif not self.rest.is_set():
                body = b'{"errcode":"M_UNKNOWN","error":"held back by the test"}'
                return Answer(503, CIMultiDictProxy(CIMultiDict()), body)
            return await deliver(request)

        return guarded
