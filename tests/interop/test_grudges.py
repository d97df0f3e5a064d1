"""Rooms with a grudge: ACLs, upgrades, moderators who disagree, keys that change."""

import base64
import json
import secrets
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from federation.ids import KeyId
from federation.room_versions import ROOM_VERSIONS
from federation.signatures import SigningKey, encode_base64
from homeserver import signing_key
from tests.interop.agreement import agree, both_hear
from tests.interop.stage import Stage
from tests.interop.test_outage import meet_again
from tests.support.api import path
from tests.support.client import Client, RefusedError
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST, Homeserver
from tests.support.identity import Identity
from tests.support.synapse import Synapse

pytestmark = pytest.mark.timeout(240)


async def test_an_acl_shuts_a_server_out(newest: Stage) -> None:
    alice, bob = await newest.people()
    room, other = [await newest.open_room(alice) for _ in range(2)]
    for each in (room, other):
        await bob.joins(each, via=alice)
        await both_hear(each, alice, bob)
    acl = {"allow": ["*"], "deny": ["LOCALHOST"], "allow_ip_literals": True}
    await alice.sets_state(room, "m.room.server_acl", acl)
    await bob.sees_state(room, "m.room.server_acl", acl)
    refused = await bob.sends(room, "can you hear me?")
    # What bob's server says next arrives, so that what it said before has arrived too.
    await both_hear(other, bob, alice)
    assert alice.seen.room(room).event(refused) is None
    rule = {"type": "m.room.server_acl", "state_key": "", "content": acl}
    closed = await newest.open_room(alice, initial_state=[rule])
    with pytest.raises(RefusedError) as shut:
        await bob.joins(closed, via=alice)
    assert shut.value.status in (403, 502)


@pytest.mark.parametrize("by_guest", [False, True])
async def test_an_upgraded_room_goes_on(newest: Stage, *, by_guest: bool) -> None:
    alice, bob = await newest.people()
    levels = {"users": {alice.user_id: 100, bob.user_id: 100}}
    room = await newest.open_room(
        alice,
        room_version="11",
        name="Old hall",
        power_level_content_override=levels,
    )
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    upgrading, following = (bob, alice) if by_guest else (alice, bob)
    reply = await upgrading.post(path("rooms", room, "upgrade"), {"new_version": "12"})
    new = str(reply["replacement_room"])
    await following.sees_event(
        room,
        lambda e: (
            e["type"] == "m.room.tombstone" and e["content"]["replacement_room"] == new
        ),
        "the tombstone",
    )
    await following.joins(new, via=upgrading)
    await both_hear(new, alice, bob)
    create = await following.state_of(new, "m.room.create")
    assert create["room_version"] == "12"
    assert create["predecessor"]["room_id"] == room
    assert await following.state_of(new, "m.room.name") == {"name": "Old hall"}
    await agree(new, alice, bob)


async def test_a_space_is_walked_through(newest: Stage) -> None:
    alice, bob = await newest.people()
    space = await newest.open_room(
        alice, name="Space", creation_content={"type": "m.space"}
    )
    hall = await newest.open_room(alice, name="Hall")
    secret = await newest.open_room(alice, preset="private_chat", name="Secret")
    for child in (hall, secret):
        content = {"via": [alice.server_name], "suggested": child == hall}
        await alice.sets_state(space, "m.space.child", content, child)
    await bob.joins(space, via=alice)
    await both_hear(space, alice, bob)
    found = await bob.get(
        path("rooms", space, "hierarchy").replace("/v3/", "/v1/"), limit=20
    )
    names = {each["room_id"]: each.get("name") for each in found["rooms"]}
    assert names == {space: "Space", hall: "Hall"}  # of the secret one nobody tells


@pytest.fixture
async def validity(newest: Stage) -> AsyncIterator[tuple[Identity, str]]:
    """An identity server that says its key is valid, and where."""
    identity = Identity()
    app = web.Application()
    app.router.add_get("/isvalid", identity.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    yield identity, f"http://{HOST}:{runner.addresses[0][1]}/isvalid"
    await runner.cleanup()


async def test_an_invite_of_an_address_becomes_one_of_its_user(
    newest: Stage, validity: tuple[Identity, str]
) -> None:
    """Played from where an identity server would tell the guest's server."""
    identity, url = validity
    alice, bob = await newest.people()
    room = await newest.open_room(alice, preset="private_chat")
    token = secrets.token_hex(8)
    content = identity.invite(url)
    await alice.sets_state(room, "m.room.third_party_invite", content, token)
    body = identity.bound(bob.user_id, alice.user_id, room, token)
    where = f"{newest.guest.base_url}/_matrix/federation/v1/3pid/onbind"
    # COMPAT(Synapse 1.163): it takes the POST of a time before the specification.
    method = "POST" if newest.guest.kind == "synapse" else "PUT"
    async with newest.guest.http.request(method, where, json=body) as reply:
        assert reply.status == 200, await reply.text()
    await bob.is_shown(room, "invite")
    invite = await alice.state_of(room, "m.room.member", bob.user_id)
    assert invite["third_party_invite"]["signed"]["mxid"] == bob.user_id
    await bob.joins(room)
    await both_hear(room, alice, bob)
    await agree(room, alice, bob)


# ── With a restart of both ───────────────────────────────────────────────────────────


async def _ready_to_fight(stage: Stage) -> tuple[list[Client], str]:
    alice, bob = await stage.people()
    carol, dave = await stage.another_host(), await stage.another_guest()
    room = await stage.open_room(
        alice,
        power_level_content_override={
            "events": {"m.room.power_levels": 50, "m.room.topic": 0},
        },
    )
    for who in (bob, carol, dave):
        await who.joins(room, via=alice)
    for who in (bob, carol, dave):
        await alice.sees_member(room, who, "join")
        await bob.sees_member(room, who, "join")
    await alice.sets_power(room, bob, 50)
    levels = await alice.state_of(room, "m.room.power_levels")
    await bob.sees_state(room, "m.room.power_levels", levels)
    return [alice, bob, carol, dave], room


async def test_moderators_who_part_and_keys_that_change(
    servers: tuple[Homeserver, Homeserver], overruled: dict[str, str]
) -> None:
    """Alice takes bob's power and bans dave; bob bans carol and gives dave power.

    Who had more power counts. Both servers change their keys while they are away.
    """
    host, guest = servers
    rooms = [
        await _ready_to_fight(Stage(*servers, ROOM_VERSIONS[version]))
        for version in ("3", "10", "12")
    ]
    await guest.stop()
    for (alice, bob, _, dave), room in rooms:
        await alice.sets_power(room, bob, 0)
        await alice.bans(room, dave)
    await host.stop()
    _new_key(guest)
    await guest.start()
    for (_, bob, carol, dave), room in rooms:
        await bob.bans(room, carol)
        await bob.sets_power(room, dave, 40)
        await bob.sets_state(room, "m.room.topic", {"topic": "Bob alone"})
        # What he may no longer do where alice's word has come already.
        overruled[room] = bob.user_id
    _new_key(host)
    await host.start()
    for (alice, bob, carol, dave), room in rooms:
        await meet_again(room, alice, bob)
        await agree(room, alice, bob)
        for who in (alice, bob):
            levels = (await who.state_of(room, "m.room.power_levels"))["users"]
            assert levels.get(bob.user_id) == 0
            assert dave.user_id not in levels
            members = await who.members(room)
            assert members[dave.user_id] == "ban"
            assert members[carol.user_id] == "join"
    # Who comes now checks what the old keys signed.
    (alice, bob, _, _), room = rooms[-1]
    newcomer = await Stage(host, guest, ROOM_VERSIONS["12"]).another_guest()
    await newcomer.joins(room, via=alice)
    await both_hear(room, alice, bob, newcomer)


def _new_key(server: Homeserver) -> None:
    """Change a stopped server's key as its operator would."""
    if isinstance(server, Hearth):
        signing_key.rotate(server.data / "signing.key")
        return
    assert isinstance(server, Synapse)
    file = server.directory / "signing.key"
    _, version, seed = file.read_text().split()
    old = SigningKey.from_seed(
        KeyId(f"ed25519:{version}"), base64.b64decode(seed + "==")
    )
    new = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    file.write_text(f"ed25519 b_{secrets.token_hex(2)} {new}\n")
    config = server.directory / "homeserver.yaml"
    settings = json.loads(config.read_text())
    settings.setdefault("old_signing_keys", {})[f"ed25519:{version}"] = {
        "key": encode_base64(bytes(old.key.verify_key)),
        "expired_ts": int(time.time() * 1000),
    }
    config.write_text(json.dumps(settings))
