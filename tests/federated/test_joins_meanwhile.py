"""What works in a room whose members are not there yet, and what must wait for them.

Spec: MSC3902
"""

from typing import Any

import pytest

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
