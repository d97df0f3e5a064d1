"""Registration tokens, invites and approval, as administrators handle them."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.api.test_threepids import ask, confirms, with_mail
from tests.support.api import Json
from tests.support.app import PASSWORD, Running, User
from tests.support.post import Letterbox, letterbox, link_in

V3 = "/_matrix/client/v3"
TOKENS = "/_synapse/admin/v1/registration_tokens"
SHARED = "/_synapse/admin/v1/register"
WAITING = "/_hearth/admin/v1/awaiting_approval"
Another = Callable[..., Awaitable[Running]]


@pytest.fixture
async def box() -> AsyncIterator[Letterbox]:
    async with letterbox() as found:
        yield found


async def administrator(hearth: Running, name: str = "root") -> User:
    nonce = (await hearth.nobody.get(SHARED))["nonce"]
    secret = hearth.ctx.config.registration.shared_secret.encode()
    message = f"{nonce}\0{name}\0{PASSWORD}\0admin".encode()
    mac = hmac.new(secret, message, hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": True}
    return hearth.user(await hearth.nobody.post(SHARED, {**body, "mac": mac}))


def token_mode(**more: Any) -> Json:
    return {"mode": "token", "shared_secret": "secret", **more}


async def registers(hearth: Running, name: str, token: str) -> int:
    auth = {"type": "m.login.registration_token", "token": token}
    body = {"username": name, "password": PASSWORD, "auth": auth}
    return (await hearth.nobody.answer("POST", V3 + "/register", body))[0]


async def test_tokens_are_made_listed_changed_and_deleted(another: Another) -> None:
    hearth = await another(registration=token_mode())
    root = await administrator(hearth)
    soon = hearth.ctx.clock.ms() + 3_600_000
    named = await root.post(
        TOKENS + "/new", {"token": "abcd", "uses_allowed": 1, "expiry_time": soon}
    )
    assert named == {
        "token": "abcd",
        "uses_allowed": 1,
        "pending": 0,
        "completed": 0,
        "expiry_time": soon,
    }
    made = await root.post(TOKENS + "/new", {"length": 20})
    assert (len(made["token"]), made["uses_allowed"]) == (20, None)
    assert await registers(hearth, "one", "abcd") == 200
    assert await registers(hearth, "two", "abcd") == 401
    used = await root.get(TOKENS + "/abcd")
    assert (used["pending"], used["completed"]) == (0, 1)

    async def listed(**query: str) -> list[str]:
        reply = await root.get(TOKENS, **query)
        return sorted(each["token"] for each in reply["registration_tokens"])

    assert await listed() == sorted(["abcd", made["token"]])
    assert await listed(valid="true") == [made["token"]]
    assert await listed(valid="false") == ["abcd"]
    more = await root.put(TOKENS + "/abcd", {"uses_allowed": 2})
    assert (more["uses_allowed"], more["expiry_time"]) == (2, soon)
    assert await registers(hearth, "two", "abcd") == 200
    free = await root.put(TOKENS + "/abcd", {"uses_allowed": None, "expiry_time": None})
    assert (free["uses_allowed"], free["expiry_time"]) == (None, None)
    assert await root.delete(TOKENS + "/abcd") == {}
    assert await registers(hearth, "three", "abcd") == 401
    for method in ("GET", "PUT", "DELETE"):
        status, body = await root.answer(method, TOKENS + "/abcd", {})
        assert (status, body["errcode"]) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        {"token": ""},
        {"token": "with space"},
        {"token": "x" * 65},
        {"token": 1},
        {"length": 0},
        {"length": 65},
        {"length": "1"},
        {"uses_allowed": -1},
        {"uses_allowed": "1"},
        {"uses_allowed": True},
        {"uses_allowed": 2**31},
        {"expiry_time": 1},
        {"expiry_time": 2**53 - 1},
        {"token": "taken"},
    ],
)
async def test_a_bad_token_is_refused(hearth: Running, body: Json) -> None:
    root = await administrator(hearth, f"root.{abs(hash(str(body)))}")
    await root.answer("POST", TOKENS + "/new", {"token": "taken"})
    status, reply = await root.answer("POST", TOKENS + "/new", body)
    assert (status, reply["errcode"]) == (400, "M_INVALID_PARAM")


async def test_only_administrators_handle_tokens(hearth: Running) -> None:
    bob = await hearth.registers()
    for method, where in (
        ("GET", TOKENS),
        ("POST", TOKENS + "/new"),
        ("GET", TOKENS + "/x"),
        ("PUT", TOKENS + "/x"),
        ("DELETE", TOKENS + "/x"),
        ("GET", WAITING),
        ("POST", f"{WAITING}/{bob.escaped()}/approve"),
    ):
        status, body = await bob.answer(method, where, {})
        assert (status, body["errcode"]) == (403, "M_FORBIDDEN")
        status, body = await hearth.nobody.answer(method, where, {})
        assert (status, body["errcode"]) == (401, "M_MISSING_TOKEN")


async def test_an_invite_says_which_server_this_is(another: Another) -> None:
    hearth = await another(
        registration=token_mode(), public_base_url="https://matrix.hearth.test"
    )
    root = await administrator(hearth)
    await root.post(TOKENS + "/new", {"token": "come", "uses_allowed": 1})
    page = hearth.base_url + "/account/invite/come"
    async with aiohttp.ClientSession() as browser:
        async with browser.get(page) as shown:
            text = await shown.text()
            assert shown.status == 200
            assert "You are invited to hearth.test" in text
            assert "https://matrix.hearth.test" in text
            assert 'href="/account/register?token=come"' in text
            assert "Element X" in text
        assert await registers(hearth, "bob", "come") == 200
        for gone in (page, page + "%00", page + "x" * 100):
            async with browser.get(gone, headers={"Accept-Language": "de"}) as shown:
                assert shown.status == 404
                assert "Diese Einladung gilt nicht mehr" in await shown.text()


async def test_who_waits_is_let_in_and_told(another: Another, box: Letterbox) -> None:
    hearth = await with_mail(
        another, box, registration={"mode": "approval", "shared_secret": "secret"}
    )
    root = await administrator(hearth)
    reply = await hearth.nobody.post(V3 + "/register/email/requestToken", ask())
    assert (await confirms(hearth, link_in(await box.next())))[0] == 200
    creds = {"sid": reply["sid"], "client_secret": "secret"}
    auth = {"type": "m.login.email.identity", "threepid_creds": creds}
    body = {"username": "bob", "password": PASSWORD, "auth": auth}
    status, waits = await hearth.nobody.answer("POST", V3 + "/register", body)
    assert (status, waits["approval_notice_medium"]) == (
        403,
        "org.matrix.msc3866.email",
    )
    assert await root.get(WAITING) == {"users": ["@bob:hearth.test"]}
    where = WAITING + "/%40bob%3Ahearth.test/approve"
    assert await root.post(where) == {}
    mail = await box.next()
    assert (mail["To"], mail["Subject"]) == (
        "bob@example.org",
        "Your account at hearth.test is ready",
    )
    await hearth.logs_in("bob")
    status, again = await root.answer("POST", where, {})
    assert (status, again["errcode"]) == (404, "M_NOT_FOUND")
