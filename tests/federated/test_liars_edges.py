"""The edges of what an event may be, in every room version: here is in, there is out.

Spec: client-server-api#size-limits, server-server-api#pdus
"""

from typing import Any

from federation import canonical_json, signatures
from federation.pdu import MAX_AUTH_EVENTS, MAX_PDU_BYTES, MAX_PREV_EVENTS, Pdu
from federation.room_versions import ROOM_VERSIONS, EventIdFormat
from tests.support.client import Client
from tests.support.liars import known, shared
from tests.support.peer import Peer, PeerRoom
from tests.support.sites import Site


def signed(room: PeerRoom, event: Pdu, **changes: Any) -> dict[str, Any]:
    """The event signed anew with changes that the peer's own parser would refuse."""
    bare = {
        name: value
        for name, value in event.json.items()
        if name not in ("hashes", "signatures")
    }
    if room.version.event_id_format is EventIdFormat.FROM_SERVER:
        bare["event_id"] = str(bare["event_id"]).replace("$e", "$x")
    return signatures.hash_and_sign_event(
        bare | changes, room.version, room.peer.name, room.peer.key
    )


def filled(event: Pdu, size: int) -> dict[str, Any]:
    """The content that gives the event's JSON exactly this size."""
    body = str(event.content["body"])
    lacking = size - len(canonical_json.encode(event.json))
    return {**event.content, "body": body + "x" * lacking}


async def test_sixty_four_kilobytes_and_not_one_byte_more(
    a: Site, alice: Client, peer: Peer
) -> None:
    for version in ROOM_VERSIONS:
        room = await shared(alice, a, peer, room_version=version)
        short = room.says("short", keep=False)
        large = room.says(
            filled(short, MAX_PDU_BYTES)["body"],
            keep=False,
            origin_server_ts=short.origin_server_ts,
        )
        # IDs that servers make may have one digit more than the one before.
        rest = MAX_PDU_BYTES - len(large.text)
        assert abs(rest) <= 1, version
        if rest:
            large = room.says(filled(large, MAX_PDU_BYTES)["body"], keep=False)
        larger = signed(room, large, content=filled(large, MAX_PDU_BYTES + 1))
        assert len(large.text) == MAX_PDU_BYTES, version
        assert len(canonical_json.encode(larger)) == MAX_PDU_BYTES + 1
        results = await peer.pushes(a, [larger, large.json])
        assert results == {large.event_id: None}, version
        assert (await known(a, large.event_id))["position"] is not None
    await alice.sends(room.room_id, "all is well")


async def test_twenty_events_before_and_ten_that_authorise(
    a: Site, alice: Client, peer: Peer
) -> None:
    for version in ROOM_VERSIONS:
        room = await shared(alice, a, peer, room_version=version)
        base = list(room.latest)
        forks = [
            room.says(f"fork {i}", after=base, keep=False)
            for i in range(MAX_PREV_EVENTS + 1)
        ]
        assert set((await room.pushes(*forks)).values()) == {None}
        wide = room.says("twenty", after=forks[:-1], keep=False)
        wider = signed(
            room,
            wide,
            prev_events=[
                *wide.json["prev_events"],  # type: ignore[misc]
                *room.says("x", after=forks[-1:], keep=False).json["prev_events"],  # type: ignore[misc]
            ],
        )
        results = await peer.pushes(a, [wider, wide.json])
        assert results == {wide.event_id: None}, version
        await alice.sees_id(room.room_id, wide.event_id)
        # Ten names of auth_events are read; what is wrong about them is said then.
        names = wide.json["auth_events"]
        assert isinstance(names, list)
        ten = signed(room, wide, auth_events=(names * 10)[:MAX_AUTH_EVENTS])
        eleven = signed(
            room, wide, auth_events=(names * 10)[: MAX_AUTH_EVENTS + 1], depth=3
        )
        results = await peer.pushes(a, [ten, eleven])
        assert list(results) == [signatures.event_id_of(ten, room.version)], version
    await alice.sends(room.room_id, "all is well")
