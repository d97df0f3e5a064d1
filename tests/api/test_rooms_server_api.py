"""What other servers ask about rooms, and what they are told."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from federation.bodies import MissingEventsQuery
from federation.ids import EventId, RoomId, ServerName, UserId
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import ROOM_VERSIONS
from federation.wire import calls, calls_queries, calls_rooms
from federation.wire.errors import RemoteError
from tests.support.client import Client
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site, World
from tests.support.sites import world as a_world

V1 = "/_matrix/federation/v1"


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


def events_of(raws: Any, room: PeerRoom) -> list[Pdu]:
    return [parse_pdu(raw, room.version) for raw in raws]


# ── Joining ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", list(ROOM_VERSIONS))
async def test_a_join_gets_the_whole_room(
    site: Site, peer: Peer, alice: Client, version: str
) -> None:
    room_id = await alice.creates_room(preset="public_chat", room_version=version)
    await alice.sends(room_id, "before")
    room = await peer.joins(site, room_id, "bob")
    ours = await site.state_ids(room_id)
    theirs = {key: event.event_id for key, event in room.state.items()}
    assert ours == theirs
    # Everything that authorises the state is there as well.
    for event in room.known.values():
        assert all(auth in room.known for auth in event.auth_events)
    await alice.sees_member(room_id, _client(room), "join")


def _client(room: PeerRoom) -> Client:
    return Client(lambda: None, "", user_id=room.user_id)  # type: ignore[arg-type, return-value]


async def test_versions_that_the_joining_server_lacks(
    site: Site, peer: Peer, alice: Client
) -> None:
    room_id = await alice.creates_room(preset="public_chat", room_version="11")
    user_id = UserId(f"@bob:{peer.name}")
    with pytest.raises(RemoteError) as refused:
        await calls_rooms.make_join(
            peer.wire, ServerName(site.name), RoomId(room_id), user_id, ["1", "10"]
        )
    assert refused.value.errcode == "M_INCOMPATIBLE_ROOM_VERSION"
    assert refused.value.body["room_version"] == "11"
    with pytest.raises(RemoteError) as refused:
        await calls_rooms.make_join(  # "Defaults to [1]"
            peer.wire, ServerName(site.name), RoomId(room_id), user_id, []
        )
    assert refused.value.errcode == "M_INCOMPATIBLE_ROOM_VERSION"


async def test_templates_are_for_users_of_the_asking_server(
    site: Site, peer: Peer, alice: Client
) -> None:
    room_id = await alice.creates_room(preset="public_chat")
    for operation in ("make_join", "make_leave", "make_knock"):
        with pytest.raises(RemoteError) as refused:
            await peer.asks(
                site,
                "GET",
                f"{V1}/{operation}/{room_id}/{alice.user_id}",
                query=[("ver", "12")],
            )
        assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


async def test_rooms_that_are_not_there(site: Site, peer: Peer) -> None:
    user_id = f"@bob:{peer.name}"
    for path in (
        f"make_join/!none:{site.name}/{user_id}",
        f"make_leave/!none:{site.name}/{user_id}",
        f"state/!none:{site.name}?event_id=$x:{site.name}",
        f"backfill/!none:{site.name}?v=$x:{site.name}&limit=1",
    ):
        with pytest.raises(RemoteError) as refused:
            await peer.asks(site, "GET", f"{V1}/{path}")
        assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")


async def test_a_restricted_room_whose_conditions_we_cannot_check(
    site: Site, peer: Peer, alice: Client
) -> None:
    gate = await alice.creates_room(preset="public_chat")

    async def room_for(*rooms: str, **options: Any) -> str:
        allow = [{"type": "m.room_membership", "room_id": room} for room in rooms]
        content = {"join_rule": "restricted", "allow": allow}
        rules = {"type": "m.room.join_rules", "state_key": "", "content": content}
        return await alice.creates_room(initial_state=[rules], **options)

    for room_id, errcode in (
        (await room_for(gate), "M_FORBIDDEN"),
        (await room_for(f"!unknown:{peer.name}"), "M_UNABLE_TO_AUTHORISE_JOIN"),
        (await room_for(gate, f"!unknown:{peer.name}"), "M_UNABLE_TO_AUTHORISE_JOIN"),
        (await room_for(), "M_FORBIDDEN"),
    ):
        with pytest.raises(RemoteError) as refused:
            await peer.joins(site, room_id, "bob")
        assert refused.value.errcode == errcode
    await peer.joins(site, gate, "bob")
    nobody = await room_for(
        gate,
        room_version="10",
        power_level_content_override={"invite": 101, "users": {alice.user_id: 100}},
    )
    with pytest.raises(RemoteError) as refused:
        await peer.joins(site, nobody, "bob")
    assert (refused.value.status, refused.value.errcode) == (
        400,
        "M_UNABLE_TO_GRANT_JOIN",
    )


# ── History ──────────────────────────────────────────────────────────────────────────


async def _talk(site: Site, peer: Peer, alice: Client) -> tuple[PeerRoom, list[str]]:
    room_id = await alice.creates_room(preset="public_chat")
    room = await peer.joins(site, room_id, "bob")
    return room, [await alice.sends(room_id, f"message {i}") for i in range(10)]


async def test_backfill_goes_back_from_where_it_is_told(
    site: Site, peer: Peer, alice: Client
) -> None:
    room, sent = await _talk(site, peer, alice)
    here = ServerName(site.name)
    start = EventId(sent[5])
    raws = await calls.backfill_room(peer.wire, here, room.room_id, [start], 3)
    found = [event.event_id for event in events_of(raws, room)]
    assert found == [sent[5], sent[4], sent[3]]
    raws = await calls.backfill_room(peer.wire, here, room.room_id, [start], 1000)
    events = events_of(raws, room)
    assert events[-1].is_create
    assert [e.depth for e in events] == sorted((e.depth for e in events), reverse=True)
    unknown = EventId("$" + "a" * 43)
    assert not await calls.backfill_room(peer.wire, here, room.room_id, [unknown], 5)


async def test_missing_events_lie_between_two_points(
    site: Site, peer: Peer, alice: Client
) -> None:
    room, sent = await _talk(site, peer, alice)
    ids = [EventId(event_id) for event_id in sent]

    async def missing(*, limit: int = 10, **more: Any) -> list[str]:
        query = MissingEventsQuery((ids[1],), (ids[8],), limit, **more)
        raws = await calls.get_missing_previous_events(
            peer.wire, ServerName(site.name), room.room_id, query
        )
        return [event.event_id for event in events_of(raws, room)]

    assert await missing() == sent[2:8]
    assert await missing(limit=2) == sent[6:8]
    assert await missing(limit=0) == []
    depth = (await site.ctx.live.events.by_id(sent[5])).pdu.depth
    assert await missing(min_depth=depth) == sent[5:8]


async def test_the_state_at_an_event_is_that_before_it(
    site: Site, peer: Peer, alice: Client
) -> None:
    room_id = await alice.creates_room(preset="public_chat")
    room = await peer.joins(site, room_id, "bob")
    before = await site.state_ids(room_id)
    topic = await alice.sets_state(room_id, "m.room.topic", {"topic": "new"})
    after = EventId(await alice.sends(room_id, "after"))
    here = ServerName(site.name)
    ids = await calls.get_room_state_ids(peer.wire, here, room.room_id, EventId(topic))
    assert sorted(ids.pdu_ids) == sorted(before.values())
    ids = await calls.get_room_state_ids(peer.wire, here, room.room_id, after)
    assert topic in ids.pdu_ids
    state = await calls.get_room_state(peer.wire, here, room.room_id, after)
    pdus = {event.event_id for event in events_of(state.pdus, room)}
    chain = {event.event_id for event in events_of(state.auth_chain, room)}
    assert pdus == set(ids.pdu_ids)
    assert chain == set(ids.auth_chain_ids)
    auth = await calls.get_event_auth(peer.wire, here, room.room_id, after)
    expected = await site.ctx.live.events.by_id(after)
    direct = set(expected.pdu.auth_events)
    assert direct <= {event.event_id for event in events_of(auth, room)}
    with pytest.raises(RemoteError) as refused:
        await calls.get_room_state_ids(
            peer.wire, here, room.room_id, EventId("$" + "a" * 43)
        )
    assert refused.value.status == 404


async def test_the_event_closest_to_a_time(
    site: Site, peer: Peer, alice: Client
) -> None:
    room, sent = await _talk(site, peer, alice)
    event = await site.ctx.live.events.by_id(sent[0])
    ts = event.pdu.origin_server_ts
    for direction, at in (("f", ts - 1), ("b", ts + 10**9), ("b", ts)):
        found = await calls.get_event_by_timestamp(
            peer.wire,
            ServerName(site.name),
            room.room_id,
            at,
            direction,  # type: ignore[arg-type]
        )
        there = await site.ctx.live.events.by_id(found.event_id)
        assert there.pdu.origin_server_ts == found.origin_server_ts
        assert (found.origin_server_ts >= at) == (direction == "f" or at == ts)
    with pytest.raises(RemoteError) as refused:
        await calls.get_event_by_timestamp(
            peer.wire, ServerName(site.name), room.room_id, 0, "b"
        )
    assert refused.value.status == 404


async def test_a_redacted_event_is_given_redacted(
    site: Site, peer: Peer, alice: Client
) -> None:
    room, sent = await _talk(site, peer, alice)
    await alice.redacts(room.room_id, sent[3])
    raw = await calls.get_event(peer.wire, ServerName(site.name), EventId(sent[3]))
    assert raw["content"] == {}
    assert parse_pdu(raw, room.version).event_id == sent[3]


async def test_the_directory_and_the_published_rooms(
    site: Site, peer: Peer, alice: Client
) -> None:
    room_id = await alice.creates_room(
        preset="public_chat", name="Findable", visibility="public"
    )
    alias = f"#find:{site.name}"
    await alice.sets_alias(room_id, alias)
    here = ServerName(site.name)
    entry = await calls_queries.query_room_directory(peer.wire, here, alias)  # type: ignore[arg-type]
    assert entry.room_id == room_id
    assert site.name in entry.servers
    with pytest.raises(RemoteError) as refused:
        await calls_queries.query_room_directory(peer.wire, here, f"#no:{site.name}")  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")
    rooms = await peer.asks(site, "GET", f"{V1}/publicRooms")
    assert [room["name"] for room in rooms["chunk"]] == ["Findable"]


# ── Bad input ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        "state/{room}",
        "state/{room}?event_id=nonsense",
        "state_ids/{room}",
        "backfill/{room}",
        "backfill/{room}?v=nonsense",
        "backfill/{room}?v=$a:b&limit=x",
        "backfill/{room}?v=$a:b&limit=-1",
        "event/nonsense",
        "event_auth/{room}/nonsense",
        "make_join/nonsense/@bob:{peer}",
        "make_join/{room}/nonsense",
    ],
)
async def test_nonsense_is_answered_with_400(
    site: Site, peer: Peer, alice: Client, path: str
) -> None:
    room_id = await alice.creates_room(preset="public_chat")
    await peer.joins(site, room_id, "bob")
    with pytest.raises(RemoteError) as refused:
        await peer.asks(
            site, "GET", f"{V1}/{path.format(room=room_id, peer=peer.name)}"
        )
    assert refused.value.status == 400
    assert refused.value.errcode in (
        "M_INVALID_PARAM",
        "M_MISSING_PARAM",
        "M_BAD_JSON",
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"origin": 1, "origin_server_ts": 1, "pdus": []},
        {"origin": "{peer}", "origin_server_ts": "x", "pdus": []},
        {"origin": "{peer}", "origin_server_ts": 1, "pdus": {}},
        {"origin": "{peer}", "origin_server_ts": 1, "pdus": [{}] * 51},
        {"origin": "{peer}", "origin_server_ts": 1, "pdus": [], "edus": [{}] * 101},
        {"origin": "elsewhere.test", "origin_server_ts": 1, "pdus": []},
    ],
)
async def test_transactions_that_are_none(
    site: Site, peer: Peer, body: dict[str, Any]
) -> None:
    text = json.dumps(body).replace("{peer}", peer.name)
    with pytest.raises(RemoteError) as refused:
        await peer.asks(site, "PUT", f"{V1}/send/1", json.loads(text))
    assert refused.value.status in (400, 403)


async def test_a_transaction_of_odds_and_ends_is_answered(
    site: Site, peer: Peer, alice: Client
) -> None:
    room_id = await alice.creates_room(preset="public_chat")
    room = await peer.joins(site, room_id, "bob")
    good = room.says("hello")
    pdus: list[Any] = [1, None, "x", [], {}, {"room_id": 1}, {"room_id": room_id}]
    edus: list[Any] = [
        1,
        {},
        {"edu_type": "m.typing", "content": {}},
        {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": "x"}},
        {"edu_type": "m.receipt", "content": {room_id: {"m.read": {"x": {}}}}},
        {"edu_type": "m.receipt", "content": {"!x": 1}},
        {"edu_type": "m.unknown", "content": {"a": "b"}},
    ]
    body = {
        "origin": peer.name,
        "origin_server_ts": 1,
        "pdus": [*pdus, good.json],
        "edus": edus,
    }
    answer = await peer.asks(site, "PUT", f"{V1}/send/odds", body)
    assert answer["pdus"] == {good.event_id: {}}
    await alice.sees(room_id, "hello")
