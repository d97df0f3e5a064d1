"""A forgotten password is replaced by whoever reads the account's mailbox."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.api.test_threepids import adds, ask, confirms, with_mail
from tests.support.api import Json
from tests.support.app import PASSWORD, Running
from tests.support.post import Letterbox, letterbox, link_in

V3 = "/_matrix/client/v3"
CHANGE = V3 + "/account/password"
NEW = "another good password"
Another = Callable[..., Awaitable[Running]]


@pytest.fixture
async def box() -> AsyncIterator[Letterbox]:
    async with letterbox() as found:
        yield found


def proof(sid: str, secret: str = "reset", **more: Any) -> Json:
    creds = {"sid": sid, "client_secret": secret}
    return {"type": "m.login.email.identity", "threepid_creds": creds, **more}


async def log_in(hearth: Running, password: str) -> int:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "bob"},
        "password": password,
    }
    return (await hearth.nobody.answer("POST", V3 + "/login", body))[0]


async def test_a_password_is_reset_by_mail(another: Another, box: Letterbox) -> None:
    hearth = await with_mail(another, box)
    bob = await hearth.registers("bob")
    await adds(hearth, box, bob)
    reply = await hearth.nobody.post(
        CHANGE + "/email/requestToken", ask(secret="reset")
    )
    status, asked = await hearth.nobody.answer(
        "POST", CHANGE, {"new_password": NEW, "auth": proof(reply["sid"])}
    )
    assert (status, asked["errcode"]) == (401, "M_THREEPID_AUTH_FAILED")
    assert asked["flows"] == [{"stages": ["m.login.email.identity"]}]
    assert (await confirms(hearth, link_in(await box.next())))[0] == 200
    auth = proof(reply["sid"], session=asked["session"])
    # Not with another secret.
    stranger = proof(reply["sid"], "other", session=asked["session"])
    status, _ = await hearth.nobody.answer(
        "POST", CHANGE, {"new_password": NEW, "auth": stranger}
    )
    assert status == 401
    await hearth.nobody.post(CHANGE, {"new_password": NEW, "auth": auth})
    assert await log_in(hearth, PASSWORD) == 403
    assert await log_in(hearth, NEW) == 200
    # Whoever had the old password is logged out.
    status, body = await bob.answer("GET", V3 + "/account/whoami")
    assert (status, body["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    # The proof is good once.
    again = {"new_password": PASSWORD, "auth": proof(reply["sid"])}
    assert (await hearth.nobody.answer("POST", CHANGE, again))[0] == 401


async def test_an_address_proves_only_its_own_account(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    bob, eve = await hearth.registers("bob"), await hearth.registers("eve")
    await adds(hearth, box, eve, "eve@example.org")
    where = CHANGE + "/email/requestToken"
    reply = await hearth.nobody.post(where, ask("eve@example.org", secret="reset"))
    assert (await confirms(hearth, link_in(await box.next())))[0] == 200
    body = {"new_password": NEW, "auth": proof(reply["sid"])}
    status, refused = await bob.answer("POST", CHANGE, body)
    assert (status, refused["errcode"]) == (401, "M_THREEPID_AUTH_FAILED")
    # A proof for another purpose is none.
    added = await hearth.nobody.post(
        V3 + "/account/3pid/email/requestToken",
        ask("carol@example.org", secret="reset"),
    )
    assert (await confirms(hearth, link_in(await box.next())))[0] == 200
    body["auth"] = proof(added["sid"])
    assert (await hearth.nobody.answer("POST", CHANGE, body))[0] == 401


async def test_without_mail_only_who_is_logged_in_changes_it(hearth: Running) -> None:
    status, body = await hearth.nobody.answer("POST", CHANGE, {"new_password": NEW})
    assert (status, body["errcode"]) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("password", "is_good"),
    [
        ("short1!", False),
        ("longletters!", False),
        ("12345678!", False),
        ("longletters1", False),
        ("longletters1!", True),
    ],
)
async def test_a_new_password_is_as_the_policy_wants(
    another: Another, password: str, *, is_good: bool
) -> None:
    policy = {
        "min_length": 8,
        "require_letter": True,
        "require_digit": True,
        "require_symbol": True,
    }
    hearth = await another(passwords=policy)
    form = {"username": "bob", "password": password, "auth": {"type": "m.login.dummy"}}
    status, body = await hearth.nobody.answer("POST", V3 + "/register", form)
    assert (status == 200) == is_good
    if not is_good:
        assert (status, body["errcode"]) == (400, "M_WEAK_PASSWORD")
