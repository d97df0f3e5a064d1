"""EDUs of a server that repeats itself, says too much, or speaks where it may not."""

from typing import Any

from federation import edu
from federation.edu import DirectToDevice, Edu
from homeserver.transactions.edus import MOST_ROOMS
from tests.support.client import Client
from tests.support.liars import shared
from tests.support.peer import Peer
from tests.support.sites import Site

TS = 1_700_000_000_000


def note(sender: str, to: Client, message_id: str, body: str) -> Edu:
    messages: Any = {to.user_id: {"*": {"body": body}}}
    return DirectToDevice(sender, "m.test", message_id, messages).to_edu()  # type: ignore[arg-type]


async def inbox(who: Client) -> list[str]:
    reply = await who.syncs()
    return [e["content"]["body"] for e in reply.get("to_device", {}).get("events", ())]


async def test_a_message_to_devices_arrives_once_and_from_its_own_server_only(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    mine = room.user_id
    twice = note(mine, alice, "1", "once")
    forged = note(f"@x:{a.name}", alice, "2", "as if of yours")
    stranger = note("@x:elsewhere.test", alice, "3", "as if of others")
    huge = note(mine, alice, "4", "x" * 2**20)
    nameless = note(mine, alice, "x" * 33, "too long a name")
    await peer.pushes(a, edus=[twice, twice, forged, stranger, huge, nameless])
    await peer.pushes(a, edus=[twice, note(mine, alice, "5", "another")])
    assert await inbox(alice) == ["once", "another"]
    # Another process, after it was read: still no news.
    await peer.pushes(a, edus=[twice])
    await peer.pushes(a, edus=[twice])
    assert await inbox(alice) == []


async def test_who_has_left_types_and_reads_no_more(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    second = await peer.joins(a, room.room_id, "second")
    event_id = await alice.sends(room.room_id, "read me")
    leave = room.event("m.room.member", {"membership": "leave"}, room.user_id)
    await room.pushes(leave)
    mallory = Client(alice.http, alice.base_url, user_id=room.user_id)
    await alice.sees_member(room.room_id, mallory, "leave")

    def said(user_id: str) -> list[Edu]:
        typing = edu.Typing(room.room_id, user_id, typing=True)  # type: ignore[arg-type]
        read = edu.Receipt(room.room_id, user_id, event_id, TS, None)  # type: ignore[arg-type]
        return [typing.to_edu(), *edu.receipts_to_edus([read])]

    # The server is in the room still, by its other user.
    await peer.pushes(a, edus=[*said(room.user_id), *said(second.user_id)])
    rows = await a.query("SELECT user_id FROM receipts WHERE NOT local")
    assert [row["user_id"] for row in rows] == [second.user_id]
    rows = await a.query("SELECT user_id FROM typing")
    assert [row["user_id"] for row in rows] == [second.user_id]


async def test_receipts_for_rooms_without_end_cost_little(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    event_id = await alice.sends(room.room_id, "read me")
    entry = {"m.read": {room.user_id: {"event_ids": [event_id], "data": {"ts": TS}}}}
    # JSON that is signed is sorted.
    before = {f"!!{i}:nowhere.test": entry for i in range(20_000)}
    after = {f"!~{i}:nowhere.test": entry for i in range(20_000)}
    late: dict[str, Any] = {**before, room.room_id: entry}
    early: dict[str, Any] = {room.room_id: entry, **after}
    assert len(before) > MOST_ROOMS
    await peer.pushes(a, edus=[Edu("m.receipt", late)])
    assert await a.query("SELECT 1 FROM receipts WHERE NOT local") == []
    users = {f"@{i}:{peer.name}": entry["m.read"][room.user_id] for i in range(20_000)}
    crowd: dict[str, Any] = {room.room_id: {"m.read": users}}
    await peer.pushes(a, edus=[Edu("m.receipt", early), Edu("m.receipt", crowd)])
    assert len(await a.query("SELECT 1 FROM receipts WHERE NOT local")) == 1
    await alice.sends(room.room_id, "all is well")
