"""Receipts, fully read markers, and the receipts of other servers' users."""

import asyncio

import pytest

from homeserver.receipts import edus
from homeserver.receipts.content import contents_of
from homeserver.receipts.store import Receipt
from tests.support.api import RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
FORBIDDEN = (403, "M_FORBIDDEN")
INVALID = (400, "M_INVALID_PARAM")
NOT_FOUND = (404, "M_NOT_FOUND")
UNKNOWN = "$" + "a" * 43


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def marks(
    client: Client, room: str, event_id: str, kind: str = "m.read", **body: object
) -> None:
    await client.post(path("rooms", room, "receipt", kind, event_id), body)


async def contents(client: Client, room: str) -> list[dict]:
    """The receipts that an initial sync shows, event by event."""
    reply = await client.get(path("sync"))
    ephemeral = reply["rooms"]["join"][room]["ephemeral"]["events"]
    return [event["content"] for event in ephemeral if event["type"] == "m.receipt"]


async def receipts(client: Client, room: str) -> dict:
    """The same, when it is one event: {event: {type: {user: receipt}}}."""
    shown = await contents(client, room)
    assert len(shown) <= 1
    return shown[0] if shown else {}


async def two_in_a_room(alice: Client, bob: Client) -> str:
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    return room


async def test_a_receipt_is_shown_to_everybody_in_the_room(alice, bob):
    room = await two_in_a_room(alice, bob)
    event_id = await alice.sends(room, "x")
    await alice.syncs()
    await marks(bob, room, event_id)
    await alice.sees_receipt(room, event_id, bob)
    shown = await receipts(alice, room)
    assert shown[event_id]["m.read"][bob.user_id]["ts"] > 10**12
    assert "thread_id" not in shown[event_id]["m.read"][bob.user_id]


async def test_a_private_receipt_is_shown_to_its_user_alone(alice, bob):
    room = await two_in_a_room(alice, bob)
    event_id = await alice.sends(room, "x")
    await marks(bob, room, event_id, "m.read.private")
    assert await receipts(alice, room) == {}
    shown = await receipts(bob, room)
    assert bob.user_id in shown[event_id]["m.read.private"]


async def test_a_receipt_moves_forwards_only(alice, bob):
    room = await two_in_a_room(alice, bob)
    first, second, third = [await alice.sends(room, str(n)) for n in range(3)]
    await marks(bob, room, second)
    await marks(bob, room, first)
    assert list(await receipts(alice, room)) == [second]
    await marks(bob, room, third)
    assert list(await receipts(alice, room)) == [third]
    await marks(bob, room, first, "m.read.private")
    shown = await receipts(bob, room)
    assert set(shown) == {third, first}


async def test_many_receipts_at_once_leave_the_furthest(alice, bob):
    room = await two_in_a_room(alice, bob)
    ids = [await alice.sends(room, str(n)) for n in range(10)]
    await asyncio.gather(*(marks(bob, room, each) for each in ids[::-1]))
    assert list(await receipts(alice, room)) == [ids[-1]]


async def test_each_thread_has_a_receipt_of_its_own(alice, bob):
    room = await two_in_a_room(alice, bob)
    root = await alice.sends(room, "root")
    relates = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    reply = await alice.sends_event(room, "m.room.message", {"body": "r", **relates})
    about = {
        "m.relates_to": {"rel_type": "m.annotation", "event_id": reply, "key": "x"}
    }
    reaction = await alice.sends_event(room, "m.reaction", about)
    main = await alice.sends(room, "main")
    # A thread may be read to its root, which is in the main timeline.
    for body in ({}, {"thread_id": root}, {"thread_id": "main"}):
        await marks(bob, room, root, **body)
    at_root = [c[root]["m.read"][bob.user_id] for c in await contents(alice, room)]
    assert [each.get("thread_id") for each in at_root] == [None, root, "main"]
    await marks(bob, room, reply, thread_id=root)
    await marks(bob, room, main, thread_id="main")
    shown = await receipts(alice, room)
    found = {
        event_id: by_type["m.read"][bob.user_id].get("thread_id")
        for event_id, by_type in shown.items()
    }
    assert found == {reply: root, main: "main", root: None}
    await marks(bob, room, reaction, thread_id=root)  # in the thread through another
    for event_id, thread_id in [
        (reply, "main"),
        (main, root),
        (main, reply),
        (reaction, "main"),
    ]:
        call = marks(bob, room, event_id, thread_id=thread_id)
        assert await refusal(call) == INVALID


async def test_what_is_no_receipt_is_refused(alice, bob, carol):
    room = await two_in_a_room(alice, bob)
    event_id = await alice.sends(room, "x")
    elsewhere = await alice.sends(await alice.creates_room(), "y")
    for body in (
        {"thread_id": ""},
        {"thread_id": 7},
        {"thread_id": None},
        {"thread_id": "nonsense"},
        {"thread_id": "$x\0:y"},
    ):
        assert await refusal(marks(bob, room, event_id, **body)) == INVALID
    call = marks(bob, room, event_id, "m.fully_read", thread_id="main")
    assert await refusal(call) == INVALID
    assert await refusal(marks(bob, room, event_id, "m.other")) == INVALID
    assert await refusal(marks(bob, room, "nonsense")) == INVALID
    assert await refusal(marks(bob, room, UNKNOWN)) == NOT_FOUND
    assert await refusal(marks(bob, room, elsewhere)) == NOT_FOUND
    assert await refusal(marks(carol, room, event_id)) == FORBIDDEN
    where = path("rooms", room, "receipt", "m.read", event_id)
    assert (await bob.answer("POST", where, [1]))[0] == 400
    assert (await bob.answer("POST", where))[0] == 200


async def test_markers_are_set_in_one_go(alice, bob):
    room = await two_in_a_room(alice, bob)
    first, second = await alice.sends(room, "1"), await alice.sends(room, "2")
    where = path("rooms", room, "read_markers")
    body = {"m.fully_read": first, "m.read": second, "m.read.private": second}
    await bob.post(where, body)
    shown = await receipts(bob, room)
    assert set(shown[second]) == {"m.read", "m.read.private"}
    data = path("user", bob.user_id, "rooms", room, "account_data", "m.fully_read")
    assert await bob.get(data) == {"event_id": first}
    await bob.post(path("rooms", room, "receipt", "m.fully_read", second))
    assert await bob.get(data) == {"event_id": second}
    assert set(await receipts(alice, room)) == {second}
    await bob.post(where, {})
    for body, answer in [
        ({"m.read": 7}, (400, "M_BAD_JSON")),
        ({"m.read": "x"}, INVALID),
        ({"m.fully_read": UNKNOWN}, NOT_FOUND),
    ]:
        assert await refusal(bob.post(where, body)) == answer


# ── Between servers ──────────────────────────────────────────────────────────────────


def edu_of(room: str, user: str, event_id: str, **data: object) -> dict:
    entry = {"event_ids": [event_id], "data": {"ts": 1_700_000_000_000} | data}
    return {room: {"m.read": {user: entry}}}


async def test_receipts_of_other_servers_count_for_their_joined_users(
    hearth, alice, bob
):
    ctx = hearth.ctx
    room = await two_in_a_room(alice, bob)
    event_id = await alice.sends(room, "x")
    # For the sake of the test, bob's server is another one that speaks for him.
    await edus.receive(ctx, "hearth.test", edu_of(room, bob.user_id, event_id))
    shown = await receipts(alice, room)
    assert shown[event_id]["m.read"][bob.user_id] == {"ts": 1_700_000_000_000}
    stranger = "@stranger:hearth.test"
    for origin, content in [
        ("evil.test", edu_of(room, alice.user_id, event_id)),
        ("hearth.test", edu_of(room, stranger, event_id)),
        ("hearth.test", edu_of("!nowhere:x", bob.user_id, event_id)),
        ("hearth.test", edu_of(room, alice.user_id, event_id, ts=2**70)),
        ("hearth.test", edu_of(room, alice.user_id, event_id, ts=-1)),
        ("hearth.test", edu_of(room, alice.user_id, event_id, thread_id="x" * 9000)),
        ("hearth.test", edu_of(room, alice.user_id, event_id, thread_id="$\0:x")),
        ("hearth.test", edu_of(room, alice.user_id, "$\ud800:x")),
        ("hearth.test", {room: {"m.read.private": {alice.user_id: {}}}}),
        ("hearth.test", {room: 7, "\0": {"m.read": {"\0": 1}}}),
        ("hearth.test", {}),
    ]:
        await edus.receive(ctx, origin, content)
    assert await receipts(alice, room) == shown


async def test_a_receipt_may_come_before_its_event(hearth, alice, bob):
    room = await two_in_a_room(alice, bob)
    await edus.receive(hearth.ctx, "hearth.test", edu_of(room, bob.user_id, UNKNOWN))
    assert set(await receipts(alice, room)) == {UNKNOWN}


def test_receipts_of_several_threads_at_one_event_need_several_events():
    def receipt(user: str, thread_id: str | None) -> Receipt:
        return Receipt(1, user, "m.read", "$e", 5, thread_id)

    contents = contents_of(
        [receipt("@a:x", None), receipt("@a:x", "main"), receipt("@b:x", "main")]
    )
    assert contents == [
        {
            "$e": {
                "m.read": {
                    "@a:x": {"ts": 5},
                    "@b:x": {"ts": 5, "thread_id": "main"},
                }
            }
        },
        {"$e": {"m.read": {"@a:x": {"ts": 5, "thread_id": "main"}}}},
    ]
    assert contents_of([]) == []
