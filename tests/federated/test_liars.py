"""A server that lies, breaks the protocol, or leaves things out: others stay right."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from federation import edu, signatures
from federation.room_versions import ROOM_VERSIONS
from federation.signatures import SigningKey
from federation.wire.errors import RemoteError
from tests.support.client import Client
from tests.support.liars import known, shared
from tests.support.peer import Peer, answering, copied
from tests.support.sites import Site, World, eventually

VERSIONS = ["1", "6", "12"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_bad_event_spoils_no_other(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    good = [room.says(f"good {i}") for i in range(3)]
    unsigned = copied(room.says("unsigned", keep=False), signatures={})
    no_event = {"room_id": room.room_id, "type": "m.room.message"}
    elsewhere = copied(good[0], room_id="!elsewhere:nowhere.test")
    huge = room.says("huge", keep=False).json | {"content": {"body": "x" * 70_000}}
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    bad = [no_event, unsigned, elsewhere, huge, copied(good[1], content=deep)]
    results = await peer.pushes(a, [*bad, *(event.json for event in good)])
    for event in good:
        assert results[event.event_id] is None
        assert (await known(a, event.event_id))["position"] is not None
    await alice.sees(room.room_id, "good 2")
    assert alice.seen.room(room.room_id).bodies()[-3:] == ["good 0", "good 1", "good 2"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_event_with_a_wrong_signature_is_dropped(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    forged = room.says(
        "forged", sign=False, keep=False, hashes={"sha256": "x"}, signatures={}
    )
    raw = signatures.hash_and_sign_event(
        forged.json,
        ROOM_VERSIONS[version],
        peer.name,
        SigningKey.from_seed(peer.key.key_id, bytes(32)),
    )
    event_id = signatures.event_id_of(raw, ROOM_VERSIONS[version])
    results = await peer.pushes(a, [raw])
    assert "signature" in (results[event_id] or "")
    assert await known(a, event_id) is None


@pytest.mark.parametrize("version", VERSIONS)
async def test_nobody_speaks_for_another_server(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    forged = room.says("alice did not say this", sender=alice.user_id, keep=False)
    results = await room.pushes(forged)
    assert results[forged.event_id] is not None
    assert await known(a, forged.event_id) is None


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_event_with_a_wrong_hash_is_redacted(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    event = room.says("as it was signed")
    changed = copied(event, content={"msgtype": "m.text", "body": "as it was changed"})
    results = await peer.pushes(a, [changed])
    assert results == {event.event_id: None}
    stored = await known(a, event.event_id)
    assert json.loads(stored["json"])["content"] == {}
    seen = await alice.sees_id(room.room_id, event.event_id)
    assert seen["content"] == {}


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_the_rules_forbid_is_rejected_and_what_follows_it_is_not(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    topic = room.event("m.room.topic", {"topic": "mallory rules"}, "", keep=False)
    after = room.says("after the topic", after=[topic])
    results = await room.pushes(topic, after)
    assert results[topic.event_id] is not None
    assert results[after.event_id] is None
    assert (await known(a, topic.event_id))["rejected"] is not None
    await alice.sees(room.room_id, "after the topic")
    state = await a.state_ids(room.room_id)
    assert ("m.room.topic", "") not in state
    # An event that rests on a rejected one is rejected too.
    resting = room.event(
        "m.room.message",
        {"body": "resting"},
        auth=[*room.latest[:0], topic],
        keep=False,
    )
    results = await room.pushes(resting)
    assert (await known(a, resting.event_id))["rejected"] is not None


@pytest.mark.parametrize("version", ["6", "12"])
async def test_events_that_evade_a_ban_are_soft_failed(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    before = list(room.latest)
    mallory = Client(alice.http, alice.base_url, user_id=room.user_id)
    await alice.bans(room.room_id, mallory)
    evading = room.says("still here", after=before)
    results = await room.pushes(evading)
    assert results == {evading.event_id: None}
    stored = await known(a, evading.event_id)
    assert stored["soft_failed"]
    assert stored["position"] is None
    await alice.sends(room.room_id, "is it quiet?")
    await alice.sees(room.room_id, "is it quiet?")
    assert "still here" not in alice.seen.room(room.room_id).bodies()


async def test_the_same_event_from_many_at_once_is_stored_once(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    events = [room.says(f"again and again {i}") for i in range(10)]
    raws = [event.json for event in events]
    answers = await asyncio.gather(*(peer.pushes(a, raws) for _ in range(6)))
    for results in answers:
        assert set(results.values()) == {None}
    await alice.sees(room.room_id, "again and again 9")
    bodies = [
        b for b in alice.seen.room(room.room_id).bodies() if b.startswith("again")
    ]
    assert bodies == [f"again and again {i}" for i in range(10)]


async def test_a_repeated_transaction_gets_the_same_answer_and_does_nothing(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    first = room.says("once")
    bad = room.event("m.room.topic", {"topic": "no"}, "", keep=False)
    results = await peer.pushes(a, [first.json, bad.json], txn_id="same")
    assert results[bad.event_id] is not None
    # The same ID with other content: the answer is that of the first.
    other = room.says("never arrives", keep=False)
    assert await peer.pushes(a, [other.json], txn_id="same") == results
    assert await known(a, other.event_id) is None


async def test_missing_events_are_fetched_from_who_refers_to_them(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    hidden = [room.says(f"hidden {i}") for i in range(5)]
    last = room.says("at last")

    def missing(_: web.Request) -> dict[str, Any]:
        return {"events": [event.json for event in hidden]}

    with answering(peer, "v1/get_missing_events/", missing):
        results = await room.pushes(last)
    assert results == {last.event_id: None}
    await alice.sees(room.room_id, "at last")
    assert alice.seen.room(room.room_id).bodies() == [
        *(f"hidden {i}" for i in range(5)),
        "at last",
    ]


async def test_a_gap_that_stays_is_bridged_by_the_state_before_it(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    state = [event.event_id for event in room.state.values()]
    room.says("lost")
    last = room.says("at last")

    def state_ids(request: web.Request) -> dict[str, Any]:
        assert request.query["event_id"] == last.event_id
        return {"pdu_ids": state, "auth_chain_ids": []}

    with (
        answering(peer, "v1/get_missing_events/", lambda _: {"events": []}),
        answering(peer, "v1/state_ids/", state_ids),
    ):
        results = await room.pushes(last)
    assert results == {last.event_id: None}
    await alice.sees(room.room_id, "at last")
    await alice.sends(room.room_id, "go on")
    await alice.sees(room.room_id, "go on")


async def test_who_leaves_a_gap_and_will_not_fill_it_is_not_heard(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    lost = room.says("lost")
    last = room.says("never heard")
    results = await room.pushes(last)
    assert results[last.event_id] is not None
    assert await known(a, last.event_id) is None
    # The room goes on, and hears of both when they come.
    assert await room.pushes(lost, last) == {lost.event_id: None, last.event_id: None}
    await alice.sees(room.room_id, "never heard")


async def test_a_server_that_answers_slowly_stalls_only_itself(
    world: World, a: Site, b: Site, alice: Client, bob: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    await bob.joins(room.room_id, via=alice)
    await alice.sees_member(room.room_id, bob, "join")
    room.says("lost")
    last = room.says("waiting")
    released = asyncio.Event()

    async def slow(_: web.Request) -> dict[str, Any]:
        await released.wait()
        return {"events": []}

    with answering(peer, "v1/get_missing_events/", slow):
        pushing = asyncio.create_task(room.pushes(last))
        await eventually(
            lambda: _asked(peer, "v1/get_missing_events/"), "a asks the peer"
        )
        # The same room and others go on meanwhile.
        await bob.sends(room.room_id, "nobody waits for mallory")
        await alice.sees(room.room_id, "nobody waits for mallory", seconds=5)
        released.set()
        await pushing


async def _asked(peer: Peer, path: str) -> bool:
    return any(asked.startswith(path) for asked in peer.asked)


async def test_lies_about_missing_events_are_not_believed(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    lost = room.says("lost")
    last = room.says("at last")
    forged = room.says("as if alice", sender=alice.user_id, after=[lost], keep=False)
    changed = copied(lost, content={"body": "changed"})

    def lies(_: web.Request) -> dict[str, Any]:
        noise: list[Any] = [{}, {"type": 1}, forged.json, changed]
        return {"events": [*noise, *[forged.json] * 100]}

    with answering(peer, "v1/get_missing_events/", lies):
        results = await room.pushes(last)
    assert results == {last.event_id: None}
    assert await known(a, forged.event_id) is None
    stored = await known(a, lost.event_id)
    assert "changed" not in stored["json"]


@pytest.mark.parametrize(
    "answer",
    [
        {"events": "no list"},
        {"events": [1, None, "x"]},
        [],
        (500, {}),
        (200, {"events": [{"room_id": {}}]}),
    ],
)
async def test_nonsense_instead_of_missing_events_hurts_nobody(
    a: Site, alice: Client, peer: Peer, answer: Any
) -> None:
    room = await shared(alice, a, peer)
    room.says("lost")
    last = room.says("at last")
    with answering(peer, "v1/get_missing_events/", lambda _: answer):
        results = await room.pushes(last)
    assert results[last.event_id] is not None
    await alice.sends(room.room_id, "all is well")
    await alice.sees(room.room_id, "all is well")


async def test_an_acl_keeps_a_server_out(a: Site, alice: Client, peer: Peer) -> None:
    room = await shared(alice, a, peer)
    typing = edu.Typing(room.room_id, room.user_id, typing=True).to_edu()
    await peer.pushes(a, edus=[typing])
    mallory = Client(alice.http, alice.base_url, user_id=room.user_id)
    await alice.sees_typing(room.room_id, mallory)
    await peer.pushes(
        a, edus=[edu.Typing(room.room_id, room.user_id, typing=False).to_edu()]
    )
    await alice.sees_typing(room.room_id)
    acl = {"allow": ["*"], "deny": ["LOCALHOST"]}
    await alice.sets_state(room.room_id, "m.room.server_acl", acl)
    event = room.says("let me in")
    results = await room.pushes(event)
    assert "ACL" in (results[event.event_id] or "")
    await peer.pushes(a, edus=[typing])
    await alice.sends(room.room_id, "nobody types")
    await alice.sees(room.room_id, "nobody types")
    assert alice.seen.room(room.room_id).typing == []
    for path in (
        f"v1/state_ids/{room.room_id}?event_id={event.event_id}",
        f"v1/make_join/{room.room_id}/{room.user_id}",
        f"v1/event_auth/{room.room_id}/{event.event_id}",
    ):
        with pytest.raises(RemoteError) as refused:
            await peer.asks(a, "GET", f"/_matrix/federation/{path}")
        assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
