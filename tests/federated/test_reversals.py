"""Where did my ban go? What state resolution undid is kept with its cause."""

from homeserver.live.reversals import read_reversals
from tests.support.client import Client
from tests.support.liars import shared
from tests.support.peer import Peer
from tests.support.sites import Site, World, agree


async def reversals(site: Site, room: str) -> list:
    async with site.ctx.db.read() as tx:
        return await read_reversals(tx, room, 100)


async def test_a_ban_that_vanishes_tells_why(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    carol = await b.person("carol")
    room = await alice.creates_room(preset="public_chat", room_version="10")
    await bob.joins(room, via=alice)
    await carol.joins(room, via=alice)
    for who in (bob, carol):
        await alice.sees_member(room, who, "join")
    await alice.sets_power(room, bob, 50)
    levels = await alice.state_of(room, "m.room.power_levels")
    await bob.sees_state(room, "m.room.power_levels", levels)
    world.part(a, b)
    # Alice takes bob's power away; bob, who has not heard of it, bans carol.
    await alice.sets_power(room, bob, 0)
    await bob.bans(room, carol)
    ban = (await b.state_ids(room))["m.room.member", carol.user_id]
    world.heal()
    await alice.sends(room, "healed")
    await carol.is_shown(room, "join", seconds=40)
    await agree(room, a, b)
    found = [each for each in await reversals(b, room) if each.lost == ban]
    assert len(found) == 1
    (lost,) = found
    assert (lost.type, lost.state_key) == ("m.room.member", carol.user_id)
    assert lost.lost_sender == bob.user_id
    assert lost.won == (await b.state_ids(room))["m.room.member", carol.user_id]
    assert lost.won_sender == carol.user_id
    assert lost.cause.startswith("refused after all: rule ")
    assert lost.by == (await b.state_ids(room))["m.room.power_levels", ""]


async def test_what_the_order_decided_is_told_and_usual_changes_are_not(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer, room_version="11")
    mallory = Client(alice.http, alice.base_url, user_id=room.user_id)
    await alice.sets_power(room.room_id, mallory, 50)
    now = await a.room(room.room_id)
    events = await a.ctx.live.events.by_nids({*now.state.values()})
    for event in events.values():
        room.take(event.pdu)
        room.known[event.event_id] = event.pdu
    heads = await a.ctx.live.events.by_nids(now.head.extremities)
    base = [event.pdu for event in heads.values()]
    room.latest = base
    first = room.event("m.room.topic", {"topic": "one"}, "")
    second = room.event("m.room.topic", {"topic": "two"}, "")
    third = room.event("m.room.topic", {"topic": "three"}, "")
    await room.pushes(first, second, third)
    assert await reversals(a, room.room_id) == []
    branch = room.event("m.room.topic", {"topic": "beside"}, "", after=base)
    late = room.event(
        "m.room.topic", {"topic": "old"}, "", after=base, origin_server_ts=1
    )
    await room.pushes(branch)
    await room.pushes(late)
    told = [(e.lost, e.won, e.by, e.refused) for e in await reversals(a, room.room_id)]
    assert told == [
        (late.event_id, branch.event_id, late.event_id, None),
        (third.event_id, branch.event_id, branch.event_id, None),
    ]
    assert await alice.state_of(room.room_id, "m.room.topic") == {"topic": "beside"}
    (newest, _) = await reversals(a, room.room_id)
    assert "order" in newest.cause


async def test_only_the_newest_are_kept(
    a: Site, alice: Client, peer: Peer, monkeypatch
) -> None:
    monkeypatch.setattr("homeserver.live.reversals.KEPT", 3)
    room = await shared(alice, a, peer)
    mallory = Client(alice.http, alice.base_url, user_id=room.user_id)
    await alice.sets_power(room.room_id, mallory, 50)
    now = await a.room(room.room_id)
    for event in (await a.ctx.live.events.by_nids(now.state.values())).values():
        room.take(event.pdu)
    heads = await a.ctx.live.events.by_nids(now.head.extremities)
    base = [event.pdu for event in heads.values()]
    for n in range(7):
        topic = room.event("m.room.topic", {"topic": f"{n}"}, "", after=base)
        await room.pushes(topic)
    found = await reversals(a, room.room_id)
    assert len(found) == 3
    assert found[0].won == topic.event_id
