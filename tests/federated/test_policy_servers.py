"""Rooms with a policy server: it is asked about each event, and its word counts.

Spec: server-server-api#policy-servers
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from federation import signatures
from federation.room_versions import ROOM_VERSIONS
from federation.signatures import SigningKey
from federation.wire.errors import RemoteError
from tests.support.api import RefusedError
from tests.support.client import Client
from tests.support.liars import known, shared
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site, World, agree

SIGN = "/_matrix/policy/v1/sign"
KEY_ID = "ed25519:policy_server"
SPAM = {"errcode": "M_FORBIDDEN", "error": "this looks like spam"}


class PolicyPeer:
    """A peer that is in a room of alice's and is its policy server."""

    def __init__(self, peer: Peer, version: str) -> None:
        self.peer = peer
        self.version = ROOM_VERSIONS[version]
        self.key = SigningKey.generate("policy_server")
        self.signs_with = self.key
        self.asked: list[str] = []
        self.before: Callable[[], Any] | None = None
        peer.answers[SIGN] = self._sign

    async def _sign(self, request: web.Request) -> Any:
        event = await request.json()
        text = str(event["content"].get("body", event["type"]))
        self.asked.append(text)
        if self.before is not None:
            await self.before()
        if "spam" in text:
            return (400, SPAM)
        return self.signed(event)["signatures"]

    def signed(self, event: dict[str, Any]) -> dict[str, Any]:
        bare = {**event, "signatures": {}}
        return signatures.sign_event(
            bare, self.version, self.peer.name, self.signs_with
        )

    @property
    def state(self) -> dict[str, Any]:
        public = signatures.encode_base64(self.key.public)
        return {"via": self.peer.name, "public_keys": {"ed25519": public}}


async def guarded(
    alice: Client, a: Site, peer: Peer, version: str = "12"
) -> tuple[PeerRoom, PolicyPeer]:
    room = await shared(alice, a, peer, room_version=version)
    policy = PolicyPeer(peer, version)
    event_id = await alice.sets_state(room.room_id, "m.room.policy", policy.state)
    assert policy.asked == []  # nobody asks about that event
    raw = await known(a, event_id)
    assert KEY_ID not in raw["json"]
    return room, policy


async def refusal(call: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("version", ["1", "6", "12"])
async def test_what_users_send_is_signed_or_refused(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer, version: str
) -> None:
    room, policy = await guarded(alice, a, peer, version)
    await bob.joins(room.room_id, via=alice)
    assert policy.asked == ["m.room.member"]
    sent = await alice.sends(room.room_id, "hello", txn_id="once")
    assert policy.asked[-1] == "hello"
    assert await alice.sends(room.room_id, "hello", txn_id="once") == sent
    assert policy.asked.count("hello") == 1
    assert KEY_ID in (await known(a, sent))["json"]
    refused = await refusal(alice.sends(room.room_id, "some spam"))
    assert (refused.status, refused.errcode) == (400, "M_FORBIDDEN")
    assert refused.body["error"] == "this looks like spam"
    await bob.sees(room.room_id, "hello")
    answer = await bob.sends(room.room_id, "hello yourself")
    await alice.sees_id(room.room_id, answer)
    # Who gets a signed event need not ask again.
    assert policy.asked.count("hello") == policy.asked.count("hello yourself") == 1
    assert "some spam" not in [
        e["content"].get("body") for e in await alice.history(room.room_id)
    ]
    await agree(room.room_id, a, b)


async def test_what_is_pushed_unsigned_is_asked_about_and_soft_failed(
    a: Site, alice: Client, peer: Peer
) -> None:
    room, policy = await guarded(alice, a, peer)
    good = [room.says(f"good {i}") for i in range(5)]
    spam = room.says("spam")
    after = room.says("good in the end", after=[spam])
    results = await room.pushes(*good, spam, after)
    assert set(results.values()) == {None}
    await alice.sees(room.room_id, "good in the end")
    assert "spam" not in alice.seen.room(room.room_id).bodies()
    assert (await known(a, spam.event_id))["soft_failed"]
    stored = await known(a, good[0].event_id)
    assert KEY_ID in stored["json"]
    assert not stored["soft_failed"]
    # Pushed again, nobody is asked again.
    asked = len(policy.asked)
    await room.pushes(*good, spam)
    assert len(policy.asked) == asked


async def test_a_signature_of_another_key_counts_for_nothing(
    a: Site, alice: Client, peer: Peer
) -> None:
    room, policy = await guarded(alice, a, peer)
    policy.signs_with = SigningKey.generate("policy_server")
    refused = await refusal(alice.sends(room.room_id, "hello"))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    lie = room.says("signed by whom?", keep=False)
    forged = policy.signed(lie.json)["signatures"][peer.name]
    event = {**lie.json, "signatures": {peer.name: {**forged}}}
    event["signatures"][peer.name] |= lie.json["signatures"][peer.name]  # type: ignore[index, operator]
    assert await peer.pushes(a, [event]) == {lie.event_id: None}
    assert (await known(a, lie.event_id))["soft_failed"]
    # The room takes the new key, and all is well.
    policy.key = policy.signs_with
    await alice.sets_state(room.room_id, "m.room.policy", policy.state)
    await alice.sends(room.room_id, "with the new key")


async def test_a_slow_policy_server_holds_up_nothing_else(
    world: World, peer: Peer
) -> None:
    a = await world.site(policy_servers={"timeout_s": 1.5})
    alice = await a.person("alice")
    room, policy = await guarded(alice, a, peer)
    other = await shared(alice, a, peer)
    never = asyncio.Event()
    policy.before = never.wait
    slow = asyncio.create_task(alice.sends(room.room_id, "is anybody there?"))
    pushed = asyncio.create_task(room.pushes(room.says("from elsewhere")))
    while len(policy.asked) < 2:
        await asyncio.sleep(0.01)
    # Meanwhile another room goes on, and so does this one, as far as nobody is asked.
    await alice.sends(other.room_id, "quick")
    await alice.sets_state(room.room_id, "m.room.policy", policy.state | {"x": 1})
    assert not slow.done()
    refused = await refusal(slow)
    assert refused.status == 502
    await pushed
    # It is not asked again at once, so this takes no time at all.
    asked = len(policy.asked)
    assert (await refusal(alice.sends(room.room_id, "hello?"))).status == 502
    assert len(policy.asked) == asked
    # A room can always do without its policy server, and everybody can leave.
    bob = await a.person("bob")
    assert (await refusal(bob.joins(room.room_id))).status == 502
    await alice.sets_state(room.room_id, "m.room.policy", {})
    await bob.joins(room.room_id)
    await alice.sets_state(room.room_id, "m.room.policy", policy.state)
    await bob.leaves(room.room_id)
    await alice.sees_member(room.room_id, bob, "leave")
    never.set()


async def test_the_configuration_may_do_without_a_policy_server_that_is_away(
    world: World, peer: Peer
) -> None:
    a = await world.site(
        policy_servers={"timeout_s": 0.3, "when_unreachable": "accept"}
    )
    alice = await a.person("alice")
    room, policy = await guarded(alice, a, peer)
    policy.before = asyncio.Event().wait
    await alice.sends(room.room_id, "unchecked")
    event = room.says("unchecked as well")
    await room.pushes(event)
    await alice.sees_id(room.room_id, event.event_id)


async def test_a_policy_server_cannot_log_anybody_out(
    a: Site, alice: Client, peer: Peer
) -> None:
    room, _ = await guarded(alice, a, peer)
    for status, errcode, told in [
        (401, "M_UNKNOWN_TOKEN", (502, "M_UNKNOWN")),
        (403, "M_UNKNOWN_TOKEN", (403, "M_FORBIDDEN")),
        (500, "M_UNKNOWN", (502, "M_UNKNOWN")),
        (429, "M_LIMIT_EXCEEDED", (429, "M_LIMIT_EXCEEDED")),
        (404, "M_UNRECOGNIZED", (404, "M_UNRECOGNIZED")),
    ]:
        answer = (status, {"errcode": errcode, "error": "no", "soft_logout": True})
        peer.answers[SIGN] = lambda _, answer=answer: answer
        refused = await refusal(alice.sends(room.room_id, "hello"))
        assert (refused.status, refused.errcode) == told
        assert "soft_logout" not in refused.body
    for nonsense in ({}, [], {peer.name: {}}, {peer.name: {KEY_ID: "%"}}, {"x": 1}):
        peer.answers[SIGN] = lambda _, answer=nonsense: (200, answer)
        assert (await refusal(alice.sends(room.room_id, "hello"))).status in (403, 502)


async def test_who_is_not_in_the_room_is_not_its_policy_server(
    a: Site, alice: Client, peer: Peer
) -> None:
    room, policy = await guarded(alice, a, peer)
    await room.pushes(
        room.event("m.room.member", {"membership": "leave"}, room.user_id)
    )
    mallory = Client(alice.http, alice.base_url, user_id=room.user_id)
    await alice.sees_member(room.room_id, mallory, "leave")
    policy.asked.clear()
    await alice.sends(room.room_id, "among ourselves")
    assert policy.asked == []


async def test_joins_and_invites_are_shown_to_it(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer, world: World
) -> None:
    room, policy = await guarded(alice, a, peer)
    await alice.invites(room.room_id, bob)
    await bob.is_shown(room.room_id, "invite")
    await bob.joins(room.room_id)
    await bob.sees_member(room.room_id, alice, "join")
    members = [text for text in policy.asked if text == "m.room.member"]
    assert len(members) == 2
    await agree(room.room_id, a, b)
    # A join that it refuses is refused where the other server hands it in.
    other = await world.peer()
    peer.answers[SIGN] = lambda _: (400, SPAM)
    with pytest.raises(RemoteError) as refused:
        await other.joins(a, room.room_id, "eve")
    assert refused.value.errcode == "M_FORBIDDEN"
    assert (await refusal(alice.invites(room.room_id, await b.person("ben")))).body[
        "error"
    ] == "this looks like spam"
