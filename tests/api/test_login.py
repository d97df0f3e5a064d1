"""Log in, be known, refresh, log out."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import bcrypt
import pytest

from homeserver.accounts import passwords, tokens
from homeserver.accounts.authentication import Authentication
from homeserver.accounts.store import users
from homeserver.appservices.services import Services
from tests.support.api import Api, Json, RefusedError
from tests.support.app import PASSWORD, Running, User

V3 = "/_matrix/client/v3"
WHOAMI = V3 + "/account/whoami"


async def refused(answer: Awaitable[tuple[int, Json]]) -> tuple[int, str]:
    status, body = await answer
    return status, body["errcode"]


def by_password(user: str, password: str = PASSWORD, **more: object) -> Json:
    identifier = {"type": "m.id.user", "user": user}
    return {
        "type": "m.login.password",
        "identifier": identifier,
        "password": password,
        **more,
    }


@pytest.fixture(scope="module")
async def carol(hearth: Running) -> User:
    return await hearth.registers("carol.login")


async def test_the_ways_to_log_in_are_listed(hearth: Running) -> None:
    flows = (await hearth.nobody.get(V3 + "/login"))["flows"]
    assert flows == [
        {"type": "m.login.password"},
        {
            "type": "m.login.sso",
            "oauth_aware_preferred": True,
            "org.matrix.msc3824.delegated_oidc_compatibility": True,
        },
        {"type": "m.login.token", "get_login_token": True},
        {"type": "m.login.application_service"},
    ]


async def test_a_user_logs_in_by_user_id_or_by_name(hearth: Running) -> None:
    bob = await hearth.registers("bob.login")
    for name in ("bob.login", bob.user_id, "BOB.login"):
        again = await hearth.logs_in(name)
        assert again.user_id == bob.user_id
        assert again.device_id != bob.device_id
        assert (await again.get(WHOAMI))["device_id"] == again.device_id
    # As clients did before identifiers.
    reply = await hearth.nobody.post(
        V3 + "/login",
        {"type": "m.login.password", "user": "bob.login", "password": PASSWORD},
    )
    assert reply["user_id"] == bob.user_id
    assert reply["home_server"] == "hearth.test"


@pytest.mark.parametrize(
    "form",
    [
        by_password("carol.login", "wrong"),
        by_password("nobody.at.all"),
        by_password("@carol.login:elsewhere.test"),
        by_password("@"),
        by_password("a\0b"),
        by_password("carol.login", "x" * 100_000),
        {**by_password("x"), "identifier": {"type": "m.id.thirdparty"}},
        {**by_password("x"), "identifier": {"type": "m.id.phone", "phone": "1"}},
        {
            "type": "m.login.password",
            "medium": "email",
            "address": "a@b.c",
            "password": "x",
        },
        {"type": "m.login.token", "token": "wrong"},
        {"type": "m.login.token", "token": tokens.new_token(tokens.LOGIN)},
    ],
)
async def test_who_cannot_prove_it_is_not_let_in(
    hearth: Running, carol: User, form: Json
) -> None:
    assert await refused(hearth.nobody.answer("POST", V3 + "/login", form)) == (
        403,
        "M_FORBIDDEN",
    )


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, "M_BAD_JSON"),
        ({"type": "m.login.unheard_of"}, "M_UNKNOWN"),
        ({"type": "m.login.password"}, "M_BAD_JSON"),
        ({"type": "m.login.password", "password": "x"}, "M_BAD_JSON"),
        ({"type": "m.login.password", "password": 1, "user": "x"}, "M_BAD_JSON"),
        ({**by_password("x"), "identifier": "x"}, "M_BAD_JSON"),
        ({**by_password("x"), "identifier": {"user": "x"}}, "M_BAD_JSON"),
        ({**by_password("x"), "identifier": {"type": "m.id.user"}}, "M_BAD_JSON"),
        ({"type": "m.login.token"}, "M_BAD_JSON"),
        (by_password("x", device_id=""), "M_INVALID_PARAM"),
        (by_password("x", device_id="a" * 300), "M_INVALID_PARAM"),
        (by_password("x", device_id="\0"), "M_INVALID_PARAM"),
        (
            by_password("x", initial_device_display_name="a" * 300),
            "M_INVALID_PARAM",
        ),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(
    hearth: Running, form: Json, expected: str
) -> None:
    assert await refused(hearth.nobody.answer("POST", V3 + "/login", form)) == (
        400,
        expected,
    )


async def test_a_known_device_gets_new_tokens_and_loses_the_old(
    hearth: Running,
) -> None:
    dan = await hearth.registers(device_id="PHONE", initial_device_display_name="Nokia")
    again = await hearth.logs_in(
        dan.user_id, device_id="PHONE", initial_device_display_name="Other"
    )
    assert again.device_id == "PHONE"
    assert await refused(dan.answer("GET", WHOAMI)) == (401, "M_UNKNOWN_TOKEN")
    device = await again.get(V3 + "/devices/PHONE")
    assert device["display_name"] == "Nokia"


async def test_logout_ends_the_session_and_its_device(hearth: Running) -> None:
    eve = await hearth.registers()
    other = await hearth.logs_in(eve.user_id)
    await eve.get(WHOAMI)
    # Without a body, as the specification has it.
    assert (await eve.answer("POST", V3 + "/logout"))[0] == 200
    assert await refused(eve.answer("GET", WHOAMI)) == (401, "M_UNKNOWN_TOKEN")
    devices = (await other.get(V3 + "/devices"))["devices"]
    assert [device["device_id"] for device in devices] == [other.device_id]
    assert (await other.answer("POST", V3 + "/logout/all"))[0] == 200
    assert await refused(other.answer("GET", WHOAMI)) == (401, "M_UNKNOWN_TOKEN")
    back = await hearth.logs_in(eve.user_id)
    devices = (await back.get(V3 + "/devices"))["devices"]
    assert [device["device_id"] for device in devices] == [back.device_id]


async def test_a_token_that_ended_in_another_process_is_not_known_here(
    hearth: Running, another_process: Running
) -> None:
    fay = await hearth.registers()
    there = another_process.client(fay.access_token)
    await there.get(WHOAMI)
    await fay.answer("POST", V3 + "/logout")
    async with asyncio.timeout(10):
        while (await there.answer("GET", WHOAMI))[0] != 401:
            await asyncio.sleep(0.01)


async def test_a_token_that_is_mistyped_is_not_looked_up(hearth: Running) -> None:
    guy = await hearth.registers()
    last = guy.access_token[-8]
    mistyped = guy.access_token[:-8] + ("A" if last != "A" else "B")
    mistyped += guy.access_token[-7:]
    for token in (mistyped, "nonsense", "x" * 5000, "syt_Z3V5_import_0"):
        assert await refused(hearth.client(token).answer("GET", WHOAMI)) == (
            401,
            "M_UNKNOWN_TOKEN",
        )


async def test_devices_are_seen(hearth: Running) -> None:
    hal = await hearth.registers()
    ctx = hearth.ctx
    known = Authentication(ctx.db, ctx.live, ctx.clock, ctx.parts.get(Services))
    request = SimpleNamespace(ip="192.0.2.7")
    await known.authenticate(ctx, request, hal.access_token)  # type: ignore[arg-type]
    await known.stop()
    device = await hal.get(V3 + "/devices/" + hal.device_id)
    assert device["last_seen_ip"] == "192.0.2.7"
    assert abs(device["last_seen_ts"] - hearth.ctx.clock.ms()) < 60_000


# ── Passwords ────────────────────────────────────────────────────────────────────────


async def test_a_hash_of_another_server_is_understood_and_replaced(
    hearth: Running,
) -> None:
    ida = await hearth.registers()
    old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    async with hearth.ctx.db.transaction() as tx:
        await users.set_password_hash(tx, ida.user_id, old)
    with pytest.raises(RefusedError):
        await hearth.nobody.post(V3 + "/login", by_password(ida.user_id, "wrong"))
    await hearth.logs_in(ida.user_id)
    async with hearth.ctx.db.read() as tx:
        account = await users.account(tx, ida.user_id)
    assert account is not None
    assert account.password_hash.startswith("$argon2id$")
    await hearth.logs_in(ida.user_id)


async def test_a_password_is_the_same_however_it_is_typed() -> None:
    stored = await passwords.hash_password("Zürich")
    assert (await passwords.check_password("Zu\u0308rich", stored)).fits
    assert not (await passwords.check_password("Zurich", stored)).fits
    assert not (await passwords.check_password("Zürich", "nonsense")).fits
    assert not (await passwords.check_password("", None)).fits


async def test_a_flood_of_passwords_is_refused() -> None:
    results = await asyncio.gather(
        *(passwords.check_password("x", None) for _ in range(200)),
        return_exceptions=True,
    )
    refusals = [result for result in results if isinstance(result, Exception)]
    assert 0 < len(refusals) < 200
    assert {getattr(refusal, "status", None) for refusal in refusals} == {503}


async def test_wrong_passwords_count_against_the_account(
    another: Callable[..., Awaitable[Running]],
) -> None:
    hearth = await another(limits={"enabled": True})
    jo = await hearth.registers("jo")
    answers = [
        await refused(
            hearth.nobody.answer("POST", V3 + "/login", by_password("jo", ""))
        )
        for _ in range(11)
    ]
    assert answers == [(403, "M_FORBIDDEN")] * 10 + [(429, "M_LIMIT_EXCEEDED")]
    # Others of the same address are not kept out, and who is in stays in.
    kim = await hearth.registers("kim")
    await hearth.logs_in(kim.user_id)
    await jo.get(WHOAMI)


async def change_password(who: User, new: str, **more: object) -> tuple[int, Json]:
    auth = by_password(who.user_id)
    body = {"new_password": new, "auth": auth, **more}
    return await who.answer("POST", V3 + "/account/password", body)


async def test_a_password_is_changed_and_other_devices_logged_out(
    hearth: Running,
) -> None:
    liv = await hearth.registers()
    other = await hearth.logs_in(liv.user_id)
    assert (await change_password(liv, ""))[1]["errcode"] == "M_WEAK_PASSWORD"
    assert await change_password(liv, "a new one") == (200, {})
    await liv.get(WHOAMI)
    assert await refused(other.answer("GET", WHOAMI)) == (401, "M_UNKNOWN_TOKEN")
    with pytest.raises(RefusedError):
        await hearth.logs_in(liv.user_id)
    auth = by_password(liv.user_id, "a new one")
    other = hearth.user(await hearth.nobody.post(V3 + "/login", auth))
    body = {"new_password": "an even newer one", "auth": auth, "logout_devices": False}
    await liv.post(V3 + "/account/password", body)
    await other.get(WHOAMI)


# ── Log-in tokens ────────────────────────────────────────────────────────────────────


async def login_token(who: User) -> str:
    body = {"auth": by_password(who.user_id)}
    reply = await who.post("/_matrix/client/v1/login/get_token", body)
    assert reply["expires_in_ms"] == 120_000
    return str(reply["login_token"])


async def test_a_token_logs_one_more_client_in_once(hearth: Running) -> None:
    mo = await hearth.registers()
    form = {"type": "m.login.token", "token": await login_token(mo)}
    reply = await hearth.nobody.post(V3 + "/login", form)
    assert reply["user_id"] == mo.user_id
    assert reply["device_id"] != mo.device_id
    assert await refused(hearth.nobody.answer("POST", V3 + "/login", form)) == (
        403,
        "M_FORBIDDEN",
    )


async def test_a_log_in_token_runs_out_and_needs_the_password(hearth: Running) -> None:
    ned = await hearth.registers()
    status, body = await ned.answer("POST", "/_matrix/client/v1/login/get_token", {})
    assert (status, body["flows"]) == (401, [{"stages": ["m.login.password"]}])
    token = await login_token(ned)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("UPDATE login_tokens SET expires_at = now()")
    form = {"type": "m.login.token", "token": token}
    assert await refused(hearth.nobody.answer("POST", V3 + "/login", form)) == (
        403,
        "M_FORBIDDEN",
    )


# ── Refresh ──────────────────────────────────────────────────────────────────────────


async def refresh(hearth: Running, token: str) -> tuple[int, Json]:
    return await hearth.nobody.answer("POST", V3 + "/refresh", {"refresh_token": token})


async def test_a_refreshed_session_goes_on_with_new_tokens(hearth: Running) -> None:
    oda = await hearth.registers(refresh_token=True)
    assert oda.refresh_token
    status, first = await refresh(hearth, oda.refresh_token)
    assert status == 200
    assert first["expires_in_ms"] == 3_600_000
    # The answer was lost: the old token still does.
    status, second = await refresh(hearth, oda.refresh_token)
    assert status == 200
    for lost in (first["access_token"],):
        assert await refused(hearth.client(lost).answer("GET", WHOAMI)) == (
            401,
            "M_UNKNOWN_TOKEN",
        )
    assert (await refresh(hearth, first["refresh_token"]))[0] == 401
    # Until the new access token is used.
    new = hearth.client(second["access_token"])
    assert (await new.get(WHOAMI))["device_id"] == oda.device_id
    assert await refused(refresh(hearth, oda.refresh_token)) == (
        401,
        "M_UNKNOWN_TOKEN",
    )
    assert (await refresh(hearth, second["refresh_token"]))[0] == 200


async def test_who_comes_late_with_a_used_token_ends_the_session(
    hearth: Running,
) -> None:
    owner = await hearth.registers(refresh_token=True)
    other = await hearth.logs_in(owner.user_id)
    _, pair = await refresh(hearth, owner.refresh_token)
    new = hearth.client(pair["access_token"])
    await new.get(WHOAMI)
    # At once, it may be another program of the same client.
    assert (await refresh(hearth, owner.refresh_token))[0] == 401
    await new.get(WHOAMI)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE spent_refresh_tokens SET spent_at = now() - interval '2 minutes'"
        )
    assert (await refresh(hearth, owner.refresh_token))[0] == 401
    assert await refused(new.answer("GET", WHOAMI)) == (401, "M_UNKNOWN_TOKEN")
    assert (await refresh(hearth, pair["refresh_token"]))[0] == 401
    # The device is still there, and the other one goes on.
    devices = (await other.get(V3 + "/devices"))["devices"]
    assert owner.device_id in {each["device_id"] for each in devices}


async def test_the_next_refresh_ends_the_one_before(hearth: Running) -> None:
    pia = await hearth.registers(refresh_token=True)
    _, first = await refresh(hearth, pia.refresh_token)
    _, second = await refresh(hearth, first["refresh_token"])
    assert (await refresh(hearth, pia.refresh_token))[0] == 401
    assert (await refresh(hearth, first["refresh_token"]))[0] == 200
    assert (await refresh(hearth, second["refresh_token"]))[0] == 401


async def test_a_token_that_runs_out_says_that_the_session_can_go_on(
    hearth: Running,
) -> None:
    quin = await hearth.registers(refresh_token=True)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE access_tokens SET expires_at = now() WHERE user_id = $1",
            quin.user_id,
        )
    status, body = await quin.answer("GET", WHOAMI)
    assert (status, body["errcode"], body["soft_logout"]) == (
        401,
        "M_UNKNOWN_TOKEN",
        True,
    )
    status, pair = await refresh(hearth, quin.refresh_token)
    assert status == 200
    await hearth.client(pair["access_token"]).get(WHOAMI)


async def test_logout_ends_refresh_tokens(hearth: Running) -> None:
    ria = await hearth.registers(refresh_token=True)
    await ria.answer("POST", V3 + "/logout")
    for token in (ria.refresh_token, "nonsense", ""):
        assert (await refresh(hearth, token))[0] == 401


async def test_clients_that_cannot_refresh_get_tokens_that_stay(
    hearth: Running,
) -> None:
    reply = await hearth.nobody.post(
        V3 + "/login", by_password((await hearth.registers()).user_id)
    )
    assert "refresh_token" not in reply
    assert "expires_in_ms" not in reply


async def test_the_address_is_told_at_log_in_when_it_is_set(
    another: Callable[..., Awaitable[Running]],
) -> None:
    hearth = await another(public_base_url="https://matrix.hearth.test")
    expected = {"m.homeserver": {"base_url": "https://matrix.hearth.test"}}
    sam = await hearth.registers("sam")
    reply = await hearth.nobody.post(V3 + "/login", by_password(sam.user_id))
    assert reply["well_known"] == expected
    assert await hearth.nobody.get("/.well-known/matrix/client") == expected
    assert await hearth.nobody.get("/.well-known/matrix/server") == {
        "m.server": "matrix.hearth.test:443"
    }


async def test_nothing_is_told_of_addresses_that_are_not_set(hearth: Running) -> None:
    nobody: Api = hearth.nobody
    for what in ("client", "server", "support"):
        status, _ = await nobody.answer("GET", f"/.well-known/matrix/{what}")
        assert status == 404
