"""A server that lies, breaks the protocol, or leaves things out: others stay right."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from federation import edu, signatures
from federation.ids import EventId, ServerName
from federation.room_versions import ROOM_VERSIONS
from federation.signatures import SigningKey
from federation.wire import calls, calls_rooms
from federation.wire.errors import RemoteError
from tests.support.client import Client, RefusedError
from tests.support.peer import Peer, PeerRoom, answering, copied
from tests.support.sites import Site, World, eventually

VERSIONS = ["1", "6", "12"]


@pytest.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


async def shared(alice: Client, a: Site, peer: Peer, **options: object) -> PeerRoom:
    """A room of alice's in which the peer's mallory is."""
    room = await alice.creates_room(preset="public_chat", **options)
    return await peer.joins(a, room, "mallory")


async def known(site: Site, event_id: str) -> Any:
    rows = await site.query(
        """
        SELECT position, rejected, soft_failed, json
          FROM events JOIN event_json USING (event_nid) WHERE event_id = $1
        """,
        event_id,
    )
    return rows[0] if rows else None


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


# ── Joining a liar's room ────────────────────────────────────────────────────────────


class LyingRoom:
    """A room of the peer's own, which it hands over as the test wants."""

    def __init__(self, peer: Peer, version: str = "10") -> None:
        self.peer = peer
        self.version = ROOM_VERSIONS[version]
        self.host = f"@host:{peer.name}"
        room_id = f"!lies:{peer.name}"
        self.room = PeerRoom(peer, None, room_id, self.version, self.host)  # type: ignore[arg-type]
        content = {"room_version": version, "creator": self.host}
        self.create = self.room.event("m.room.create", content, "")
        self.host_joins = self.room.event(
            "m.room.member", {"membership": "join"}, self.host
        )
        self.levels = self.room.event(
            "m.room.power_levels", {"users": {self.host: 100}}, ""
        )
        self.rules = self.room.event("m.room.join_rules", {"join_rule": "public"}, "")
        self.state = [self.create, self.host_joins, self.levels, self.rules]
        self.given: dict[str, Any] = {}
        peer.answers["v1/make_join/"] = self._make_join
        peer.answers["v2/send_join/"] = self._send_join

    @property
    def room_id(self) -> str:
        return self.room.room_id

    def _make_join(self, request: web.Request) -> dict[str, Any]:
        user_id = request.path.split("/")[-1]
        event = self.room.event(
            "m.room.member",
            {"membership": "join"},
            user_id,
            sender=user_id,
            keep=False,
        )
        template = {
            name: value
            for name, value in event.json.items()
            if name not in ("hashes", "signatures")
        }
        return {"room_version": self.version.identifier, "event": template}

    async def _send_join(self, _: web.Request) -> dict[str, Any]:
        events = [event.json for event in self.state]
        return {"state": events, "auth_chain": events, **self.given}


async def test_an_honest_room_of_the_peer_can_be_joined(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    await alice.joins(lies.room_id, via=peer.name)
    assert await alice.state_of(lies.room_id, "m.room.join_rules") == {
        "join_rule": "public"
    }
    await alice.sends(lies.room_id, "hello")
    await eventually(lambda: _got(peer, "hello"), "the peer gets the message")


async def _got(peer: Peer, body: str) -> bool:
    return any(
        pdu["content"].get("body") == body
        for transaction in peer.received
        for pdu in transaction["pdus"]
    )


async def _cannot_join(alice: Client, lies: LyingRoom) -> None:
    with pytest.raises(RefusedError) as refused:
        await alice.joins(lies.room_id, via=lies.peer.name)
    assert refused.value.status in (403, 502), refused.value
    assert lies.room_id not in await alice.joined_rooms()


@pytest.mark.parametrize(
    "given",
    [
        {"state": [], "auth_chain": []},
        {"state": "no list"},
        {"auth_chain": None},
        {"state": [{}], "auth_chain": [{}]},
    ],
)
async def test_a_room_that_is_none_is_not_joined(
    a: Site, alice: Client, peer: Peer, given: dict[str, Any]
) -> None:
    lies = LyingRoom(peer)
    lies.given = given
    await _cannot_join(alice, lies)


async def test_a_room_without_or_with_two_beginnings_is_not_joined(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    lies.state.remove(lies.create)
    await _cannot_join(alice, lies)
    other = lies.room.event(
        "m.room.create",
        {"room_version": "10", "creator": lies.host},
        "",
        after=[],
        keep=False,
    )
    lies.state += [lies.create, other]
    await _cannot_join(alice, lies)


async def test_a_room_of_another_version_than_told_is_not_joined(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    lies.version = ROOM_VERSIONS["9"]
    await _cannot_join(alice, lies)


async def test_forged_state_is_left_out_of_a_joined_room(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    forged_topic = lies.room.event(
        "m.room.topic",
        {"topic": "alice says"},
        "",
        sender=f"@somebody:{a.name}",
        keep=False,
    )
    lies.room.latest = [lies.rules]
    outsider = lies.room.event(
        "m.room.name",
        {"name": "by somebody outside"},
        "",
        sender=f"@outsider:{peer.name}",
        keep=False,
    )
    lies.state += [forged_topic, outsider]
    await alice.joins(lies.room_id, via=peer.name)
    state = await a.state_ids(lies.room_id)
    assert ("m.room.topic", "") not in state
    assert ("m.room.name", "") not in state
    assert state["m.room.join_rules", ""] == lies.rules.event_id
    assert (await known(a, outsider.event_id))["rejected"] is not None


async def test_a_template_for_something_else_is_not_signed(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    honest = lies._make_join

    for changes in (
        {"type": "m.room.power_levels"},
        {"room_id": "!other:" + peer.name},
        {"sender": f"@admin:{a.name}"},
        {"state_key": f"@other:{a.name}"},
        {"content": {"membership": "ban"}},
    ):

        def template(
            request: web.Request, changes: dict[str, Any] = changes
        ) -> dict[str, Any]:
            answer = honest(request)
            return {**answer, "event": {**answer["event"], **changes}}

        peer.answers["v1/make_join/"] = template
        await _cannot_join(alice, lies)
    assert not [path for path in peer.asked if path.startswith("v2/send_join")]


async def test_a_join_that_comes_back_changed_is_kept_as_it_was(
    a: Site, alice: Client, peer: Peer
) -> None:
    lies = LyingRoom(peer)
    lies.given = {"event": {**lies.rules.json, "content": {"membership": "ban"}}}
    await alice.joins(lies.room_id, via=peer.name)
    member = await alice.state_of(lies.room_id, "m.room.member", alice.user_id)
    assert member["membership"] == "join"


# ── Handing in what one should not ───────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
async def test_send_join_takes_joins_only(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room_id = await alice.creates_room(preset="public_chat", room_version=version)
    mallory = f"@mallory:{peer.name}"
    template = await calls_rooms.make_join(
        peer.wire,
        ServerName(a.name),
        room_id,  # type: ignore[arg-type]
        mallory,  # type: ignore[arg-type]
        ROOM_VERSIONS,
    )
    room_version = ROOM_VERSIONS[version]
    wrong: list[dict[str, Any]] = [
        {"content": {"membership": "leave"}},
        {"content": {"membership": "invite"}},
        {"type": "m.room.topic", "state_key": ""},
        {"sender": alice.user_id, "state_key": alice.user_id},
        {"state_key": f"@other:{peer.name}"},
        {"room_id": "!elsewhere:" + a.name},
    ]
    for changes in wrong:
        event = peer.completes(template, room_version, **changes)
        event_id = EventId(signatures.event_id_of(event, room_version))
        with pytest.raises(RemoteError) as refused:
            await calls_rooms.send_join_v2(
                peer.wire,
                ServerName(a.name),
                room_id,  # type: ignore[arg-type]
                event_id,
                event,
            )
        assert refused.value.status in (400, 403), changes
        assert refused.value.errcode in ("M_INVALID_PARAM", "M_FORBIDDEN")
    event = peer.completes(template, room_version)
    for changed, event_id in (
        ({**event, "signatures": {}}, signatures.event_id_of(event, room_version)),
        (event, "$another:" + a.name),
    ):
        with pytest.raises(RemoteError) as refused:
            await calls_rooms.send_join_v2(
                peer.wire,
                ServerName(a.name),
                room_id,  # type: ignore[arg-type]
                EventId(event_id),
                changed,
            )
        assert refused.value.errcode == "M_INVALID_PARAM"


async def test_a_banned_user_gets_no_template_and_an_old_one_is_of_no_use(
    a: Site, alice: Client, peer: Peer
) -> None:
    room_id = await alice.creates_room(preset="public_chat", room_version="10")
    mallory = Client(alice.http, alice.base_url, user_id=f"@mallory:{peer.name}")
    template = await calls_rooms.make_join(
        peer.wire,
        ServerName(a.name),
        room_id,  # type: ignore[arg-type]
        mallory.user_id,  # type: ignore[arg-type]
        ROOM_VERSIONS,
    )
    await alice.bans(room_id, mallory)
    with pytest.raises(RemoteError) as refused:
        await calls_rooms.make_join(
            peer.wire,
            ServerName(a.name),
            room_id,  # type: ignore[arg-type]
            mallory.user_id,  # type: ignore[arg-type]
            ROOM_VERSIONS,
        )
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    event = peer.completes(template, ROOM_VERSIONS["10"])
    with pytest.raises(RemoteError) as refused:
        await calls_rooms.send_join_v2(
            peer.wire,
            ServerName(a.name),
            room_id,  # type: ignore[arg-type]
            signatures.event_id_of(event, ROOM_VERSIONS["10"]),
            event,
        )
    assert refused.value.status == 403


async def test_outsiders_learn_nothing(a: Site, alice: Client, peer: Peer) -> None:
    room_id = await alice.creates_room(preset="public_chat")
    event_id = await alice.sends(room_id, "for insiders")
    destination = ServerName(a.name)
    for call in (
        calls.get_room_state(peer.wire, destination, room_id, event_id),  # type: ignore[arg-type]
        calls.get_room_state_ids(peer.wire, destination, room_id, event_id),  # type: ignore[arg-type]
        calls.get_event_auth(peer.wire, destination, room_id, event_id),  # type: ignore[arg-type]
        calls.backfill_room(peer.wire, destination, room_id, [event_id], 10),  # type: ignore[arg-type, list-item]
        calls.get_event(peer.wire, destination, event_id),  # type: ignore[arg-type]
    ):
        with pytest.raises(RemoteError) as refused:
            await call
        assert refused.value.status in (403, 404)
