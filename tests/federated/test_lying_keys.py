"""Key servers and notaries that lie, and keys that must be valid for long enough.

Spec: server-server-api#retrieving-server-keys
"""

import dataclasses
from typing import Any

import msgspec
import pytest

from federation import server_keys
from federation.ids import ServerName
from federation.signatures import SigningKey
from homeserver.server_keys.find import find_keys
from tests.support.client import Client
from tests.support.liars import known, shared
from tests.support.peer import Peer, answering
from tests.support.sites import Site, World

KEYS = "/_matrix/key/v2/server"
QUERY = "/_matrix/key/v2/query"


def document(name: str, key: SigningKey, until: int = 2_000_000_000_000) -> Any:
    return server_keys.build(ServerName(name), (key,), {}, until)


async def test_a_notary_asks_anew_when_a_key_must_be_valid_for_longer(
    world: World, peer: Peer
) -> None:
    site = await world.site(1)
    asker = await world.peer()
    now = site.ctx.clock.ms()
    peer.valid_until_ts = now + 3_600_000

    async def says(minimum: int) -> list[int]:
        answer = await asker.wire.request(
            ServerName(site.name),
            "GET",
            f"{QUERY}/{peer.name}",
            query=[("minimum_valid_until_ts", str(minimum))],
            signed=False,
        )
        return [each["valid_until_ts"] for each in answer["server_keys"]]  # type: ignore[call-overload, index, union-attr]

    assert await says(now) == [now + 3_600_000]
    peer.valid_until_ts = now + 7_200_000
    site.ctx.asked_for_keys.clear()
    # What is kept is enough for this, and not for that.
    assert await says(now + 1000) == [now + 3_600_000]
    assert peer.asked.count(KEYS) == 1
    assert await says(now + 5_000_000) == [now + 7_200_000]
    assert peer.asked.count(KEYS) == 2
    # A server that is away: what is kept is better than nothing.
    site.ctx.asked_for_keys.clear()
    with answering(peer, KEYS, lambda _: (500, {})):
        assert await says(now + 9_000_000) == [now + 7_200_000]


async def test_we_ask_a_notary_for_a_key_that_is_valid_when_it_must_be(
    world: World, peer: Peer
) -> None:
    site = await world.site(1)
    gone = await world.peer()
    await gone.stop()
    asked: list[Any] = []

    async def query(request: Any) -> Any:
        asked.append((await request.json())["server_keys"])
        forged = document(gone.name, SigningKey.generate("forged"))
        honest = document(gone.name, gone.key)
        mine = server_keys.countersign(honest, peer.name, peer.key)
        # One is not countersigned, one was changed after it was signed.
        return {"server_keys": [forged, {**mine, "valid_until_ts": 1}, mine]}

    federation = msgspec.structs.replace(
        site.config.federation, trusted_key_servers=(peer.name,)
    )
    config = msgspec.structs.replace(site.config, federation=federation)
    ctx = dataclasses.replace(site.ctx, config=config)
    at = site.ctx.clock.ms() + 1000
    forged_id = "ed25519:forged"
    with answering(peer, QUERY, query):
        wanted = {gone.name: {gone.key.key_id: at, forged_id: 0}}
        found = await find_keys(ctx, wanted)  # type: ignore[arg-type]
    assert asked == [
        {
            gone.name: {
                gone.key.key_id: {"minimum_valid_until_ts": at},
                forged_id: {},
            }
        }
    ]
    assert set(found) == {(gone.name, gone.key.key_id)}
    assert found[gone.name, gone.key.key_id].public == gone.key.public
    await gone.start()


@pytest.mark.parametrize("lie", ["another's", "unsigned", "old", "nonsense", "huge"])
async def test_a_key_server_that_lies_brings_no_event_in(
    a: Site, alice: Client, peer: Peer, world: World, lie: str
) -> None:
    room = await shared(alice, a, peer)
    other = await world.peer()
    theirs = await other.joins(a, room.room_id, "trudy")
    honest = other.key
    other.key = SigningKey.generate("new")
    told: Any = document(other.name, other.key)
    match lie:
        case "another's":
            told = document(peer.name, other.key)
        case "unsigned":
            told = {**told, "signatures": {}}
        case "old":
            told = document(other.name, other.key, until=1)
        case "nonsense":
            told = {"server_name": other.name, "verify_keys": []}
        case "huge":
            keys = {f"ed25519:{i}": {"key": "x" * 43} for i in range(10_000)}
            told = {**told, "verify_keys": keys}
    other.answers[KEYS] = lambda _: told
    event = theirs.says("signed with a key that nobody vouches for")
    results = await peer.pushes(a, [event.json])
    assert results[event.event_id] is not None
    assert await known(a, event.event_id) is None
    # What the server signs with its old key is as good as before.
    other.key = honest
    mine = theirs.state["m.room.member", theirs.user_id]
    good = theirs.says("signed as ever", after=[mine])
    assert await peer.pushes(a, [good.json]) == {good.event_id: None}
    await alice.sees_id(room.room_id, good.event_id)
