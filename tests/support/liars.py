"""What tests with a lying peer share: a room with it, and what became of an event."""

from typing import Any

from tests.support.client import Client
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site


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
