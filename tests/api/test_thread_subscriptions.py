"""Which threads users follow (MSC4306), and how their devices learn of it (MSC4308)."""

from typing import Any

import pytest

from tests.api.test_relations_bundled import relates
from tests.support.api import Json, RefusedError
from tests.support.client import Client
from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
UNSTABLE = "/_matrix/client/unstable/"
EXTENSION = "io.element.msc4308.thread_subscriptions"
CONFLICT = (409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION")
NOT_IN_THREAD = (400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD")
NOT_FOUND = (404, "M_NOT_FOUND")


def where(room: str, root: str) -> str:
    return f"{UNSTABLE}io.element.msc4306/rooms/{room}/thread/{root}/subscription"


async def follows(client: Client, room: str, root: str, **body: object) -> None:
    assert await client.put(where(room, root), dict(body)) == {}


async def drops(client: Client, room: str, root: str) -> None:
    assert await client.call("DELETE", where(room, root)) == {}


async def status(client: Client, room: str, root: str) -> bool | None:
    """Whether by a client; None: not at all."""
    code, reply = await client.answer("GET", where(room, root))
    return None if code == 404 else reply["automatic"]


async def changes(client: Client, **query: Any) -> Json:
    url = f"{UNSTABLE}io.element.msc4308/thread_subscriptions"
    return await client.call("GET", url, query={"dir": "b", **query})


async def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def told(sliding: Sliding, **options: object) -> Json:
    extension = {"enabled": True, **options}
    reply = await sliding.asks(extensions={EXTENSION: extension})
    section: Json = reply["extensions"].get(EXTENSION, {})
    return section


async def test_a_thread_is_followed_and_no_longer(alice, bob):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    assert await status(alice, room, root) is None
    await follows(alice, room, root)
    await follows(alice, room, root)
    assert await status(alice, room, root) is False
    await drops(alice, room, root)
    await drops(alice, room, root)
    assert await status(alice, room, root) is None


async def test_what_a_client_does_by_itself_yields_to_its_user(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    first = await relates(alice, room, "m.thread", root)
    await follows(alice, room, root, automatic=first)
    assert await status(alice, room, root) is True
    await follows(alice, room, root)
    assert await status(alice, room, root) is False
    await follows(alice, room, root, automatic=first)
    assert await status(alice, room, root) is False
    await drops(alice, room, root)
    again = alice.put(where(room, root), {"automatic": first})
    assert await refused(again) == CONFLICT
    assert await status(alice, room, root) is None
    later = await relates(alice, room, "m.thread", root)
    await follows(alice, room, root, automatic=later)
    assert await status(alice, room, root) is True
    await drops(alice, room, root)
    await follows(alice, room, root)
    assert await status(alice, room, root) is False


async def test_the_cause_is_in_the_thread(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reply = await relates(alice, room, "m.thread", root)
    other = await relates(alice, room, "m.reference", root)
    for cause in (other, root, "$nothing:hearth.test"):
        call = alice.put(where(room, root), {"automatic": cause})
        assert await refused(call) == NOT_IN_THREAD
    for cause in (1, True, "no event", []):
        call = alice.put(where(room, root), {"automatic": cause})
        assert await refused(call) == (400, "M_BAD_JSON")
    call = alice.put(where(room, reply), {})
    assert await refused(call) == NOT_FOUND


async def test_threads_that_one_may_not_see_are_none(alice, bob):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    assert await refused(bob.put(where(room, root), {})) == NOT_FOUND
    assert await refused(bob.get(where(room, root))) == NOT_FOUND
    assert await refused(bob.call("DELETE", where(room, root))) == NOT_FOUND
    missing = where(room, "$nothing:hearth.test")
    assert await refused(alice.put(missing, {})) == NOT_FOUND


async def test_changes_are_listed_in_pages(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    roots = [await alice.sends(room, str(number)) for number in range(3)]
    for root in roots:
        await follows(alice, room, root)
    await drops(alice, room, roots[0])
    page = await changes(alice, limit="2")
    assert list(page["unsubscribed"][room]) == [roots[0]]
    assert list(page["subscribed"][room]) == [roots[2]]
    assert page["subscribed"][room][roots[2]]["automatic"] is False
    newest = page["unsubscribed"][room][roots[0]]["bump_stamp"]
    assert newest > page["subscribed"][room][roots[2]]["bump_stamp"]
    rest = await changes(alice, limit="2", **{"from": page["end"]})
    assert list(rest["subscribed"][room]) == [roots[1]]
    assert "end" not in rest
    assert await changes(bob) == {}
    for query in ({"dir": "f"}, {"limit": "0"}, {"from": "x"}):
        assert await refused(changes(alice, **query)) == (400, "M_INVALID_PARAM")


async def test_sliding_sync_tells_what_changed(alice):
    room = await alice.creates_room()
    one, two, three = [await alice.sends(room, text) for text in "abc"]
    await follows(alice, room, one)
    sliding = Sliding(alice)
    assert list((await told(sliding))["subscribed"][room]) == [one]
    assert await told(sliding) == {}
    await drops(alice, room, one)
    before = sliding.pos
    section = await told(sliding)
    assert list(section) == ["unsubscribed"]
    assert list(section["unsubscribed"][room]) == [one]
    for root in (one, two, three):
        await follows(alice, room, root)
    before = sliding.pos
    section = await told(sliding, limit=1)
    assert list(section["subscribed"][room]) == [three]
    query = {"from": section["prev_batch"], "to": before}
    page = await changes(alice, **query)
    assert sorted(page["subscribed"][room]) == sorted([one, two])
    assert await told(sliding) == {}


async def test_a_waiting_client_is_woken(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    sliding = Sliding(alice)
    await told(sliding)
    await follows(alice, room, root)
    reply = await sliding.asks(wait=30, extensions={EXTENSION: {"enabled": True}})
    assert list(reply["extensions"][EXTENSION]["subscribed"][room]) == [root]
