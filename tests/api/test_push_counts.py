"""Unread counts in /sync: what counts, for whom, and what reading does to it."""

import json
from typing import Any

import pytest

from homeserver.push import counts as push_counts
from homeserver.push import keeper as push_keeper
from homeserver.push import pages as push_pages
from tests.support.api import eventually, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
THREADS = json.dumps({"room": {"timeline": {"unread_thread_notifications": True}}})


async def section(client: Client, room: str, **query: str) -> dict[str, Any]:
    """What an initial sync says of the room."""
    reply = await client.get(path("sync"), **query)
    return reply["rooms"]["join"][room]


def pair(counts: dict[str, int]) -> tuple[int, int]:
    return counts["notification_count"], counts["highlight_count"]


async def unread(client: Client, room: str) -> tuple[int, int]:
    """Notifications and highlights."""
    return pair((await section(client, room))["unread_notifications"])


async def by_thread(client: Client, room: str) -> dict[str, tuple[int, int]]:
    """The same, thread by thread."""
    shown = await section(client, room, filter=THREADS)
    threads = shown.get("unread_thread_notifications", {})
    counts = {"main": shown["unread_notifications"], **threads}
    return {thread: pair(count) for thread, count in counts.items()}


async def marks(
    client: Client, room: str, event_id: str, kind: str = "m.read", **body: object
) -> None:
    await client.post(path("rooms", room, "receipt", kind, event_id), body)


async def in_a_room(first: Client, *others: Client) -> str:
    room = await first.creates_room(**PUBLIC)
    for other in others:
        await other.joins(room)
    return room


async def mentions(
    client: Client, room: str, *who: Client, body: str = "hey", **more: object
) -> str:
    content = {"body": body, "msgtype": "m.text", **more}
    content["m.mentions"] = {"user_ids": [each.user_id for each in who]}
    return await client.sends_event(room, "m.room.message", content)


async def replies(client: Client, room: str, root: str, body: str = "r") -> str:
    relation = {"rel_type": "m.thread", "event_id": root}
    content = {"body": body, "msgtype": "m.text", "m.relates_to": relation}
    return await client.sends_event(room, "m.room.message", content)


async def puts_rule(client: Client, kind: str, rule_id: str, **rule: object) -> None:
    await client.put(path("pushrules", "global", kind, rule_id), rule)


# ── What counts ──────────────────────────────────────────────────────────────────────


async def test_messages_of_others_count_and_ones_own_do_not(alice, bob, carol):
    room = await in_a_room(alice, bob, carol)
    assert await unread(bob, room) == (0, 0)
    await alice.sends(room, "1")
    await alice.sends(room, "2")
    assert await unread(bob, room) == await unread(carol, room) == (2, 0)
    assert await unread(alice, room) == (0, 0)
    await alice.sends_event(room, "m.room.encrypted", {"ciphertext": "x"})
    assert await unread(bob, room) == (3, 0)


async def test_what_is_no_message_does_not_count(alice, bob, carol):
    room = await in_a_room(alice, bob)
    event_id = await alice.sends(room, "x")
    await marks(bob, room, event_id)
    about = {"event_id": event_id, "key": "+", "rel_type": "m.annotation"}
    await alice.sends_event(room, "m.reaction", {"m.relates_to": about})
    await alice.sends_event(
        room, "m.room.message", {"msgtype": "m.notice", "body": "notice"}
    )
    edit = {"rel_type": "m.replace", "event_id": event_id}
    content = {"msgtype": "m.text", "body": "* y", "m.relates_to": edit}
    await alice.sends_event(room, "m.room.message", content)
    await alice.sets_state(room, "m.room.name", {"name": "x"})
    await alice.sets_state(room, "m.room.server_acl", {"allow": ["*"]})
    await alice.sends_event(room, "org.example.unheard", {"body": "of"})
    await carol.joins(room)
    assert await unread(bob, room) == (0, 0)


async def test_mentions_highlight_for_those_who_are_mentioned(alice, bob, carol):
    room = await in_a_room(alice, bob, carol)
    await mentions(alice, room, bob)
    assert await unread(bob, room) == (1, 1)
    assert await unread(carol, room) == (1, 0)
    notice = {"msgtype": "m.notice"}
    await mentions(alice, room, bob, **notice)
    assert await unread(bob, room) == (1, 1)
    # What else is of no interest notifies whom it mentions.
    content = {"m.mentions": {"user_ids": [bob.user_id, "\0", 7, "@x"]}}
    await alice.sends_event(room, "org.example.unheard", content)
    assert await unread(bob, room) == (2, 2)
    assert await unread(carol, room) == (1, 0)


async def test_only_those_with_power_mention_the_room(alice, bob, carol):
    room = await in_a_room(alice, bob, carol)
    content = {"body": "all", "msgtype": "m.text", "m.mentions": {"room": True}}
    await bob.sends_event(room, "m.room.message", content)
    assert await unread(carol, room) == (1, 0)
    await alice.sends_event(room, "m.room.message", content)
    assert await unread(carol, room) == (2, 1)
    # It was allowed when it was sent; that counts.
    levels = await alice.state_of(room, "m.room.power_levels")
    levels["notifications"] = {"room": 0}
    await alice.sets_state(room, "m.room.power_levels", levels)
    await bob.sends_event(room, "m.room.message", content)
    assert await unread(carol, room) == (3, 2)
    levels["notifications"] = {"room": 100}
    levels["users"][bob.user_id] = 50
    await alice.sets_state(room, "m.room.power_levels", levels)
    await bob.sends_event(room, "m.room.message", content)
    assert await unread(carol, room) == (4, 2)


async def test_nothing_from_before_a_join_counts(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await alice.sends(room, "before")
    await bob.joins(room)
    assert await unread(bob, room) == (0, 0)
    await alice.sends(room, "after")
    assert await unread(bob, room) == (1, 0)
    # A new name is no new join.
    await bob.sets_displayname("Bobby")
    assert await unread(bob, room) == (1, 0)
    await bob.leaves(room)
    await alice.sends(room, "away")
    await bob.joins(room)
    assert await unread(bob, room) == (0, 0)
    await alice.sends(room, "back")
    assert await unread(bob, room) == (1, 0)


async def test_what_is_redacted_does_not_count(alice, bob, another_process, person):
    room = await in_a_room(alice, bob)
    event_id = await mentions(alice, room, bob)
    await alice.sends(room, "x")
    elsewhere = Client(
        lambda: another_process.session,
        another_process.base_url,
        bob.access_token,
        user_id=bob.user_id,
    )
    assert await unread(bob, room) == await unread(elsewhere, room) == (2, 1)
    await alice.redacts(room, event_id)
    assert await unread(bob, room) == (1, 0)
    await another_process.ctx.live.follower.pull()
    assert await unread(elsewhere, room) == (1, 0)


# ── Reading ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["m.read", "m.read.private"])
async def test_a_receipt_clears_what_is_up_to_it(alice, bob, kind):
    room = await in_a_room(alice, bob)
    ids = [await mentions(alice, room, bob) for _ in range(4)]
    await bob.syncs()
    assert pair(bob.seen.room(room).unread) == (4, 4)
    await marks(bob, room, ids[1], kind)
    assert await unread(bob, room) == (2, 2)
    await bob.syncs()
    assert pair(bob.seen.room(room).unread) == (2, 2)
    await marks(bob, room, ids[0], kind)  # behind: nothing comes back
    assert await unread(bob, room) == (2, 2)
    await marks(bob, room, ids[3], kind)
    assert await unread(bob, room) == (0, 0)
    await bob.syncs()
    assert pair(bob.seen.room(room).unread) == (0, 0)
    assert await unread(alice, room) == (0, 0)


async def test_the_receipt_that_is_ahead_counts(alice, bob):
    room = await in_a_room(alice, bob)
    a, _, c, d = [await alice.sends(room, str(n)) for n in range(4)]
    await marks(bob, room, c)
    await marks(bob, room, a, "m.read.private")
    assert await unread(bob, room) == (1, 0)
    await marks(bob, room, d, "m.read.private")
    assert await unread(bob, room) == (0, 0)


async def test_sending_says_that_one_has_read(alice, bob):
    room = await in_a_room(alice, bob)
    await mentions(alice, room, bob)
    await bob.sets_displayname("Bobby")  # says nothing
    assert await unread(bob, room) == (1, 1)
    await bob.sends(room, "answer")
    assert await unread(bob, room) == (0, 0)
    await alice.sends(room, "x")
    assert await unread(bob, room) == (1, 0)


async def test_counts_reach_clients_that_want_no_receipts(alice, bob):
    room = await in_a_room(alice, bob)
    event_id = await alice.sends(room, "x")
    wanted = json.dumps({"room": {"ephemeral": {"types": []}}})
    reply = await bob.syncs(filter=wanted)
    assert pair(reply["rooms"]["join"][room]["unread_notifications"]) == (1, 0)
    await marks(bob, room, event_id)
    reply = await bob.syncs(filter=wanted)
    assert pair(reply["rooms"]["join"][room]["unread_notifications"]) == (0, 0)
    assert "rooms" not in await bob.syncs(filter=wanted)


async def test_the_count_comes_with_the_event(alice, bob):
    room = await in_a_room(alice, bob)
    await bob.syncs()
    for n in range(1, 4):
        await mentions(alice, room, bob, body=str(n))
        await bob.sees(room, str(n))
        assert pair(bob.seen.room(room).unread) == (n, n)


# ── Threads ──────────────────────────────────────────────────────────────────────────


async def test_threads_are_counted_apart_for_clients_that_know_them(alice, bob):
    room = await in_a_room(alice, bob)
    root = await alice.sends(room, "root")
    other = await alice.sends(room, "other")
    first = await replies(alice, room, root)
    relation = {"rel_type": "m.thread", "event_id": root}
    loud = await mentions(alice, room, bob, **{"m.relates_to": relation})
    await replies(alice, room, other)
    assert await by_thread(bob, room) == {"main": (2, 0), root: (2, 1), other: (1, 0)}
    assert await unread(bob, room) == (5, 1)
    await marks(bob, room, first, thread_id=root)
    assert await by_thread(bob, room) == {"main": (2, 0), root: (1, 1), other: (1, 0)}
    await marks(bob, room, loud, "m.read.private", thread_id=root)
    assert await by_thread(bob, room) == {"main": (2, 0), other: (1, 0)}
    await marks(bob, room, other, thread_id="main")
    assert await by_thread(bob, room) == {"main": (0, 0), other: (1, 0)}
    # Without a thread it is about everything up to it.
    last = await replies(alice, room, root)
    await marks(bob, room, last)
    assert await by_thread(bob, room) == {"main": (0, 0)}
    await replies(alice, room, other)
    assert await by_thread(bob, room) == {"main": (0, 0), other: (1, 0)}


async def test_what_relates_to_a_thread_is_of_it(alice, bob):
    room = await in_a_room(alice, bob)
    root = await alice.sends(room, "root")
    reply = await replies(alice, room, root)
    about = {"rel_type": "m.reference", "event_id": reply}
    content = {"body": "of the thread", "msgtype": "m.text", "m.relates_to": about}
    await alice.sends_event(room, "m.room.message", content)
    about["event_id"] = root  # a root is in the main timeline
    await alice.sends_event(room, "m.room.message", content)
    assert await by_thread(bob, room) == {"main": (2, 0), root: (2, 0)}
    about.update(rel_type="m.thread", event_id="nonsense")
    await alice.sends_event(room, "m.room.message", content)
    assert await by_thread(bob, room) == {"main": (3, 0), root: (2, 0)}
    # An answer reads its own thread.
    await replies(bob, room, root)
    assert await by_thread(bob, room) == {"main": (3, 0)}
    await bob.sends(room, "main")
    assert await by_thread(bob, room) == {"main": (0, 0)}


# ── Rules of one's own ───────────────────────────────────────────────────────────────


async def test_rules_decide_from_when_they_are_set(alice, bob, carol):
    room = await in_a_room(alice, bob, carol)
    await alice.sends(room, "loud")
    await puts_rule(bob, "room", room, actions=[])
    await alice.sends(room, "muted")
    assert await unread(bob, room) == (1, 0)
    await mentions(alice, room, bob)  # overrides the room's rule
    assert await unread(bob, room) == (2, 1)
    await bob.delete(path("pushrules", "global", "room", room))
    await alice.sends(room, "loud again")
    assert await unread(bob, room) == (3, 1)
    assert await unread(carol, room) == (4, 0)
    # Whoever counts anew comes to the same.
    await marks(bob, room, await carol.sends(room, "x"), thread_id="main")
    await alice.sends(room, "y")
    assert await unread(bob, room) == (1, 0)


async def test_rules_of_every_kind_decide(alice, bob):
    room = await in_a_room(alice, bob)
    loud = ["notify", {"set_tweak": "highlight"}]
    await puts_rule(bob, "content", "cake", pattern="cake", actions=loud)
    await alice.sends(room, "Cake?")
    await alice.sends(room, "pancake")
    assert await unread(bob, room) == (2, 1)
    await puts_rule(bob, "sender", alice.user_id, actions=[])
    await alice.sends(room, "hello")
    await alice.sends(room, "more cake")
    assert await unread(bob, room) == (3, 2)
    name = {"kind": "contains_display_name"}
    few = {"kind": "room_member_count", "is": "<3"}
    await bob.sets_displayname("Bob B.")
    await puts_rule(bob, "override", "me", conditions=[name, few], actions=loud)
    await alice.sends(room, "is bob b. there?")
    await alice.sends(room, "is bobb there?")
    assert await unread(bob, room) == (4, 3)
    levels = {"kind": "sender_notification_permission", "key": "room"}
    await puts_rule(bob, "override", "power", conditions=[levels], actions=["notify"])
    await alice.sends_event(room, "org.example.any", {})
    assert await unread(bob, room) == (5, 3)
    await bob.put(
        path("pushrules", "global", "override", ".m.rule.master", "enabled"),
        {"enabled": True},
    )
    await mentions(alice, room, bob)
    assert await unread(bob, room) == (5, 3)


# ── Long ways ────────────────────────────────────────────────────────────────────────


async def test_long_ways_come_to_the_same(
    alice, bob, carol, person, another_process, monkeypatch
):
    """Pages and tallies that are kept only shorten the way."""
    monkeypatch.setattr(push_pages, "PAGE", 16)
    monkeypatch.setattr(push_counts, "_LONG_WAY", 20)
    dave = await person()
    room = await in_a_room(alice, bob, carol, dave)
    await puts_rule(carol, "content", "cake", pattern="cake", actions=["notify"])
    ids = []
    for n in range(100):
        if n % 10 == 0:
            ids.append(await mentions(alice, room, bob, carol, body=f"{n} cake"))
        elif n % 10 == 5:
            ids.append(await replies(alice, room, ids[0], f"{n}"))
        else:
            ids.append(await alice.sends(room, f"{n}"))

    def elsewhere(client: Client) -> Client:
        return Client(
            lambda: another_process.session,
            another_process.base_url,
            client.access_token,
            user_id=client.user_id,
        )

    for client in (bob, carol):
        assert await unread(client, room) == (100, 10)
    there = elsewhere(dave)
    assert await unread(there, room) == (100, 0)
    assert await by_thread(there, room) == {"main": (90, 0), ids[0]: (10, 0)}
    assert await by_thread(elsewhere(bob), room) == {"main": (90, 10), ids[0]: (10, 0)}
    assert await unread(elsewhere(carol), room) == (100, 10)
    # In the middle of a page, and what is redacted of one.
    await marks(dave, room, ids[22])
    assert await unread(dave, room) == (77, 0)
    for event_id in (ids[10], ids[30], ids[99]):
        await alice.redacts(room, event_id)
    await another_process.ctx.live.follower.pull()
    for client in (dave, elsewhere(dave)):
        assert await unread(client, room) == (75, 0)
    for client in (bob, elsewhere(bob), carol, elsewhere(carol)):
        assert await unread(client, room) == (97, 8)


async def test_ways_are_shortened_before_somebody_goes_them(
    hearth, alice, bob, carol, another_process, monkeypatch
):
    monkeypatch.setattr(push_pages, "PAGE", 8)
    monkeypatch.setattr(push_keeper, "_PAGES", 3)
    monkeypatch.setattr(push_keeper, "_REFRESH_SECONDS", 0)
    room = await in_a_room(alice, bob, carol)
    await puts_rule(carol, "content", "cake", pattern="cake", actions=["notify"])
    await puts_rule(bob, "room", "!elsewhere:x", actions=[])
    for n in range(120):
        await alice.sends(room, str(n))
    nid = await hearth.ctx.live.room_nid(room)

    async def is_kept() -> bool:
        async with hearth.ctx.db.read() as tx:
            pages = await tx.fetchval(
                "SELECT count(*) FROM push_pages WHERE room_nid = $1", nid
            )
            users = await tx.fetch(
                "SELECT user_id FROM push_tallies WHERE room_nid = $1", nid
            )
        return pages >= 10 and [row["user_id"] for row in users] == [carol.user_id]

    await eventually(is_kept, "pages for all, and a tally for who has own rules")
    there = another_process
    for client in (bob, carol):
        client = Client(  # noqa: PLW2901 - the same user, elsewhere
            lambda: there.session,
            there.base_url,
            client.access_token,
            user_id=client.user_id,
        )
        assert await unread(client, room) == (120, 0)
