"""Publishing our keys, serving as a notary, and who may ask in whose name."""

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from federation import server_keys, signatures, x_matrix
from federation.ids import KeyId, ServerName
from federation.room_versions import ROOM_VERSIONS
from federation.server_keys import OldVerifyKey
from federation.signatures import SigningKey
from federation.wire import keys as wire_keys
from federation.wire.errors import RemoteError
from homeserver.server_keys import store
from homeserver.server_keys.find import find_keys
from tests.support.peer import Peer
from tests.support.sites import Site, World
from tests.support.sites import world as a_world

VERSION_PATH = "/_matrix/federation/v1/query/directory?room_alias=%23x:"
NOW = 1_700_000_000_000


@pytest.fixture
async def world(
    tmp_path: Path, new_dsn: Callable[[], Awaitable[str]]
) -> AsyncIterator[World]:
    async with a_world(tmp_path, new_dsn) as made:
        yield made


@pytest.fixture
async def site(world: World) -> Site:
    return await world.site(1)


@pytest.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


# ── Publishing ───────────────────────────────────────────────────────────────────────


async def test_our_keys_are_signed_and_valid_for_a_while(
    site: Site, peer: Peer
) -> None:
    now = site.ctx.clock.ms()
    keys = await wire_keys.fetch_server_keys(peer.wire, ServerName(site.name), now)
    assert keys.verify_keys == {site.ctx.key.key_id: site.ctx.key.public}
    assert keys.valid_until_ts - now > 3600 * 1000


# ── Notary ───────────────────────────────────────────────────────────────────────────


async def notary_says(site: Site, peer: Peer, server: str) -> list[dict[str, Any]]:
    answer = await peer.wire.request(
        ServerName(site.name), "GET", f"/_matrix/key/v2/query/{server}", signed=False
    )
    assert isinstance(answer, dict)
    return answer["server_keys"]  # type: ignore[return-value]


async def test_a_notary_fetches_countersigns_and_remembers(
    site: Site, peer: Peer, world: World
) -> None:
    asker = await world.peer()
    found = await notary_says(site, asker, peer.name)
    assert len(found) == 1
    for name, key in ((peer.name, peer.key), (site.name, site.ctx.key)):
        signatures.check_json(found[0], name, key.key_id, key.public)
    await peer.stop()
    again = await notary_says(site, asker, peer.name)
    assert again[0]["verify_keys"] == found[0]["verify_keys"]
    await peer.start()


async def test_a_notary_knows_nothing_of_servers_that_are_not_there(
    site: Site, peer: Peer
) -> None:
    assert await notary_says(site, peer, "localhost:1") == []


async def test_many_servers_at_once(site: Site, peer: Peer) -> None:
    body = server_keys.build_notary_query(
        {
            peer.name: {peer.key.key_id: None},
            ServerName(site.name): {},
            ServerName("localhost:1"): {},
        }
    )
    answer = await peer.wire.request(
        ServerName(site.name), "POST", "/_matrix/key/v2/query", body=body, signed=False
    )
    names = {document["server_name"] for document in answer["server_keys"]}  # type: ignore[call-overload, index]
    assert names == {peer.name, site.name}


@pytest.mark.parametrize(
    "body", [{}, {"server_keys": 1}, {"server_keys": {"not a name!": {}}}]
)
async def test_a_notary_refuses_nonsense(
    site: Site, peer: Peer, body: dict[str, Any]
) -> None:
    with pytest.raises(RemoteError) as refused:
        await peer.wire.request(
            ServerName(site.name),
            "POST",
            "/_matrix/key/v2/query",
            body=body,
            signed=False,
        )
    assert refused.value.status == 400


async def test_a_notary_that_we_trust_stands_in_for_a_server_that_is_away(
    world: World,
) -> None:
    notary, gone = await world.site(1), await world.peer()
    await find_keys(notary.ctx, {gone.name: {gone.key.key_id: 0}})
    ours = await world.site(1)
    await gone.stop()
    wanted = {gone.name: {gone.key.key_id: 0}}
    assert await find_keys(ours.ctx, wanted) == {}
    trusting = await _trusting(ours, notary)
    found = await find_keys(trusting, wanted)
    assert found[gone.name, gone.key.key_id].public == gone.key.public
    await gone.start()


async def _trusting(site: Site, notary: Site) -> Any:
    """The site's context, as if it were configured to trust that notary."""
    federation = msgspec.structs.replace(
        site.config.federation, trusted_key_servers=(notary.name,)
    )
    config = msgspec.structs.replace(site.config, federation=federation)
    return dataclasses.replace(site.ctx, config=config)


# ── Whose request it is ──────────────────────────────────────────────────────────────


async def answer_to(site: Site, *headers: str, path: str = "") -> tuple[int, str]:
    """Ask with these Authorization headers; the status and the errcode."""
    port = site.processes[0].server.addresses[1].port
    path = path or VERSION_PATH + site.name
    url = f"https://127.0.0.1:{port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            url, headers=[("Authorization", h) for h in headers], ssl=False
        ) as reply,
    ):
        return reply.status, json.loads(await reply.text()).get("errcode", "")


def header(
    peer: Peer,
    site: Site,
    *,
    path: str = "",
    destination: str = "",
    key: SigningKey | None = None,
    origin: str = "",
) -> str:
    return x_matrix.sign(
        "GET",
        path or VERSION_PATH + site.name,
        ServerName(origin or peer.name),
        ServerName(destination or site.name),
        None,
        key or peer.key,
    ).header


async def test_a_signed_request_is_let_in(site: Site, peer: Peer) -> None:
    assert await answer_to(site, header(peer, site)) == (404, "M_NOT_FOUND")


async def test_a_second_signature_may_be_the_good_one(site: Site, peer: Peer) -> None:
    bad = header(peer, site, key=SigningKey.generate("unknown"))
    assert (await answer_to(site, bad, header(peer, site)))[0] == 404


async def test_requests_that_are_not_signed_as_they_should_are_refused(
    site: Site, peer: Peer
) -> None:
    good = header(peer, site)
    forged = SigningKey.from_seed(peer.key.key_id, bytes(32))
    for headers in (
        (),
        ("Bearer abc",),
        ("X-Matrix",),
        ("X-Matrix origin=,key=,sig=",),
        (good.replace("sig=", "sig=x"),),
        (header(peer, site, path="/_matrix/federation/v1/other"),),
        (header(peer, site, destination="elsewhere.test"),),
        (header(peer, site, key=forged),),
        (header(peer, site, key=SigningKey.generate("unknown")),),
        (header(peer, site, origin=site.name, key=site.ctx.key),),
        (header(peer, site, origin="localhost:1"),),
    ):
        assert await answer_to(site, *headers) == (401, "M_UNAUTHORIZED"), headers


async def test_a_key_that_is_not_valid_any_more_signs_no_requests(
    site: Site, peer: Peer
) -> None:
    peer.valid_until_ts = NOW  # long ago
    assert (await answer_to(site, header(peer, site)))[0] == 401


async def test_retired_keys_check_old_events_and_no_requests(
    site: Site, peer: Peer
) -> None:
    old = SigningKey.generate("old")
    document = server_keys.build(
        peer.name,
        (peer.key,),
        {KeyId(old.key_id): OldVerifyKey(old.public, expired_ts=NOW)},
        peer.valid_until_ts,
    )
    peer.key_document = lambda: document  # type: ignore[method-assign]
    assert (await answer_to(site, header(peer, site, key=old)))[0] == 401
    found = await find_keys(site.ctx, {peer.name: {old.key_id: NOW}})
    assert found[peer.name, old.key_id].is_retired
    assert found[peer.name, old.key_id].valid_until_ms == NOW


async def test_a_server_is_not_asked_again_and_again_for_a_key_it_lacks(
    site: Site, peer: Peer
) -> None:
    unknown = header(peer, site, key=SigningKey.generate("unknown"))
    for _ in range(5):
        assert (await answer_to(site, unknown))[0] == 401
    assert len([path for path in peer.asked if "key/v2/server" in path]) <= 1


# ── Keeping ──────────────────────────────────────────────────────────────────────────


def _keys(name: str, key: SigningKey, valid_until: int) -> server_keys.ServerKeys:
    document = server_keys.build(ServerName(name), (key,), {}, valid_until)
    return server_keys.parse(document, ServerName(name), NOW)


async def test_a_notary_cannot_replace_a_key(site: Site) -> None:
    name = "elsewhere.test"
    first = SigningKey.from_seed(KeyId("ed25519:1"), bytes(32))
    forged = SigningKey.from_seed(KeyId("ed25519:1"), bytes(range(32)))
    async with site.ctx.db.transaction() as tx:
        await store.upsert_keys(
            tx, (_keys(name, first, NOW + 1000),), from_themselves=True
        )
        for key, until in ((forged, NOW + 9000), (first, NOW + 5000)):
            await store.upsert_keys(
                tx, (_keys(name, key, until),), from_themselves=False
            )
        rows = await store.read_keys(tx, (ServerName(name),))
    assert [(row.public_key, row.valid_until) for row in rows] == [
        (first.public, NOW + 5000)
    ]


def test_key_validity_matters_from_version_5_on() -> None:
    key = SigningKey.generate("1")
    keys = _keys("elsewhere.test", key, NOW)
    for version in ROOM_VERSIONS.values():
        late = keys.event_key(key.key_id, NOW + 1, version)
        assert (late is None) == version.enforce_key_validity
