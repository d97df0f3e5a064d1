"""Rooms that two users share (MSC2666)."""

import pytest

from homeserver.rooms import mutual_api
from tests.support.api import RefusedError
from tests.support.client import Client

STABLE = "/_matrix/client/v1/mutual_rooms"
UNSTABLE = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"


async def shared(client: Client, other: Client, *, stable: bool) -> list[str]:
    where = STABLE if stable else UNSTABLE
    send, get = (
        ("from", "next_batch") if stable else ("batch_token", "next_batch_token")
    )
    rooms, token, count = [], {}, None
    while True:
        reply = await client.get(where, user_id=other.user_id, **token)
        rooms += reply["joined"]
        count = reply["count"]
        if get not in reply:
            assert count == len(rooms)
            return rooms
        token = {send: reply[get]}


@pytest.mark.parametrize("stable", [True, False])
async def test_the_rooms_in_which_both_are(alice, bob, carol, monkeypatch, stable):
    monkeypatch.setattr(mutual_api, "_PAGE", 2)
    assert await shared(alice, bob, stable=stable) == []
    both = []
    for _ in range(5):
        room = await alice.creates_room(preset="public_chat")
        await bob.joins(room)
        both.append(room)
    await alice.creates_room(invite=[bob.user_id])
    with_carol = await alice.creates_room(preset="public_chat")
    await carol.joins(with_carol)
    left = await alice.creates_room(preset="public_chat")
    await bob.joins(left)
    await bob.leaves(left)
    assert sorted(await shared(alice, bob, stable=stable)) == sorted(both)
    assert sorted(await shared(bob, alice, stable=stable)) == sorted(both)
    assert await shared(alice, carol, stable=stable) == [with_carol]


@pytest.mark.parametrize("where", [STABLE, UNSTABLE])
async def test_bad_questions(alice, bob, where):
    for query in (
        {},
        {"user_id": alice.user_id},
        {"user_id": "bob"},
        {"user_id": bob.user_id, "from": "x"},
    ):
        with pytest.raises(RefusedError) as refused:
            await alice.get(where, **query)
        assert refused.value.status == 400


async def test_the_flags_are_there(alice):
    features = (await alice.get("/_matrix/client/versions"))["unstable_features"]
    for flag in (
        "uk.half-shot.msc2666.query_mutual_rooms",
        "uk.half-shot.msc2666.query_mutual_rooms.stable",
        "org.matrix.msc4155",
        "org.matrix.msc4380.stable",
    ):
        assert features[flag] is True
