"""A joining server that can do without the members at first gets a short answer.

Spec: server-server-api#put_matrixfederationv2send_joinroomideventid, MSC3706
"""

import pytest

from federation import signatures
from federation.bodies import JoinedRoom
from federation.ids import RoomId, ServerName, UserId
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import ROOM_VERSIONS
from federation.wire import calls_rooms
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.sites import Site, World


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of two counts as large."""
    monkeypatch.setattr("homeserver.rooms.server_api.handover.FEW_MEMBERS", 0)


@pytest.fixture
async def a(world: World) -> Site:
    """One process: what was answered is what the next request sees."""
    return await world.site(1)


async def _handed_over(
    peer: Peer, site: Site, room_id: str, *, omit_members: bool
) -> JoinedRoom:
    """What the site answers to a join of somebody on the peer."""
    user_id = UserId(f"@somebody:{peer.name}")
    there = ServerName(site.name)
    template = await calls_rooms.make_join(
        peer.wire, there, RoomId(room_id), user_id, ROOM_VERSIONS
    )
    version = ROOM_VERSIONS[template.room_version]
    event = peer.completes(template, version)
    return await calls_rooms.send_join_v2(
        peer.wire,
        there,
        RoomId(room_id),
        signatures.event_id_of(event, version),
        event,
        omit_members=omit_members,
    )


def _parsed(raws: tuple[dict[str, object], ...], version: str = "12") -> list[Pdu]:
    return [parse_pdu(raw, ROOM_VERSIONS[version]) for raw in raws]  # type: ignore[arg-type]


async def test_members_are_left_out_when_the_joining_server_says_so(
    a: Site, b: Site, alice: Client, bob: Client, peer: Peer
) -> None:
    room = await alice.creates_room(preset="public_chat", name="Large")
    await bob.joins(room, via=alice)
    joined = await _handed_over(peer, a, room, omit_members=True)
    assert joined.members_omitted
    assert {*joined.servers_in_room} == {a.name, b.name}
    state = _parsed(joined.state)
    assert {pdu.type for pdu in state} >= {"m.room.create", "m.room.name"}
    assert not [pdu for pdu in state if pdu.type == "m.room.member"]
    # All that the given events rest on is there, once.
    chain = _parsed(joined.auth_chain)
    given = [pdu.event_id for pdu in (*state, *chain)]
    assert len(given) == len(set(given))
    rest = {event_id for pdu in (*state, *chain) for event_id in pdu.auth_events}
    assert rest <= set(given)
    assert {p.state_key for p in chain if p.type == "m.room.member"} == {alice.user_id}


async def test_a_room_without_a_name_comes_with_those_it_is_called_by(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await alice.creates_room(preset="public_chat")
    others = [await a.person(f"other{n}") for n in range(7)]
    for other in others:
        await other.joins(room)
    joined = await _handed_over(peer, a, room, omit_members=True)
    members = [p.state_key for p in _parsed(joined.state) if p.type == "m.room.member"]
    first = {alice.user_id, *(other.user_id for other in others[:4])}
    assert set(members) == first
    assert len(members) == len(first)


async def test_who_does_not_say_so_gets_all_members(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await alice.creates_room(preset="public_chat", name="Whole")
    other = await a.person("other")
    await other.joins(room)
    joined = await _handed_over(peer, a, room, omit_members=False)
    assert not joined.members_omitted
    members = {p.state_key for p in _parsed(joined.state) if p.type == "m.room.member"}
    assert members == {alice.user_id, other.user_id}
