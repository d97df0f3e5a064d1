"""Joining a liar's room, and a liar that hands in what it should not."""

from typing import Any

import pytest
from aiohttp import web

from federation import signatures
from federation.ids import EventId, ServerName
from federation.room_versions import ROOM_VERSIONS
from federation.wire import calls, calls_rooms
from federation.wire.errors import RemoteError
from tests.support.client import Client, RefusedError
from tests.support.liars import LyingRoom, known
from tests.support.peer import Peer
from tests.support.sites import Site, eventually

VERSIONS = ["1", "6", "12"]
# ── Joining a liar's room ────────────────────────────────────────────────────────────


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
