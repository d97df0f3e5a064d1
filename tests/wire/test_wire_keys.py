"""Fetching keys over TLS, from a server and from a notary."""

import pytest
from wire_support import Wire, answering

from federation import server_keys
from federation.ids import KeyId, ServerName
from federation.signatures import SigningKey
from federation.wire.errors import BadResponse, NotReachable, RemoteError
from federation.wire.keys import fetch_server_keys, fetch_through_notary

NOW = 1_800_000_000_000
KEY = SigningKey.from_seed(KeyId("ed25519:k"), bytes([3] * 32))
NOTARY_KEY = SigningKey.from_seed(KeyId("ed25519:n"), bytes([4] * 32))
OTHER = ServerName("other.test")
STRANGER = ServerName("stranger.test")


@pytest.fixture
async def there(wire: Wire):
    remote = await wire.remote("a.test")
    wire.resolver.hosts["a.test"] = ["127.0.0.1"]
    remote.name = ServerName(f"a.test:{remote.port}")
    return remote


def document(name: ServerName, key: SigningKey = KEY, until: int = NOW + 10_000):
    return server_keys.build(name, [key], {}, until)


async def test_a_servers_keys_come_from_itself(wire: Wire, there) -> None:
    there.handler = answering(document(there.name))
    found = await fetch_server_keys(wire.client(), there.name, NOW)
    assert found.verify_keys == {KEY.key_id: KEY.public}
    assert found.valid_until_ts == NOW + 10_000
    assert found.json == document(there.name)
    (seen,) = there.seen
    assert seen.target == "/_matrix/key/v2/server"
    assert "Authorization" not in seen.headers


async def test_their_validity_is_capped(wire: Wire, there) -> None:
    there.handler = answering(document(there.name, until=NOW * 2))
    found = await fetch_server_keys(wire.client(), there.name, NOW)
    assert found.valid_until_ts == NOW + 7 * 24 * 3600 * 1000


async def test_keys_that_do_not_hold_are_a_bad_response(wire: Wire, there) -> None:
    client = wire.client()
    forged = document(there.name) | {"valid_until_ts": NOW + 1}
    for wrong in (document(OTHER), forged, {}, [], {"server_name": there.name}):
        there.handler = answering(wrong)
        with pytest.raises(BadResponse):
            await fetch_server_keys(client, there.name, NOW)


async def test_errors_come_through(wire: Wire, there) -> None:
    client = wire.client()
    there.handler = answering({"errcode": "M_UNKNOWN"}, 500)
    with pytest.raises(RemoteError):
        await fetch_server_keys(client, there.name, NOW)
    with pytest.raises(NotReachable):
        await fetch_server_keys(client, OTHER, NOW)


@pytest.fixture
def notary(there):
    return server_keys.parse(document(there.name, NOTARY_KEY), there.name, NOW)


def notary_answer(name: ServerName, *documents):
    return server_keys.build_notary_response(
        server_keys.countersign(each, name, NOTARY_KEY) for each in documents
    )


async def test_a_notary_knows_keys_of_others(wire: Wire, there, notary) -> None:
    there.handler = answering(notary_answer(there.name, document(OTHER)))
    criteria = {OTHER: {KEY.key_id: NOW}}
    answer = await fetch_through_notary(wire.client(), notary, criteria, NOW)
    assert [keys.server_name for keys in answer.keys] == [OTHER]
    assert answer.keys[0].verify_keys == {KEY.key_id: KEY.public}
    assert answer.refused == ()
    (seen,) = there.seen
    assert (seen.method, seen.target) == ("POST", "/_matrix/key/v2/query")
    assert seen.json == {
        "server_keys": {OTHER: {"ed25519:k": {"minimum_valid_until_ts": NOW}}}
    }


async def test_what_a_notary_makes_up_is_refused(wire: Wire, there, notary) -> None:
    forged = document(OTHER) | {"valid_until_ts": NOW + 5}
    body = notary_answer(
        there.name, forged, document(STRANGER), document(OTHER, until=NOW + 7)
    )
    body["server_keys"].append(document(OTHER))
    there.handler = answering(body)
    answer = await fetch_through_notary(wire.client(), notary, {OTHER: {}}, NOW)
    # One is forged, one not countersigned, and nobody asked for the stranger's.
    assert [keys.valid_until_ts for keys in answer.keys] == [NOW + 7]
    assert len(answer.refused) == 2


async def test_a_notary_that_has_nothing(wire: Wire, there, notary) -> None:
    there.handler = answering({"server_keys": []})
    answer = await fetch_through_notary(wire.client(), notary, {OTHER: {}}, NOW)
    assert (answer.keys, answer.refused) == ((), ())
    there.handler = answering({})
    with pytest.raises(BadResponse):
        await fetch_through_notary(wire.client(), notary, {OTHER: {}}, NOW)
