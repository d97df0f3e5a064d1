"""Make accounts: openly, with a token, with the shared secret."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta

import pytest

from homeserver.accounts import tasks
from homeserver.accounts.store import registration_tokens
from homeserver.errors import MatrixError
from homeserver.login import shared_secret
from tests.support.api import Json, RefusedError
from tests.support.app import PASSWORD, Running

V3 = "/_matrix/client/v3"
REGISTER = V3 + "/register"
SHARED = "/_synapse/admin/v1/register"
DUMMY = {"type": "m.login.dummy"}
Another = Callable[..., Awaitable[Running]]


async def refused(answer: Awaitable[tuple[int, Json]]) -> tuple[int, str]:
    status, body = await answer
    return status, body["errcode"]


def form(name: str | None = None, **more: object) -> Json:
    named = {} if name is None else {"username": name}
    return {"password": PASSWORD, "auth": DUMMY, **named, **more}


# ── Openly ───────────────────────────────────────────────────────────────────────────


async def test_an_account_is_made_in_two_steps(hearth: Running) -> None:
    body = {"username": "two.steps", "password": PASSWORD, "device_id": "D"}
    status, asked = await hearth.nobody.answer("POST", REGISTER, body)
    assert status == 401
    assert asked["flows"] == [{"stages": ["m.login.dummy"]}]
    assert "errcode" not in asked
    body["auth"] = {"type": "m.login.dummy", "session": asked["session"]}
    reply = await hearth.nobody.post(REGISTER, body)
    assert reply["user_id"] == "@two.steps:hearth.test"
    assert reply["device_id"] == "D"
    who = await hearth.user(reply).get(V3 + "/account/whoami")
    assert who["user_id"] == "@two.steps:hearth.test"
    # The session is used up, and the name taken.
    body["username"] = "other.steps"
    status, again = await hearth.nobody.answer("POST", REGISTER, body)
    assert (status, again["errcode"]) == (401, "M_UNKNOWN")
    assert again["session"] != asked["session"]


async def test_a_name_is_made_up_where_none_is_asked_for(hearth: Running) -> None:
    first = await hearth.nobody.post(REGISTER, form())
    second = await hearth.nobody.post(REGISTER, form())
    assert first["user_id"] != second["user_id"]


async def test_capitals_become_small(hearth: Running) -> None:
    reply = await hearth.nobody.post(REGISTER, form("CamelCase"))
    assert reply["user_id"] == "@camelcase:hearth.test"
    assert await refused(hearth.nobody.answer("POST", REGISTER, form("camelCASE"))) == (
        400,
        "M_USER_IN_USE",
    )


async def test_an_account_may_be_made_without_logging_in(hearth: Running) -> None:
    reply = await hearth.nobody.post(REGISTER, form("inhibited", inhibit_login=True))
    assert reply == {
        "user_id": "@inhibited:hearth.test",
        "home_server": "hearth.test",
    }
    await hearth.logs_in("inhibited")


@pytest.mark.parametrize(
    "name", ["", "with space", "é", "a:b", "@a", "a\0b", "a\n", "x" * 250, "a#b", "ß"]
)
async def test_a_bad_name_is_refused_before_anything_is_asked(
    hearth: Running, name: str
) -> None:
    body = {"username": name, "password": PASSWORD}
    for call in (
        hearth.nobody.answer("POST", REGISTER, body),
        hearth.nobody.answer("GET", REGISTER + "/available", query={"username": name}),
    ):
        assert await refused(call) == (400, "M_INVALID_USERNAME")


async def test_a_taken_name_is_refused_before_anything_is_asked(
    hearth: Running,
) -> None:
    available = REGISTER + "/available"
    assert await hearth.nobody.get(available, username="wanted") == {"available": True}
    await hearth.registers("wanted")
    body = {"username": "wanted", "password": PASSWORD}
    for call in (
        hearth.nobody.answer("POST", REGISTER, body),
        hearth.nobody.answer("GET", available, query={"username": "WANTED"}),
    ):
        assert await refused(call) == (400, "M_USER_IN_USE")
    assert await refused(hearth.nobody.answer("GET", available)) == (
        400,
        "M_MISSING_PARAM",
    )


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        ("?kind=guest", {}, (403, "M_FORBIDDEN")),
        ("?kind=robot", form(), (400, "M_INVALID_PARAM")),
        ("", {"auth": DUMMY}, (400, "M_MISSING_PARAM")),
        ("", form(password=""), (400, "M_WEAK_PASSWORD")),
        ("", form(password="x" * 1000), (400, "M_INVALID_PARAM")),
        ("", form(password=1), (400, "M_BAD_JSON")),
        ("", form(username=1), (400, "M_BAD_JSON")),
        ("", form(auth="dummy"), (400, "M_BAD_JSON")),
        ("", form(auth={"session": 1}), (400, "M_BAD_JSON")),
        ("", form(device_id="\0"), (400, "M_INVALID_PARAM")),
        ("", form(auth={"type": "m.login.sso"}), (401, "M_FORBIDDEN")),
        ("", form(auth={"type": ["x"]}), (401, "M_FORBIDDEN")),
        ("", form(auth={"session": "unknown"}), (401, "M_UNKNOWN")),
        ("", form(auth={"session": "\0"}), (401, "M_UNKNOWN")),
    ],
)
async def test_a_bad_form_is_refused(
    hearth: Running, target: str, body: Json, expected: tuple[int, str]
) -> None:
    answer = hearth.nobody.answer("POST", REGISTER + target, body)
    assert await refused(answer) == expected


async def test_a_session_serves_only_what_it_was_made_for(hearth: Running) -> None:
    _, asked = await hearth.nobody.answer("POST", REGISTER, {})
    alice = await hearth.registers()
    auth = {"type": "m.login.dummy", "session": asked["session"]}
    answer = alice.answer("DELETE", f"{V3}/devices/{alice.device_id}", {"auth": auth})
    assert await refused(answer) == (401, "M_UNKNOWN")


async def test_nobody_registers_where_it_is_closed(another: Another) -> None:
    hearth = await another(registration={"mode": "closed"})
    for body in ({}, form("eager")):
        assert await refused(hearth.nobody.answer("POST", REGISTER, body)) == (
            403,
            "M_FORBIDDEN",
        )
    validity = "/_matrix/client/v1/register/m.login.registration_token/validity"
    assert await refused(
        hearth.nobody.answer("GET", validity, query={"token": "x"})
    ) == (403, "M_FORBIDDEN")
    # Nor with a secret that is not set.
    assert await refused(hearth.nobody.answer("GET", SHARED)) == (403, "M_UNKNOWN")


async def test_registrations_are_limited_by_address(another: Another) -> None:
    hearth = await another(limits={"enabled": True})
    for _ in range(10):
        await hearth.nobody.post(REGISTER, form())
    assert await refused(hearth.nobody.answer("POST", REGISTER, form())) == (
        429,
        "M_LIMIT_EXCEEDED",
    )


# ── With a token ─────────────────────────────────────────────────────────────────────


async def with_tokens(another: Another, *rows: tuple[str, int | None, str]) -> Running:
    hearth = await another(registration={"mode": "token"})
    async with hearth.ctx.db.transaction() as tx:
        for token, uses, expires in rows:
            await tx.execute(
                """
                INSERT INTO registration_tokens (token, uses_allowed, expires_at)
                VALUES ($1, $2, now() + $3::text::interval)
                """,
                token,
                uses,
                expires,
            )
    return hearth


async def counts(hearth: Running, token: str) -> tuple[int, int]:
    async with hearth.ctx.db.read() as tx:
        row = await tx.fetchrow(
            "SELECT pending, completed FROM registration_tokens WHERE token = $1",
            token,
        )
    return tuple(row)


def showing(token: object, **more: object) -> Json:
    return {"type": "m.login.registration_token", "token": token, **more}


async def test_a_token_for_one_makes_one_account(another: Another) -> None:
    hearth = await with_tokens(another, ("once", 1, "1 hour"))
    nobody = hearth.nobody
    _, asked = await nobody.answer("POST", REGISTER, {})
    assert asked["flows"] == [{"stages": ["m.login.registration_token"]}]
    await nobody.post(REGISTER, form("first", auth=showing("once")))
    assert await counts(hearth, "once") == (0, 1)
    status, body = await nobody.answer(
        "POST", REGISTER, form("second", auth=showing("once"))
    )
    assert (status, body["errcode"]) == (401, "M_FORBIDDEN")
    assert "flows" in body
    # The open way does not lead around it.
    assert (await nobody.answer("POST", REGISTER, form("third")))[0] == 401


@pytest.mark.parametrize("token", ["unknown", "expired", "", "x" * 65, "\0", 1, None])
async def test_a_bad_token_makes_none(another: Another, token: object) -> None:
    hearth = await with_tokens(another, ("expired", None, "-1 hour"))
    answer = hearth.nobody.answer("POST", REGISTER, form(auth=showing(token)))
    status, body = await answer
    assert status == 401
    assert body["errcode"] in ("M_FORBIDDEN", "M_BAD_JSON")
    assert await counts(hearth, "expired") == (0, 0)


async def test_a_held_use_is_free_again_when_nothing_comes_of_it(
    another: Another,
) -> None:
    hearth = await with_tokens(another, ("held", 1, "1 hour"))
    # The stage is passed, but the account cannot be made.
    body = form("held.name", auth=showing("held"), password="x" * 1000)
    assert (await hearth.nobody.answer("POST", REGISTER, body))[0] == 400
    assert await counts(hearth, "held") == (1, 0)
    other = form("other.name", auth=showing("held"))
    assert (await hearth.nobody.answer("POST", REGISTER, other))[0] == 401
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE uia_sessions SET created_at = created_at - $1::interval",
            timedelta(hours=2),
        )
    await tasks.forget_expired(hearth.ctx)
    assert await counts(hearth, "held") == (0, 0)
    await hearth.nobody.post(REGISTER, other)
    assert await counts(hearth, "held") == (0, 1)


async def test_a_session_holds_its_token_while_another_name_is_found(
    another: Another,
) -> None:
    hearth = await with_tokens(another, ("mine", 1, "1 hour"))
    _, asked = await hearth.nobody.answer("POST", REGISTER, {})
    auth = showing("mine", session=asked["session"])
    spoiled = form("a.name", auth=auth, password="x" * 1000)
    await hearth.nobody.answer("POST", REGISTER, spoiled)
    # Only the session is shown again: its stage is not repeated.
    again = form("a.name", auth={"session": asked["session"]})
    await hearth.nobody.post(REGISTER, again)
    assert await counts(hearth, "mine") == (0, 1)


async def test_a_token_can_be_checked_before(another: Another) -> None:
    hearth = await with_tokens(
        another, ("good", None, "1 hour"), ("used", 0, "1 hour"), ("old", 1, "-1 hour")
    )
    validity = "/_matrix/client/v1/register/m.login.registration_token/validity"
    for token, valid in [
        ("good", True),
        ("used", False),
        ("old", False),
        ("unknown", False),
        ("\0", False),
    ]:
        assert await hearth.nobody.get(validity, token=token) == {"valid": valid}
    assert await refused(hearth.nobody.answer("GET", validity)) == (
        400,
        "M_MISSING_PARAM",
    )


async def test_many_at_once_share_the_uses_that_there_are(another: Another) -> None:
    hearth = await with_tokens(another, ("few", 3, "1 hour"))
    held = 0
    for _ in range(5):
        async with hearth.ctx.db.transaction() as tx:
            held += await registration_tokens.reserve(tx, "few")
    assert held == 3
    async with hearth.ctx.db.transaction() as tx:
        await registration_tokens.release(tx, ["few", "few", "few", "unknown"])
    assert await counts(hearth, "few") == (0, 0)


# ── With the shared secret ───────────────────────────────────────────────────────────


async def proof(hearth: Running, name: str, **changes: object) -> Json:
    nonce = (await hearth.nobody.get(SHARED))["nonce"]
    body: Json = {"nonce": nonce, "username": name, "password": PASSWORD, **changes}
    secret = str(body.pop("secret", "shared secret"))
    parts = [
        str(body["nonce"]),
        name,
        PASSWORD,
        "admin" if body.get("admin") else "notadmin",
    ]
    if body.get("user_type"):
        parts.append(str(body["user_type"]))
    message = "\0".join(parts).encode()
    body["mac"] = hmac.new(secret.encode(), message, hashlib.sha1).hexdigest()
    return body


async def test_a_tool_makes_users_and_administrators(hearth: Running) -> None:
    for name, more in [
        ("tool.user", {}),
        ("tool.admin", {"admin": True}),
        ("tool.bot", {"admin": False, "user_type": "bot", "displayname": "A Bot"}),
    ]:
        reply = await hearth.nobody.post(SHARED, await proof(hearth, name, **more))
        assert reply["user_id"] == f"@{name}:hearth.test"
        assert reply["home_server"] == "hearth.test"
        await hearth.user(reply).get(V3 + "/account/whoami")
        await hearth.logs_in(name)
        async with hearth.ctx.db.read() as tx:
            admin = await tx.fetchval(
                "SELECT admin FROM users WHERE user_id = $1", reply["user_id"]
            )
        assert admin is bool(more.get("admin"))
    profile = await hearth.nobody.get(V3 + "/profile/@tool.bot:hearth.test")
    assert profile == {"displayname": "A Bot"}


async def test_who_lacks_the_secret_makes_none(hearth: Running) -> None:
    wrong = await proof(hearth, "tool.wrong", secret="other")
    assert await refused(hearth.nobody.answer("POST", SHARED, wrong)) == (
        403,
        "M_FORBIDDEN",
    )
    # What was proved for a plain user does not make an administrator.
    promoted = await proof(hearth, "tool.wrong") | {"admin": True}
    assert await refused(hearth.nobody.answer("POST", SHARED, promoted)) == (
        403,
        "M_FORBIDDEN",
    )
    with pytest.raises(RefusedError):
        await hearth.logs_in("tool.wrong")


@pytest.mark.parametrize("nonce", ["", "nonsense", "00" * 40, "é", "\0"])
async def test_a_nonce_that_is_not_ours_is_refused(hearth: Running, nonce: str) -> None:
    body = await proof(hearth, "tool.nonce", nonce=nonce)
    assert await refused(hearth.nobody.answer("POST", SHARED, body)) == (
        400,
        "M_UNKNOWN",
    )


class Stopped:
    def __init__(self, now: int) -> None:
        self.now = now

    def ms(self) -> int:
        return self.now


def test_a_nonce_is_good_for_a_minute_and_for_one_secret() -> None:
    clock = Stopped(1_000_000)
    nonce = shared_secret.new_nonce("secret", clock)  # type: ignore[arg-type]
    for now, secret, is_good in [
        (1_000_000, "secret", True),
        (1_060_000, "secret", True),
        (1_060_001, "secret", False),
        (999_999, "secret", False),
        (1_000_000, "other", False),
    ]:
        clock.now = now
        outcome = pytest.raises(MatrixError) if not is_good else nullcontext()
        with outcome:
            shared_secret.check_nonce(nonce, secret, clock)  # type: ignore[arg-type]


async def test_a_taken_name_is_refused_to_tools_too(hearth: Running) -> None:
    await hearth.registers("tool.taken")
    body = await proof(hearth, "tool.taken")
    assert await refused(hearth.nobody.answer("POST", SHARED, body)) == (
        400,
        "M_USER_IN_USE",
    )
