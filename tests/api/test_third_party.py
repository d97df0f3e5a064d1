"""Invites of e-mail addresses, as far as one server sees them."""

import pytest
from aiohttp import web

from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.identity import Identity

ONBIND = "/_matrix/federation/v1/3pid/onbind"
KIND = "m.room.third_party_invite"


async def a_room(alice: Client, identity: Identity, url: str | None = None) -> str:
    room = await alice.creates_room()
    await alice.sets_state(room, KIND, identity.invite(url), "token")
    return room


async def refused(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def membership(alice: Client, room: str, bob: Client) -> str | None:
    return (await alice.members(room)).get(bob.user_id)


async def test_a_bound_address_becomes_an_invite(hearth, alice, bob):
    identity = Identity()
    room = await a_room(alice, identity)
    body = identity.bound(bob.user_id, alice.user_id, room, "token")
    await hearth.nobody.put(ONBIND, body)
    await bob.is_shown(room, "invite")
    invite = await alice.state_of(room, "m.room.member", bob.user_id)
    assert invite["third_party_invite"]["display_name"] == "b...@example.org"
    await bob.joins(room)
    await hearth.nobody.put(ONBIND, body)
    assert await membership(alice, room, bob) == "join"


@pytest.mark.parametrize("wrong", ["signature", "token", "sender", "user", "gone"])
async def test_what_was_not_signed_is_no_invite(hearth, alice, bob, carol, wrong):
    identity = Identity()
    room = await a_room(alice, identity)
    body = identity.bound(bob.user_id, alice.user_id, room, "token")
    invite = body["invites"][0]
    if wrong == "signature":
        invite["signed"] = Identity().signed(bob.user_id, "token")
    elif wrong == "token":
        invite["signed"] = identity.signed(bob.user_id, "other")
    elif wrong == "sender":
        invite["sender"] = carol.user_id
    elif wrong == "user":
        invite["signed"] = {**invite["signed"], "mxid": carol.user_id}
        assert (await refused(hearth.nobody.put(ONBIND, body)))[0] == 400
    else:
        await alice.sets_state(room, KIND, {}, "token")
    if wrong != "user":
        await hearth.nobody.put(ONBIND, body)
    assert await membership(alice, room, bob) is None


async def test_a_key_that_is_not_valid_any_more(another, person):
    server = await another(federation={"allow_addresses": ["127.0.0.0/8"]})
    alice, bob = await person(server), await person(server)
    identity = Identity()
    app = web.Application()
    app.router.add_get("/valid", identity.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        room = await a_room(alice, identity, f"http://127.0.0.1:{port}/valid")
        body = identity.bound(bob.user_id, alice.user_id, room, "token")
        identity.is_valid = False
        await server.nobody.put(ONBIND, body)
        assert await membership(alice, room, bob) is None
        identity.is_valid = True
        await server.nobody.put(ONBIND, body)
        assert await membership(alice, room, bob) == "invite"
        assert identity.asked == [identity.public_key] * 2
    finally:
        await runner.cleanup()


async def test_a_user_joins_with_what_an_identity_server_signed(alice, bob, carol):
    identity = Identity()
    room = await a_room(alice, identity)
    signed = {**identity.signed(bob.user_id, "token"), "sender": alice.user_id}
    body = {"third_party_signed": signed}
    where = path("rooms", room, "join")
    assert (await refused(carol.post(where, body)))[0] == 400
    assert (await refused(bob.post(where, {"third_party_signed": {"x": 1}})))[0] == 400
    await bob.post(where, body)
    assert await membership(alice, room, bob) == "join"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"medium": "email", "address": "a", "mxid": "bob", "invites": []},
        {"medium": "email", "address": "a", "mxid": "@no:hearth.test", "invites": []},
        {"medium": "email", "address": "a", "mxid": "@b:else.test", "invites": [{}]},
        {"medium": "email", "address": "a", "mxid": "@b:else.test", "invites": 1},
    ],
)
async def test_bad_notices(hearth, body):
    assert (await refused(hearth.nobody.put(ONBIND, body)))[0] in (400, 404)


async def test_without_an_identity_server_nobody_is_invited_by_address(alice):
    room = await alice.creates_room()
    body = {
        "medium": "email",
        "address": "bob@example.org",
        "id_server": "identity.test",
        "id_access_token": "x",
    }
    call = alice.post(path("rooms", room, "invite"), body)
    assert await refused(call) == (403, "M_SERVER_NOT_TRUSTED")
    assert (await refused(alice.creates_room(invite_3pid=[body])))[0] == 403
