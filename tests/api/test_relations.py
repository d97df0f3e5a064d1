"""The children of an event, as they are listed, and the list of threads."""

import itertools
from typing import Any

import pytest

from tests.api.test_relations_bundled import edits, ignores, relates
from tests.support.api import Json, RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
V1 = "/_matrix/client/v1/"


def relations(room: str, *parts: str) -> str:
    return path("rooms", room, "relations", *parts).replace("/v3/", "/v1/")


async def listed(
    client: Client, room: str, *parts: str, **query: Any
) -> tuple[list[str], Json]:
    """The event IDs of a page, and the page."""
    page = await client.call("GET", relations(room, *parts), query=query)
    return [event["event_id"] for event in page["chunk"]], page


async def reacts(client: Client, room: str, parent: str, key: str = "+1") -> str:
    relation = {"rel_type": "m.annotation", "event_id": parent, "key": key}
    return await client.sends_event(room, "m.reaction", {"m.relates_to": relation})


async def threads(client: Client, room: str, **query: Any) -> Json:
    where = path("rooms", room, "threads").replace("/v3/", "/v1/")
    return await client.call("GET", where, query=query)


def ids(page: Json) -> list[str]:
    return [event["event_id"] for event in page["chunk"]]


# ── Children ─────────────────────────────────────────────────────────────────────────


async def test_children_are_listed_by_kind_and_type(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reaction = await reacts(alice, room, root)
    edit = await edits(alice, room, root, "edited")
    reply = await relates(alice, room, "m.thread", root)
    await alice.sends(room, "unrelated")
    found, page = await listed(alice, room, root)
    assert found == [reply, edit, reaction]
    assert "next_batch" not in page
    assert "prev_batch" not in page
    assert "recursion_depth" not in page
    assert (await listed(alice, room, root, dir="f"))[0] == found[::-1]
    assert (await listed(alice, room, root, "m.thread"))[0] == [reply]
    kinds = ("m.annotation", "m.reaction")
    assert (await listed(alice, room, root, *kinds))[0] == [reaction]
    assert (await listed(alice, room, root, "m.annotation", "m.x"))[0] == []
    old = relations(room, root).replace("/v1/", "/unstable/")
    assert ids(await alice.get(old)) == found


async def test_rich_replies_are_no_relations(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    content = {"body": "x", "m.relates_to": {"m.in_reply_to": {"event_id": root}}}
    await alice.sends_event(room, "m.room.message", content)
    assert (await listed(alice, room, root))[0] == []


@pytest.mark.parametrize("direction", ["b", "f"])
async def test_pages_follow_each_other(alice, direction):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    sent = [await relates(alice, room, "m.thread", root, str(n)) for n in range(7)]
    query = {"dir": direction, "limit": "3"}
    pages: list[list[str]] = []
    while True:
        found, page = await listed(alice, room, root, **query)
        pages.append(found)
        if "next_batch" not in page:
            break
        query["from"] = page["next_batch"]
        assert len(pages) < 5
    whole = sent if direction == "f" else sent[::-1]
    assert [*itertools.chain(*pages)] == whole
    assert pages[0] == whole[:3]


async def test_a_page_may_end_at_a_token_and_be_gone_back_from(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    sent = [await relates(alice, room, "m.thread", root, str(n)) for n in range(4)]
    _, first = await listed(alice, room, root, limit="1")
    _, second = await listed(
        alice, room, root, limit="1", **{"from": first["next_batch"]}
    )
    assert second["prev_batch"] == first["next_batch"]
    query = {"from": first["next_batch"], "to": second["next_batch"]}
    assert (await listed(alice, room, root, **query))[0] == [sent[2]]
    query = {"to": first["next_batch"], "from": second["next_batch"]}
    assert (await listed(alice, room, root, **query))[0] == []
    back = {"from": second["prev_batch"], "dir": "f"}
    assert (await listed(alice, room, root, **back))[0] == [sent[3]]


async def test_tokens_of_sync_and_messages_are_taken(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    before = await relates(alice, room, "m.thread", root)
    sync = (await alice.get(path("sync")))["next_batch"]
    messages = (await alice.messages(room))["start"]
    after = await relates(alice, room, "m.thread", root)
    for token in (sync, messages):
        found, _ = await listed(alice, room, root, **{"from": token})
        assert found == [before]
        found, _ = await listed(alice, room, root, **{"from": token, "dir": "f"})
        assert found == [after]


async def test_relations_of_relations_are_listed_when_asked_for(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reply = await relates(alice, room, "m.thread", root)
    reaction = await reacts(alice, room, reply)
    third = await relates(alice, room, "org.x", reaction)
    await relates(alice, room, "org.x", third)
    found, page = await listed(alice, room, root, recurse="true")
    assert found == [third, reaction, reply]
    assert page["recursion_depth"] == 3
    found, page = await listed(alice, room, root, recurse="false")
    assert found == [reply]
    found, _ = await listed(alice, room, root, "m.annotation", recurse="true")
    assert found == [], "what is between does not match"
    unstable = {"org.matrix.msc3981.recurse": "true", "org.matrix.msc3715.dir": "f"}
    found, _ = await listed(alice, room, root, **unstable)
    assert found == [reply, reaction, third]


async def test_children_come_with_their_own(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reply = await relates(alice, room, "m.thread", root)
    edit = await edits(alice, room, reply, "edited")
    _, page = await listed(alice, room, root)
    relations_of = page["chunk"][0]["unsigned"]["m.relations"]
    assert relations_of["m.replace"]["event_id"] == edit


async def test_redacted_children_are_gone_and_those_of_a_redacted_event_stay(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    one = await relates(alice, room, "m.thread", root)
    two = await relates(alice, room, "m.thread", root)
    await alice.redacts(room, one)
    await alice.redacts(room, root)
    assert (await listed(alice, room, root))[0] == [two]


async def test_each_reader_sees_what_they_may(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.sets_state(
        room, "m.room.history_visibility", {"history_visibility": "joined"}
    )
    root = await alice.sends(room, "root")
    seen = await relates(alice, room, "m.thread", root)
    await bob.leaves(room)
    await relates(alice, room, "m.thread", root)
    await bob.joins(room)
    last = await relates(alice, room, "m.thread", root)
    found, _ = await listed(bob, room, root, limit="2")
    assert found == [last, seen]
    for who, where in ((carol, room), (bob, "!nowhere:hearth.test")):
        with pytest.raises(RefusedError) as error:
            await listed(who, where, root)
        assert (error.value.status, error.value.errcode) == (404, "M_NOT_FOUND")
    with pytest.raises(RefusedError) as error:
        await listed(alice, room, "$nothing:hearth.test")
    assert error.value.status == 404


async def test_children_of_ignored_users_are_left_out_not_those_of_their_events(
    alice, bob
):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    root = await bob.sends(room, "root")
    mine = await relates(alice, room, "m.thread", root)
    await relates(bob, room, "m.thread", root)
    await ignores(alice, bob)
    assert (await listed(alice, room, root))[0] == [mine]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "many"},
        {"dir": "x"},
        {"from": "nowhere"},
        {"to": "nowhere"},
        {"recurse": "maybe"},
    ],
)
async def test_bad_parameters_are_refused(alice, query):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    with pytest.raises(RefusedError) as error:
        await listed(alice, room, root, **query)
    assert (error.value.status, error.value.errcode) == (400, "M_INVALID_PARAM")


# ── Threads ──────────────────────────────────────────────────────────────────────────


async def test_threads_are_listed_by_their_latest_reply(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    roots = [await bob.sends(room, str(number)) for number in range(4)]
    for root in roots[:3]:
        await relates(bob, room, "m.thread", root)
    await relates(alice, room, "m.thread", roots[0])
    page = await threads(alice, room)
    assert ids(page) == [roots[0], roots[2], roots[1]]
    assert "next_batch" not in page
    thread = page["chunk"][0]["unsigned"]["m.relations"]["m.thread"]
    assert (thread["count"], thread["current_user_participated"]) == (2, True)
    assert ids(await threads(alice, room, include="participated")) == [roots[0]]
    assert len(ids(await threads(bob, room, include="participated"))) == 3
    assert len(ids(await threads(bob, room, include="all"))) == 3
    unstable = f"/_matrix/client/unstable/org.matrix.msc3856/rooms/{room}/threads"
    assert ids(await alice.get(unstable)) == ids(page)


async def test_the_list_of_threads_comes_in_pages(alice):
    room = await alice.creates_room()
    roots = [await alice.sends(room, str(number)) for number in range(5)]
    for root in roots:
        await relates(alice, room, "m.thread", root)
    found: list[str] = []
    query = {"limit": "2"}
    for _ in range(3):
        page = await threads(alice, room, **query)
        found += ids(page)
        query["from"] = page.get("next_batch", "")
    assert found == roots[::-1]
    assert query["from"] == ""


async def test_threads_without_visible_replies_are_none(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    gone, ignored, mine = [await alice.sends(room, n) for n in "abc"]
    await alice.redacts(room, await relates(alice, room, "m.thread", gone))
    await relates(bob, room, "m.thread", ignored)
    await relates(alice, room, "m.thread", mine)
    await ignores(alice, bob)
    assert ids(await threads(alice, room)) == [mine]


async def test_the_root_of_an_ignored_user_is_shown_without_content(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    root = await bob.sends(room, "root")
    await relates(alice, room, "m.thread", root)
    await ignores(alice, bob)
    (event,) = (await threads(alice, room))["chunk"]
    assert (event["event_id"], event["content"]) == (root, {})
    assert event["unsigned"]["m.relations"]["m.thread"]["count"] == 1
    (event,) = (await threads(bob, room))["chunk"]
    assert event["content"]["body"] == "root"


async def test_threads_are_for_those_who_may_read_the_room(alice, bob):
    room = await alice.creates_room()
    for where in (room, "!nowhere:hearth.test"):
        with pytest.raises(RefusedError) as error:
            await threads(bob, where)
        assert (error.value.status, error.value.errcode) == (403, "M_FORBIDDEN")
    for query in ({"include": "some"}, {"limit": "0"}, {"from": "x"}):
        with pytest.raises(RefusedError) as error:
            await threads(alice, room, **query)
        assert error.value.errcode == "M_INVALID_PARAM"
