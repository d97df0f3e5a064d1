"""Push rules for threads that users follow, where the operator wants them. MSC4306."""

from typing import Any

import pytest

from tests.api.test_push_counts import by_thread, mentions, unread
from tests.api.test_thread_subscriptions import drops, follows
from tests.support.api import RefusedError, path
from tests.support.app import Running
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
RULES = path("pushrules") + "/"
NAME = ".io.element.msc4306.rule.subscribed_thread"


@pytest.fixture
async def threaded(another) -> Running:
    return await another(push={"thread_subscriptions": True})


async def answers(client: Client, room: str, root: str, **content: Any) -> str:
    relation = {"rel_type": "m.thread", "event_id": root}
    message = {"msgtype": "m.text", "body": "x", "m.relates_to": relation, **content}
    return await client.sends_event(room, "m.room.message", message)


async def notified(client: Client) -> list[str]:
    page = await client.get(path("notifications"))
    return [each["event"]["event_id"] for each in page["notifications"]][::-1]


async def test_threads_notify_those_who_follow_them(threaded, person):
    alice, bob, carol = [await person(threaded) for _ in range(3)]
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    # Carol has rules of her own, so that hers are judged one by one: she mutes the
    # room, which does not silence what she follows.
    await carol.put(path("pushrules", "global", "room", room), {"actions": []})
    root = await alice.sends(room, "root")
    other = await alice.sends(room, "of another thread")
    await bob.marks_read(room, other)
    await carol.marks_read(room, other)
    await answers(alice, room, root)
    for member in (bob, carol):
        assert await by_thread(member, room) == {"main": (0, 0)}
        assert await notified(member) == ([root, other] if member is bob else [])
    await follows(bob, room, root)
    await follows(carol, room, root)
    first = await answers(alice, room, root)
    await answers(alice, room, other)
    notice = await answers(alice, room, root, msgtype="m.notice")
    for member in (bob, carol):
        counted = await by_thread(member, room)
        # What they follow now counts from the beginning, as what they ignore does.
        assert counted == {"main": (0, 0), root: (2, 0)}
        assert first in await notified(member)
        assert notice not in await notified(member)
    # Whoever is mentioned is told, wherever that is.
    relation = {"m.relates_to": {"rel_type": "m.thread", "event_id": other}}
    loud = await mentions(alice, room, bob, carol, **relation)
    for member in (bob, carol):
        assert (await by_thread(member, room))[other] == (1, 1)
        assert loud in await notified(member)
    await alice.sends(room, "out of threads")
    assert (await by_thread(bob, room))["main"] == (1, 0)
    assert (await by_thread(carol, room))["main"] == (0, 0)
    for member in (bob, carol):
        await drops(member, room, root)
        assert root not in await by_thread(member, room)


async def test_the_rules_are_the_servers(threaded, person, alice, hearth):
    versions = await threaded.nobody.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4306"] is True
    bob = await person(threaded)
    rules = (await bob.get(RULES))["global"]
    assert list(rules) == [
        "override",
        "content",
        "postcontent",
        "room",
        "sender",
        "underride",
    ]
    unsubscribed, subscribed = rules["postcontent"]
    assert subscribed["rule_id"] == NAME
    assert unsubscribed["actions"] == []
    assert unsubscribed["conditions"] == [
        {"kind": "io.element.msc4306.thread_subscription", "subscribed": False}
    ]
    own = path("pushrules", "global", "postcontent", "mine")
    with pytest.raises(RefusedError) as error:
        await bob.put(own, {"conditions": [], "actions": ["notify"]})
    assert (error.value.status, error.value.errcode) == (400, "M_INVALID_PARAM")
    switch = path("pushrules", "global", "postcontent", NAME, "enabled")
    await bob.put(switch, {"enabled": False})
    assert await bob.get(switch) == {"enabled": False}
    # Elsewhere they are not there, and threads notify everybody.
    versions = await hearth.nobody.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4306"] is False
    assert "postcontent" not in (await alice.get(RULES))["global"]
    status, _ = await alice.answer("PUT", switch, {"enabled": False})
    assert status == 404


async def test_elsewhere_threads_notify_everybody(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    root = await alice.sends(room, "root")
    await answers(alice, room, root)
    assert await unread(bob, room) == (2, 0)
