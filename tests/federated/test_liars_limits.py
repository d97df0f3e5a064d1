"""A server that sends too much at once, and speaks for users that are not its own."""

import pytest

from federation import edu
from federation.edu import Edu
from federation.wire.errors import RemoteError
from tests.support.client import Client
from tests.support.liars import known, shared
from tests.support.peer import Peer, copied
from tests.support.sites import Site

VERSIONS = ["1", "6", "12"]
PDUS_AND_EDUS = [(51, 0), (0, 101)]


@pytest.mark.parametrize(("pdus", "edus"), PDUS_AND_EDUS)
async def test_a_transaction_that_is_too_long_is_refused_as_a_whole(
    a: Site, alice: Client, peer: Peer, pdus: int, edus: int
) -> None:
    room = await shared(alice, a, peer)
    event = room.says("one of too many")
    typing = edu.Typing(room.room_id, room.user_id, typing=True).to_edu()
    with pytest.raises(RemoteError) as refused:
        await peer.pushes(a, [event.json] * pdus, [typing] * edus)
    assert refused.value.status == 400
    assert await known(a, event.event_id) is None
    # Half of it is taken.
    assert await room.pushes(event) == {event.event_id: None}


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_event_with_too_many_references_or_bytes_is_dropped(
    a: Site, alice: Client, peer: Peer, version: str
) -> None:
    room = await shared(alice, a, peer, room_version=version)
    good = room.says("good")
    assert await room.pushes(good) == {good.event_id: None}
    wide = room.says("wide").json
    prev, auth = wide["prev_events"], wide["auth_events"]
    assert isinstance(prev, list)
    assert isinstance(auth, list)
    bad = [
        {**wide, "prev_events": prev * 21},
        {**wide, "auth_events": (auth * 11)[:11]},
        copied(good, content={"body": "x" * 65_536}),
    ]
    other = room.says("another one", after=[good], keep=False)
    results = await peer.pushes(a, [*bad, other.json])
    assert results == {other.event_id: None}
    await alice.sees(room.room_id, "another one")
    assert "wide" not in alice.seen.room(room.room_id).bodies()


async def test_a_server_speaks_in_edus_for_its_own_users_only(
    a: Site, alice: Client, peer: Peer
) -> None:
    room = await shared(alice, a, peer)
    event_id = await alice.sends(room.room_id, "read me")
    outsider = f"@outsider:{peer.name}"
    ts = 1_700_000_000_000

    def receipt(user_id: str, thread_id: str | None = None) -> Edu:
        given = edu.Receipt(room.room_id, user_id, event_id, ts, thread_id)  # type: ignore[arg-type]
        return edu.receipts_to_edus([given])[0]

    def typing(user_id: str) -> Edu:
        return edu.Typing(room.room_id, user_id, typing=True).to_edu()  # type: ignore[arg-type]

    lies = [receipt(alice.user_id), receipt(outsider)]
    lies += [typing(alice.user_id), typing(outsider)]
    nonsense = [Edu("m.receipt", {room.room_id: 1}), Edu("m.typing", {"room_id": []})]
    await peer.pushes(a, edus=[*lies, *nonsense, receipt(room.user_id, event_id)])
    rows = await a.query("SELECT user_id, thread_id FROM receipts WHERE NOT local")
    assert [tuple(row) for row in rows] == [(room.user_id, event_id)]
    assert await a.query("SELECT user_id FROM typing") == []
    await peer.pushes(a, edus=[typing(room.user_id)] * 3)
    assert len(await a.query("SELECT user_id FROM typing")) == 1
