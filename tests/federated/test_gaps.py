"""Gaps in what a server was told: it gets what leads over them, and no more."""

from tests.support.client import Client
from tests.support.liars import LyingRoom, known, shared
from tests.support.peer import Peer
from tests.support.sites import Site


async def test_history_from_before_our_join_is_no_news(
    a: Site, alice: Client, peer: Peer
) -> None:
    """Asked for a gap, a server that does not know our extremities gives all it has.

    Were the beginning of the room taken for news, the room would end there too, in a
    state without us; and merging that with the closed door would put us out.
    """
    theirs = LyingRoom(peer)
    guest = f"@guest:{peer.name}"
    join = {"membership": "join"}
    guest_joins = theirs.room.event("m.room.member", join, guest, sender=guest)
    theirs.state.append(guest_joins)
    await alice.joins(theirs.room_id, via=peer.name)
    await alice.syncs()
    room, room.site = theirs.room, a
    room.take(theirs.joined[0])
    room.latest = [theirs.joined[0]]
    closed = room.event("m.room.join_rules", {"join_rule": "invite"}, "")
    ban = room.event("m.room.member", {"membership": "ban"}, guest)
    message = room.says("over the gap")
    everything = [*theirs.state, theirs.joined[0], closed, ban]
    peer.answers["v1/get_missing_events/"] = lambda _: {
        "events": [event.json for event in everything]
    }
    await room.pushes(message)
    await alice.sees(theirs.room_id, "over the gap")
    assert theirs.room_id in await alice.joined_rooms()
    # Nor is anybody told of the beginning as if it had just happened.
    news = alice.seen.room(theirs.room_id).timeline
    assert [e["event_id"] for e in news][-3:] == [
        closed.event_id,
        ban.event_id,
        message.event_id,
    ]
    assert (await known(a, guest_joins.event_id))["position"] is None
    now = await a.room(theirs.room_id)
    (last,) = (await a.ctx.live.events.by_nids(now.head.extremities)).values()
    assert last.event_id == message.event_id


async def test_what_stands_behind_a_refused_event_is_no_end_of_the_room(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    other = (await peer.joins(a, room.room_id, "other")).user_id
    room = await peer.joins(a, room.room_id, "friend")
    await alice.sends(room.room_id, "from here on two branches")
    await alice.bans(
        room.room_id, Client(alice.http, alice.base_url, user_id=f"@other:{peer.name}")
    )
    first = room.says("before")
    refused = room.event("m.room.message", {"body": "I was banned"}, sender=other)
    last = room.says("after")
    await room.pushes(first)
    await room.pushes(refused)
    assert (await known(a, refused.event_id))["soft_failed"]
    await room.pushes(last)
    now = await a.room(room.room_id)
    ends = (await a.ctx.live.events.by_nids(now.head.extremities)).values()
    assert {e.pdu.type for e in ends} == {"m.room.member", "m.room.message"}
    assert [e.event_id for e in ends if e.pdu.type == "m.room.message"] == [
        last.event_id
    ]
