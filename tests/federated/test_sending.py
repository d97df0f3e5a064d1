"""What a destination gets, told by a peer that writes down every transaction."""

import pytest

from federation.bodies import MAX_PDUS
from tests.support.client import Client
from tests.support.liars import shared
from tests.support.peer import Peer
from tests.support.sites import Site, eventually


def bodies(peer: Peer) -> list[str]:
    return [
        pdu["content"]["body"]
        for transaction in peer.received
        for pdu in transaction["pdus"]
        if "body" in pdu["content"]
    ]


async def failing(site: Site, peer: Peer) -> bool:
    rows = await site.query(
        "SELECT 1 FROM destinations "
        "WHERE server_name = $1 AND failing_since IS NOT NULL",
        peer.name,
    )
    return bool(rows)


async def goes_away(site: Site, peer: Peer, alice: Client, room_id: str) -> None:
    """Stop the peer, and have the site notice."""
    await peer.stop()
    peer.received.clear()
    await alice.sends(room_id, "are you there?")
    await eventually(lambda: failing(site, peer), "the site notices")


async def comes_back(site: Site, peer: Peer) -> None:
    """Start the peer again; its first request is the sign of life."""
    await peer.start()
    await peer.pushes(site)


async def test_a_backlog_comes_in_order_and_in_transactions_of_fifty(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    await goes_away(a, peer, alice, room.room_id)
    for i in range(120):
        await alice.sends(room.room_id, f"missed {i}")
    await comes_back(a, peer)

    async def has_all() -> bool:
        return "missed 119" in bodies(peer)

    await eventually(has_all, "the backlog arrives", seconds=60)
    assert bodies(peer) == ["are you there?", *(f"missed {i}" for i in range(120))]
    assert max(len(t["pdus"]) for t in peer.received) <= MAX_PDUS


async def test_after_a_long_outage_the_last_event_of_each_room_takes_the_place_of_all(
    a: Site, alice: Client, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.destinations.delivery.MAX_BACKLOG", 10)
    monkeypatch.setattr("homeserver.destinations.destination.MAX_QUEUE", 5)
    one = await shared(alice, a, peer)
    other = await shared(alice, a, peer)
    await goes_away(a, peer, alice, one.room_id)
    for i in range(10):
        await alice.sends(one.room_id, f"one {i}")
        await alice.sends(other.room_id, f"other {i}")
    await comes_back(a, peer)

    async def has_the_last() -> bool:
        return {"one 9", "other 9"} <= set(bodies(peer))

    await eventually(has_the_last, "the last events arrive", seconds=60)
    # What had been tried before the server was gone is repeated as it was.
    skipped = {f"{name} {i}" for name in ("one", "other") for i in range(9)}
    assert not skipped & set(bodies(peer))
    # And from then on everything again.
    await alice.sends(one.room_id, "go on")
    await alice.sends(one.room_id, "and on")

    async def has_what_followed() -> bool:
        return bodies(peer)[-2:] == ["go on", "and on"]

    await eventually(has_what_followed, "all goes on", seconds=60)
