"""Pages of history, single events, their surroundings, and looking for a time."""

import json

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
FORBIDDEN = (403, "M_FORBIDDEN")
NOT_FOUND = (404, "M_NOT_FOUND")
NOWHERE = "!nowhere:hearth.test"


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


def texts(chunk) -> list[str]:
    return [e["content"]["body"] for e in chunk if "body" in e["content"]]


async def chat(client: Client, room: str, count: int, word: str = "") -> list[str]:
    """Send numbered messages; their event IDs."""
    return [await client.sends(room, f"{word}{n}") for n in range(count)]


async def page(client: Client, room: str, **query: object) -> dict:
    filter_ = query.pop("filter", None)
    asked = {name.rstrip("_"): str(value) for name, value in query.items()}
    if filter_ is not None:
        asked["filter"] = json.dumps(filter_)
    return await client.call("GET", path("rooms", room, "messages"), query=asked)


def visibility(value: str) -> list[dict]:
    content = {"history_visibility": value}
    return [{"type": "m.room.history_visibility", "content": content}]


# ── Paging ───────────────────────────────────────────────────────────────────────────


async def test_backwards_from_the_end_to_the_beginning(alice):
    room = await alice.creates_room()
    sent = await chat(alice, room, 25)
    seen: list[dict] = []
    query: dict[str, object] = {}
    sizes = []
    while True:
        reply = await page(alice, room, dir="b", limit=10, **query)
        seen += reply["chunk"]
        sizes.append(len(reply["chunk"]))
        if "end" not in reply:
            break
        query = {"from_": reply["end"]}
    assert [e["event_id"] for e in seen if "body" in e["content"]] == sent[::-1]
    assert seen[-1]["type"] == "m.room.create"
    assert len({e["event_id"] for e in seen}) == len(seen)
    assert sizes[:3] == [10, 10, 10]


async def test_forwards_from_the_beginning_to_the_end(alice):
    room = await alice.creates_room()
    await chat(alice, room, 25)
    first = await page(alice, room, dir="f", limit=7)
    assert first["chunk"][0]["type"] == "m.room.create"
    seen = first["chunk"]
    while "end" in first:
        first = await page(alice, room, dir="f", limit=7, from_=first["end"])
        seen += first["chunk"]
    assert texts(seen) == [str(n) for n in range(25)]


async def test_a_token_works_in_both_directions(alice):
    room = await alice.creates_room()
    await chat(alice, room, 10)
    older = await page(alice, room, dir="b", limit=4)
    newer = await page(alice, room, dir="f", limit=10, from_=older["end"])
    assert texts(newer["chunk"]) == texts(older["chunk"])[::-1]
    again = await page(alice, room, dir="b", limit=4, from_=older["start"])
    assert again["chunk"] == older["chunk"] or texts(again["chunk"]) == texts(
        older["chunk"]
    )


async def test_what_came_after_a_token_is_shown_forwards_only(alice):
    room = await alice.creates_room()
    await chat(alice, room, 3, "old")
    await alice.syncs()
    token = alice.seen.since
    await chat(alice, room, 3, "new")
    older = await page(alice, room, dir="b", limit=3, from_=token)
    newer = await page(alice, room, dir="f", limit=9, from_=token)
    assert texts(older["chunk"]) == ["old2", "old1", "old0"]
    assert texts(newer["chunk"]) == ["new0", "new1", "new2"]
    assert older["start"] == token


async def test_the_gap_of_a_limited_sync_can_be_filled(alice):
    room = await alice.creates_room()
    since = (await alice.get(path("sync")))["next_batch"]
    await chat(alice, room, 30)
    reply = await alice.get(path("sync"), since=since)
    timeline = reply["rooms"]["join"][room]["timeline"]
    assert timeline["limited"] is True
    shown = texts(timeline["events"])
    gap = await page(
        alice, room, dir="b", limit=50, from_=timeline["prev_batch"], to=since
    )
    assert texts(gap["chunk"])[::-1] + shown == [str(n) for n in range(30)]
    assert "end" not in gap


async def test_to_stops_in_both_directions(alice):
    room = await alice.creates_room()
    await chat(alice, room, 3, "a")
    await alice.syncs()
    middle = alice.seen.since
    await chat(alice, room, 3, "b")
    await alice.syncs()
    later = alice.seen.since
    await chat(alice, room, 3, "c")
    newer = await page(alice, room, dir="b", limit=50, to=middle)
    assert texts(newer["chunk"]) == ["c2", "c1", "c0", "b2", "b1", "b0"]
    between = await page(alice, room, dir="f", limit=50, from_=middle, to=later)
    assert texts(between["chunk"]) == ["b0", "b1", "b2"]


async def test_a_filter_is_applied_and_the_page_filled_all_the_same(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    for n in range(40):
        await (bob if n % 8 == 0 else alice).sends(room, str(n))
    only_bob = {"senders": [bob.user_id], "types": ["m.room.message"]}
    reply = await page(alice, room, dir="b", limit=5, filter=only_bob)
    assert texts(reply["chunk"]) == ["32", "24", "16", "8", "0"]
    with_url = {"contains_url": True}
    assert (await page(alice, room, dir="b", filter=with_url))["chunk"] == []
    assert (await page(alice, room, dir="b", filter={"rooms": []}))["chunk"] == []
    of_filter = await page(alice, room, dir="b", filter={"limit": 2})
    assert len(of_filter["chunk"]) == 2


async def test_lazy_members_come_with_those_who_spoke(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await carol.joins(room)
    await chat(alice, room, 3)
    await bob.sends(room, "b")
    lazy = {"lazy_load_members": True, "types": ["m.room.message"]}
    reply = await page(carol, room, dir="b", limit=4, filter=lazy)
    members = {e["state_key"] for e in reply["state"]}
    assert members == {alice.user_id, bob.user_id}
    reply = await page(carol, room, dir="b", limit=1, filter=lazy)
    assert {e["state_key"] for e in reply["state"]} == {bob.user_id}
    assert "state" not in await page(carol, room, dir="b", limit=1)


async def test_bad_parameters_are_refused(alice, bob):
    room = await alice.creates_room()
    for query, errcode in [
        ({}, "M_MISSING_PARAM"),
        ({"dir": "x"}, "M_INVALID_PARAM"),
        ({"dir": "b", "limit": "-1"}, "M_INVALID_PARAM"),
        ({"dir": "b", "limit": "many"}, "M_INVALID_PARAM"),
        ({"dir": "b", "from": "nonsense"}, "M_INVALID_PARAM"),
        ({"dir": "b", "from": ""}, "M_INVALID_PARAM"),
        ({"dir": "b", "to": "s1t"}, "M_INVALID_PARAM"),
        ({"dir": "b", "from": "s9999999999999999999999"}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": "{"}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": "7"}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": '{"limit":-1}'}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": '{"types":7}'}, "M_INVALID_PARAM"),
        ({"dir": "b", "filter": "[" * 5000}, "M_INVALID_PARAM"),
    ]:
        call = alice.call("GET", path("rooms", room, "messages"), query=query)
        assert await refusal(call) == (400, errcode), query
    for where in (room, NOWHERE):
        assert await refusal(bob.messages(where)) == FORBIDDEN
    for query in ({"from": "s99999999"}, {"from": "s1t5_-7"}, {"limit": "0"}):
        await alice.call(
            "GET", path("rooms", room, "messages"), query={"dir": "b", **query}
        )


# ── Who may see what ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "seen_by_bob"),
    [
        ("shared", ["before", "invited", "joined"]),
        ("invited", ["invited", "joined"]),
        ("joined", ["joined"]),
        ("world_readable", ["before", "invited", "joined", "gone"]),
    ],
)
async def test_history_visibility_decides_what_members_see(
    alice, bob, rule, seen_by_bob
):
    room = await alice.creates_room(initial_state=visibility(rule))
    ids = {"before": await alice.sends(room, "before")}
    await alice.invites(room, bob)
    ids["invited"] = await alice.sends(room, "invited")
    await bob.joins(room)
    ids["joined"] = await alice.sends(room, "joined")
    await bob.leaves(room)
    ids["gone"] = await alice.sends(room, "gone")
    assert texts(await bob.history(room)) == seen_by_bob
    forwards = await page(bob, room, dir="f", limit=100)
    assert texts(forwards["chunk"]) == seen_by_bob
    for word, event_id in ids.items():
        if word in seen_by_bob:
            assert texts([await bob.reads_event(room, event_id)]) == [word]
            await bob.context(room, event_id)
        else:
            assert await refusal(bob.reads_event(room, event_id)) == NOT_FOUND
            assert await refusal(bob.context(room, event_id)) == NOT_FOUND


async def test_who_left_pages_up_to_their_leaving(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await chat(alice, room, 3, "with")
    await bob.leaves(room)
    await chat(alice, room, 3, "without")
    reply = await bob.messages(room, limit=2)
    assert reply["chunk"][0]["content"] == {"membership": "leave"}
    assert texts(reply["chunk"]) == ["with2"]
    forwards = await page(bob, room, dir="f", limit=100)
    assert texts(forwards["chunk"]) == ["with0", "with1", "with2"]
    # Also when they were banned afterwards.
    await alice.bans(room, bob)
    assert texts(await bob.history(room)) == ["with0", "with1", "with2"]


# ── Events and their surroundings ────────────────────────────────────────────────────


async def test_an_event_is_read_by_its_id(alice, bob):
    room = await alice.creates_room()
    event_id = await alice.sends(room, "x", txn_id="t-one")
    event = await alice.reads_event(room, event_id)
    assert event["unsigned"]["transaction_id"] == "t-one"
    assert event["room_id"] == room
    other = await alice.creates_room()
    unknown = "$" + "b" * 43
    assert await refusal(alice.reads_event(other, event_id)) == NOT_FOUND
    assert await refusal(alice.reads_event(room, unknown)) == NOT_FOUND
    assert await refusal(bob.reads_event(room, event_id)) == NOT_FOUND
    assert await refusal(bob.reads_event(NOWHERE, event_id)) == NOT_FOUND


async def test_what_surrounds_an_event(alice):
    room = await alice.creates_room(topic="t0")
    ids = await chat(alice, room, 5, "a")
    middle = await alice.sends(room, "middle")
    ids += await chat(alice, room, 5, "b")
    await alice.sets_state(room, "m.room.topic", {"topic": "t1"})
    reply = await alice.context(room, middle, limit=6)
    assert reply["event"]["event_id"] == middle
    assert texts(reply["events_before"]) == ["a4", "a3", "a2"]
    assert texts(reply["events_after"]) == ["b0", "b1", "b2"]
    state = {e["type"]: e["content"] for e in reply["state"]}
    assert state["m.room.topic"]["topic"] == "t0", "as at the last event returned"
    older = await page(alice, room, dir="b", limit=2, from_=reply["start"])
    assert texts(older["chunk"]) == ["a1", "a0"]
    newer = await page(alice, room, dir="f", limit=2, from_=reply["end"])
    assert texts(newer["chunk"]) == ["b3", "b4"]
    alone = await alice.context(room, middle, limit=0)
    assert alone["events_before"] == alone["events_after"] == []
    assert alone["event"]["event_id"] == middle


async def test_the_surroundings_can_be_filtered(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    middle = await alice.sends(room, "middle")
    await bob.sends(room, "bob's")
    await alice.sends(room, "hers")
    where = path("rooms", room, "context", middle)
    chosen = json.dumps({"senders": [alice.user_id], "lazy_load_members": True})
    reply = await alice.get(where, filter=chosen)
    assert texts(reply["events_after"]) == ["hers"]
    assert {e["sender"] for e in reply["state"]} == {alice.user_id}
    lazy = json.dumps({"lazy_load_members": True})
    reply = await alice.get(where, filter=lazy, limit=2)
    members = {e["state_key"] for e in reply["state"] if e["type"] == "m.room.member"}
    assert members <= {alice.user_id, bob.user_id}
    assert "m.room.create" in {e["type"] for e in reply["state"]}


# ── Looking for a time ───────────────────────────────────────────────────────────────


async def test_an_event_is_found_by_its_time(alice, bob):
    room = await alice.creates_room(initial_state=visibility("joined"))
    ids = await chat(alice, room, 3)
    times = [(await alice.reads_event(room, e))["origin_server_ts"] for e in ids]
    where = f"/_matrix/client/v1/rooms/{room}/timestamp_to_event"
    found = await alice.get(where, ts=times[2], dir="f")
    assert found["origin_server_ts"] == times[2]
    found = await alice.get(where, ts=times[2] + 10**9, dir="b")
    assert found == {"event_id": ids[2], "origin_server_ts": times[2]}
    found = await alice.get(where, ts=0, dir="f")
    first = await page(alice, room, dir="f", limit=1)
    assert found["event_id"] == first["chunk"][0]["event_id"]
    call = alice.get(where, ts=times[2] + 10**9, dir="f")
    assert await refusal(call) == NOT_FOUND
    assert await refusal(alice.get(where, ts=0, dir="b")) == NOT_FOUND
    for query in ({"ts": 1}, {"dir": "f"}, {"ts": "x", "dir": "f"}):
        assert (await refusal(alice.get(where, **query)))[0] == 400
    assert await refusal(bob.get(where, ts=0, dir="f")) == FORBIDDEN
    await alice.invites(room, bob)
    await bob.joins(room)
    found = await bob.get(where, ts=times[2], dir="f")
    event = await bob.reads_event(room, found["event_id"])
    assert event["content"]["membership"] == "join", "the first that bob may see"


# ── History that other servers have ──────────────────────────────────────────────────


async def lacks_what_is_before(server, event_id: str) -> None:
    """Let the server know of an event before this one that it has not got."""
    async with server.ctx.db.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO backward_edges (room_nid, event_id, child_nid)
            SELECT room_nid, '$missing', event_nid FROM events WHERE event_id = $1
            """,
            event_id,
        )


async def test_gaps_are_filled_as_far_as_a_page_goes(hearth, alice, bob, monkeypatch):
    room = await alice.creates_room(**PUBLIC)
    ids = await chat(alice, room, 30)
    depths = []

    async def nothing(_ctx, _room, lowest: int, _limit: int) -> bool:
        depths.append(lowest)
        return False

    monkeypatch.setattr("homeserver.rooms.history_api.backfill", nothing)
    await page(alice, room, dir="b", limit=5)
    await lacks_what_is_before(hearth, ids[10])
    await page(alice, room, dir="b", limit=5)
    assert depths == [], "nothing is missing so near"
    await lacks_what_is_before(hearth, ids[-1])
    first = await page(alice, room, dir="b", limit=5)
    second = await page(alice, room, dir="b", limit=5, from_=first["end"])
    assert len(depths) == 2
    assert depths[0] == depths[1] + 5 > 5
    depths.clear()
    await page(alice, room, dir="b", limit=100)
    assert depths == [1], "the whole room is here: only gaps in it count"
    depths.clear()
    await page(alice, room, dir="b", limit=100, from_="s1t0_1")
    assert depths == [0], "there is nothing here: any gap may be why"
    depths.clear()
    await page(alice, room, dir="f", limit=100)
    await page(alice, room, dir="b", limit=0)
    await alice.reads_event(room, ids[0])
    await bob.joins(room)
    await bob.leaves(room)
    await page(bob, room, dir="b", limit=100)
    assert depths == []
    assert second["chunk"]


async def test_a_page_is_read_again_when_something_was_fetched(
    hearth, alice, monkeypatch
):
    room = await alice.creates_room()
    await lacks_what_is_before(hearth, await alice.sends(room, "the first"))
    calls = []

    async def something(*_: object) -> bool:
        calls.append(await alice.sends(room, f"fetched {len(calls)}"))
        return True

    monkeypatch.setattr("homeserver.rooms.history_api.backfill", something)
    await alice.syncs()
    reply = await page(alice, room, dir="b", limit=50)
    assert len(calls) == 2, "and not for ever"
    assert "end" not in reply
