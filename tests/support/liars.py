"""What tests with a lying peer share: a room with it, and what became of an event."""

from typing import Any

from aiohttp import web

from federation.pdu import Pdu, parse_pdu
from federation.room_versions import ROOM_VERSIONS
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
        self.joined: list[Pdu] = []  # the joins that were handed in
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

    async def _send_join(self, request: web.Request) -> dict[str, Any]:
        self.joined.append(parse_pdu(await request.json(), self.version))
        events = [event.json for event in self.state]
        return {"state": events, "auth_chain": events, **self.given}
