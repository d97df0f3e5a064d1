"""Cross-signing keys and signatures: who may set them, and who sees which."""

import pytest

from federation.signatures import encode_base64, sign_json
from tests.support.api import RefusedError, path
from tests.support.app import PASSWORD, Running
from tests.support.client import Client
from tests.support.encryption import Device, keys_of

UPLOAD = path("keys", "device_signing", "upload")
SIGN = path("keys", "signatures", "upload")
PUBLIC = {"preset": "public_chat"}


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


def by_password(who: Client, password: str = PASSWORD) -> dict:
    identifier = {"type": "m.id.user", "user": who.user_id}
    return {
        "type": "m.login.password",
        "identifier": identifier,
        "password": password,
    }


async def has_keys(who: Client) -> Device:
    device = Device(who)
    await device.publishes()
    await who.post(UPLOAD, device.new_cross_signing())
    return device


def public(key) -> str:
    return encode_base64(key.public)


async def test_everybody_sees_the_keys_but_the_user_signing_one(
    alice: Client, bob: Client
):
    device = Device(alice)
    keys = device.new_cross_signing()
    await alice.post(UPLOAD, keys)
    for viewer, sees in ((alice, True), (bob, False)):
        found = await keys_of(viewer, alice)
        assert found["master_keys"] == {alice.user_id: keys["master_key"]}
        assert found["self_signing_keys"] == {alice.user_id: keys["self_signing_key"]}
        user_signing = found.get("user_signing_keys", {})
        expected = {alice.user_id: keys["user_signing_key"]} if sees else {}
        assert user_signing == expected


async def test_other_keys_need_the_password_and_the_same_do_not(alice: Client):
    device = Device(alice)
    first = device.new_cross_signing()
    await alice.post(UPLOAD, first)
    await alice.post(UPLOAD, first)
    await alice.post(UPLOAD, {"master_key": first["master_key"]})
    second = device.new_cross_signing()
    for body in (
        second,
        {"master_key": second["master_key"]},
        # Signed by the old master key, but new.
        {**second, "auth": by_password(alice, "wrong")},
    ):
        status, reply = await alice.answer("POST", UPLOAD, body)
        assert status == 401
        assert reply["flows"] == [{"stages": ["m.login.password"]}]
    found = await keys_of(alice, alice)
    assert found["master_keys"] == {alice.user_id: first["master_key"]}
    auth = by_password(alice) | {"session": reply["session"]}
    await alice.post(UPLOAD, {**second, "auth": auth})
    found = await keys_of(alice, alice)
    assert found["master_keys"] == {alice.user_id: second["master_key"]}


async def test_a_new_master_key_alone_ends_what_the_old_one_signed(alice: Client):
    device = await has_keys(alice)
    new = device.new_cross_signing()
    body = {"master_key": new["master_key"], "auth": by_password(alice)}
    await alice.post(UPLOAD, body)
    found = await keys_of(alice, alice)
    assert "self_signing_keys" not in found
    assert "user_signing_keys" not in found
    status, _ = await alice.answer(
        "POST", UPLOAD, {"self_signing_key": new["self_signing_key"]}
    )
    assert status == 401
    body = {"self_signing_key": new["self_signing_key"], "auth": by_password(alice)}
    await alice.post(UPLOAD, body)
    found = await keys_of(alice, alice)
    assert found["self_signing_keys"] == {alice.user_id: new["self_signing_key"]}


async def test_uploads_that_make_no_sense(alice: Client, bob: Client):
    device = Device(alice)
    keys = device.new_cross_signing()
    master, self_signing = keys["master_key"], keys["self_signing_key"]
    invalid, signature = (400, "M_INVALID_PARAM"), (400, "M_INVALID_SIGNATURE")
    unsigned = {k: v for k, v in self_signing.items() if k != "signatures"}
    forged = device.sign(unsigned)
    for body, expected in [
        ({}, (400, "M_MISSING_PARAM")),
        ({"self_signing_key": self_signing}, (400, "M_MISSING_PARAM")),
        ({"master_key": []}, (400, "M_BAD_JSON")),
        ({"master_key": {**master, "user_id": bob.user_id}}, invalid),
        ({"master_key": {**master, "usage": ["self_signing"]}}, invalid),
        ({"master_key": {**master, "usage": ["master", "other"]}}, invalid),
        ({"master_key": {**master, "usage": [["master"], "master"]}}, invalid),
        ({"master_key": {**master, "usage": "master"}}, invalid),
        ({"master_key": {**master, "keys": {}}}, invalid),
        ({"master_key": {**master, "keys": {"ed25519:a": "b"}}}, invalid),
        ({"master_key": {**master, "keys": {"ed25519:a": "a"}}}, invalid),
        ({"master_key": {**master, "keys": {"a": 1}}}, (400, "M_BAD_JSON")),
        ({"master_key": master, "self_signing_key": unsigned}, signature),
        ({"master_key": master, "self_signing_key": forged}, signature),
    ]:
        assert await refusal(alice.post(UPLOAD, body)) == expected, body
    assert "master_keys" not in await keys_of(alice, alice)


async def test_a_key_is_not_named_like_a_device(hearth: Running, alice: Client):
    device = Device(alice)
    keys = device.new_cross_signing()
    await hearth.logs_in(alice.user_id, device_id=public(device.master))
    assert await refusal(alice.post(UPLOAD, keys)) == (403, "M_FORBIDDEN")


async def test_a_device_is_signed_and_others_hear_of_it(alice: Client, bob: Client):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    device = await has_keys(alice)
    await bob.syncs()
    signed = sign_json(device.keys(), alice.user_id, device.self_signing)
    body = {alice.user_id: {alice.device_id: signed}}
    assert await alice.post(SIGN, body) == {"failures": {}}
    found = await keys_of(bob, alice)
    assert found["device_keys"][alice.user_id][alice.device_id] == signed
    assert (await bob.syncs())["device_lists"]["changed"] == [alice.user_id]
    assert await alice.post(SIGN, body) == {"failures": {}}
    assert "device_lists" not in await bob.syncs()


async def test_a_device_signs_the_own_master_key(alice: Client, bob: Client):
    device = await has_keys(alice)
    master = device.cross_signing_key("master", device.master)
    body = {alice.user_id: {public(device.master): device.sign(master)}}
    assert await alice.post(SIGN, body) == {"failures": {}}
    for viewer in (alice, bob):
        found = await keys_of(viewer, alice)
        assert found["master_keys"][alice.user_id] == device.sign(master)


async def test_signatures_of_other_users_keys_are_seen_by_the_signer_alone(
    alice: Client, bob: Client, carol: Client
):
    hers, his = await has_keys(alice), await has_keys(bob)
    master = his.cross_signing_key("master", his.master)
    await alice.syncs()
    await bob.syncs()
    signed = sign_json(master, alice.user_id, hers.user_signing)
    body = {bob.user_id: {public(his.master): signed}}
    assert await alice.post(SIGN, body) == {"failures": {}}
    assert (await keys_of(alice, bob))["master_keys"][bob.user_id] == signed
    for viewer in (bob, carol):
        assert (await keys_of(viewer, bob))["master_keys"][bob.user_id] == master
    # Her other devices have to look again.
    assert (await alice.syncs())["device_lists"]["changed"] == [bob.user_id]
    assert "device_lists" not in await bob.syncs()


async def test_wrong_signatures_fail_one_by_one(alice: Client, bob: Client):
    hers, his = await has_keys(alice), await has_keys(bob)
    device_keys = hers.keys()
    good = sign_json(device_keys, alice.user_id, hers.self_signing)
    own_master = hers.cross_signing_key("master", hers.master)
    his_master = his.cross_signing_key("master", his.master)
    name = f"ed25519:{public(hers.self_signing)}"
    forged = {**device_keys, "signatures": {alice.user_id: {name: "AAAA"}}}
    wrong_hand = sign_json(device_keys, alice.user_id, hers.user_signing)
    changed = sign_json(hers.keys(x=1), alice.user_id, hers.self_signing)
    for key_id, target, value, errcode in [
        (alice.device_id, alice, forged, "M_INVALID_SIGNATURE"),
        (alice.device_id, alice, wrong_hand, "M_INVALID_SIGNATURE"),
        (alice.device_id, alice, changed, "M_INVALID_PARAM"),
        ("OTHER", alice, good, "M_NOT_FOUND"),
        (public(hers.user_signing), alice, own_master, "M_NOT_FOUND"),
        (bob.device_id, bob, his.keys(), "M_NOT_FOUND"),
        (
            public(his.master),
            bob,
            sign_json(his_master, alice.user_id, hers.self_signing),
            "M_INVALID_SIGNATURE",
        ),
    ]:
        reply = await alice.post(SIGN, {target.user_id: {key_id: value}})
        assert reply["failures"][target.user_id][key_id]["errcode"] == errcode
    both = {alice.user_id: {alice.device_id: good, "OTHER": good}}
    reply = await alice.post(SIGN, both)
    assert set(reply["failures"][alice.user_id]) == {"OTHER"}
    found = await keys_of(bob, alice)
    assert found["device_keys"][alice.user_id][alice.device_id] == good


@pytest.mark.parametrize(
    "body",
    [
        {"nobody": {}},
        {"@a:b": []},
        {"@a:b": {"K": []}},
        {"@a:b": {"K": {"signatures": []}}},
        {"@a:b": {"K": {"signatures": {"@a:b": {"k": 1}}}}},
        {"@a:b": {"K\0": {"signatures": {}}}},
    ],
)
async def test_bodies_that_make_no_sense(alice: Client, body: dict):
    assert (await refusal(alice.post(SIGN, body)))[0] == 400


async def test_signatures_go_with_the_device(hearth: Running, alice: Client):
    device = await has_keys(alice)
    signed = sign_json(device.keys(), alice.user_id, device.self_signing)
    await alice.post(SIGN, {alice.user_id: {alice.device_id: signed}})
    await alice.logs_out()
    async with hearth.ctx.db.read() as tx:
        left = await tx.fetchval(
            "SELECT count(*) FROM key_signatures WHERE user_id = $1", alice.user_id
        )
    assert left == 0
