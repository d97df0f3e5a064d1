"""Invites of our users by other servers: what is signed and shown, and what is not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from federation import signatures
from federation.bodies import Invite
from federation.ids import RoomId, ServerName, UserId
from federation.pdu import parse_pdu
from federation.room_versions import ROOM_VERSIONS, V10, V12
from federation.wire import calls_rooms
from federation.wire.errors import RemoteError
from tests.support.client import Client
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site, World
from tests.support.sites import world as a_world


@pytest.fixture
async def world(
    tmp_path: Path, new_dsn: Callable[[], Awaitable[str]]
) -> AsyncIterator[World]:
    async with a_world(tmp_path, new_dsn) as made:
        yield made


@pytest.fixture
async def site(world: World) -> Site:
    return await world.site(1)


@pytest.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


@pytest.fixture
async def alice(site: Site) -> Client:
    return await site.person("alice")


def _invite(peer: Peer, alice: Client, version: str, **options: Any) -> PeerRoom:
    """A room of the peer's with an invite of alice's on top."""
    room_version = ROOM_VERSIONS[version]
    host = UserId(f"@host:{peer.name}")
    room = PeerRoom(peer, None, RoomId(f"!theirs:{peer.name}"), room_version, host)
    content = {"room_version": version, "creator": host}
    if room_version.room_id_is_create_hash:
        raw = {
            "type": "m.room.create",
            "sender": host,
            "state_key": "",
            "content": content,
            "depth": 1,
            "origin_server_ts": 1,
            "prev_events": [],
            "auth_events": [],
        }
        signed = signatures.hash_and_sign_event(raw, room_version, peer.name, peer.key)
        create = parse_pdu(signed, room_version)
        room.room_id = create.room_id
        room.known[create.event_id] = create
        room.take(create)
        room.latest = [create]
    else:
        room.event("m.room.create", content, "")
    room.event("m.room.member", {"membership": "join"}, host)
    room.event("m.room.name", {"name": "Theirs"}, "")
    room.event("m.room.member", {"membership": "invite"}, alice.user_id, **options)
    return room


async def _sends_invite(site: Site, room: PeerRoom, told: list[Any]) -> Any:
    event = room.latest[0]
    return await calls_rooms.send_invite_v2(
        room.peer.wire,
        ServerName(site.name),
        event.room_id,
        event.event_id,
        Invite(room.version.identifier, event.json, tuple(told)),
    )


@pytest.mark.parametrize("version", ["1", "10", "12"])
async def test_an_invite_is_signed_and_shown(
    site: Site, peer: Peer, alice: Client, version: str
) -> None:
    room = _invite(peer, alice, version)
    told = [e.json for e in room.state.values() if e.type != "m.room.member"]
    signed = await _sends_invite(site, room, told)
    expected = {**room.latest[0].json, "signatures": signed["signatures"]}
    assert signed == expected
    signatures.check_event(
        signed, room.version, site.name, site.ctx.key.key_id, site.ctx.key.public
    )
    seen = await alice.is_shown(room.room_id, "invite")
    assert seen.stripped["m.room.name", ""]["content"] == {"name": "Theirs"}
    # Clients get stripped state and nothing else.
    for event in seen.stripped.values():
        assert set(event) <= {"type", "state_key", "sender", "content"}


async def test_stripped_state_of_older_servers_is_shown_in_older_rooms(
    site: Site, peer: Peer, alice: Client
) -> None:
    room = _invite(peer, alice, "10")
    host = room.user_id
    told = [
        {
            "type": "m.room.name",
            "state_key": "",
            "sender": host,
            "content": {"name": "Old"},
        },
        {"type": "m.room.topic", "state_key": 1, "sender": host, "content": {}},
        {"type": "m.room.topic", "state_key": "", "sender": "nobody", "content": {}},
        {"x": "y"},
    ]
    await _sends_invite(site, room, told)
    seen = await alice.is_shown(room.room_id, "invite")
    assert seen.stripped["m.room.name", ""]["content"] == {"name": "Old"}
    assert ("m.room.topic", "") not in seen.stripped


async def test_version_12_wants_the_create_event_and_signatures(
    site: Site, peer: Peer, alice: Client
) -> None:
    room = _invite(peer, alice, "12")
    name = room.state["m.room.name", ""].json
    create = room.state["m.room.create", ""].json
    unsigned = {k: v for k, v in name.items() if k != "signatures"}
    for told in ([], [name], [create, unsigned], [create, {**name, "room_id": "!x"}]):
        with pytest.raises(RemoteError) as refused:
            await _sends_invite(site, room, told)
        assert refused.value.errcode == "M_INVALID_PARAM"
    assert (await alice.syncs()).get("rooms", {}).get("invite") is None


async def test_invites_that_are_none_are_not_signed(
    site: Site, peer: Peer, alice: Client
) -> None:
    for options, errcode in (
        ({"state_key": f"@nobody:{site.name}"}, "M_NOT_FOUND"),
        ({"state_key": f"@bob:{peer.name}"}, "M_INVALID_PARAM"),
        ({"content": {"membership": "join"}}, "M_INVALID_PARAM"),
        ({"type": "m.room.topic"}, "M_INVALID_PARAM"),
        ({"sender": alice.user_id}, "M_INVALID_PARAM"),
    ):
        room = _invite(peer, alice, "10")
        event = room.latest[0].json
        for name in ("hashes", "signatures"):
            event = {k: v for k, v in event.items() if k != name}
        changed = {**event, **options}
        signed = signatures.hash_and_sign_event(changed, V10, peer.name, peer.key)
        room.latest = [parse_pdu(signed, V10)]
        with pytest.raises(RemoteError) as refused:
            await _sends_invite(site, room, [])
        assert refused.value.errcode == errcode, options
    room = _invite(peer, alice, "10")
    room.version = V12
    with pytest.raises(RemoteError):
        await _sends_invite(site, room, [])
    with pytest.raises(RemoteError) as refused:
        await peer.asks(
            site,
            "PUT",
            f"/_matrix/federation/v2/invite/{room.room_id}/{room.latest[0].event_id}",
            {"room_version": "org.example.1", "event": room.latest[0].json},
        )
    assert refused.value.errcode == "M_INCOMPATIBLE_ROOM_VERSION"


async def test_version_1_of_the_invite_endpoint(
    site: Site, peer: Peer, alice: Client
) -> None:
    room = _invite(peer, alice, "1")
    event = room.latest[0]
    signed = await calls_rooms.send_invite_v1(
        peer.wire,
        ServerName(site.name),
        event.room_id,
        event.event_id,
        Invite("1", event.json),
    )
    assert site.name in signed["signatures"]  # type: ignore[operator]
    await alice.is_shown(room.room_id, "invite")
