"""What the OWASP lists and RFC 9700 warn of, tried on this server."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support.api import Json
from tests.support.app import PASSWORD, Running, User
from tests.support.browser import Browser
from tests.support.oauth import CALLBACK, METADATA, App, logs_in, said

EVIL = "https://evil.org/"


@pytest.fixture
async def browser(hearth: Running) -> AsyncIterator[Browser]:
    async with Browser(hearth.base_url) as browser:
        yield browser


@pytest.fixture
async def app(hearth: Running) -> App:
    return await App(hearth).registers()


@pytest.fixture
async def alice(hearth: Running) -> User:
    return await hearth.registers()


# ── Codes ────────────────────────────────────────────────────────────────────────────


async def test_a_code_used_twice_ends_what_it_began(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    _, tokens = await app.trades(code)
    status, refused = await app.trades(code)
    assert (status, refused["error"]) == (400, "invalid_grant")
    assert (await app.whoami(tokens["access_token"]))[0] == 401


async def test_an_old_code_does_not_end_a_later_session(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    await app.trades(code)
    _, later = await app.trades(await app.gets_code(browser))
    assert (await app.trades(code))[0] == 400
    assert (await app.whoami(later["access_token"]))[0] == 200


async def test_of_two_at_once_one_gets_tokens(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    replies = await asyncio.gather(*(app.trades(code) for _ in range(5)))
    assert sorted(status for status, _ in replies) == [200, 400, 400, 400, 400]


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": METADATA["redirect_uris"][1]},
        {"redirect_uri": ""},
        {"code_verifier": "x" * 43},
        {"code": "htc_unheard-of"},
    ],
)
async def test_a_stolen_code_is_worth_nothing(
    app: App, browser: Browser, alice: User, changes: dict[str, str]
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    status, refused = await app.trades(**{"code": code, **changes})
    assert (status, refused["error"]) == (400, "invalid_grant")


async def test_a_code_is_for_the_client_that_asked(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    other = await App(hearth, {**METADATA, "client_name": "Other"}).registers()
    status, refused = await other.trades(code, code_verifier=app.verifier)
    assert (status, refused["error"]) == (400, "invalid_grant")
    assert (await app.trades(code))[0] == 200


async def test_a_code_runs_out(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("UPDATE oauth_codes SET expires_at = now()")
    assert (await app.trades(code))[0] == 400


async def test_who_was_locked_meanwhile_gets_no_tokens(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE users SET locked = true WHERE user_id = $1", alice.user_id
        )
    status, refused = await app.trades(code)
    assert (status, refused["error"]) == (400, "invalid_grant")


async def test_a_refresh_token_that_was_replaced_ends_the_session(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    _, first = await app.trades(await app.gets_code(browser))
    _, second = await app.refreshes(first["refresh_token"])
    assert (await app.whoami(second["access_token"]))[0] == 200
    await _passes_a_while(hearth)
    status, refused = await app.refreshes(first["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")
    assert (await app.whoami(second["access_token"]))[0] == 401
    assert (await app.refreshes(second["refresh_token"]))[0] == 400


async def _passes_a_while(hearth: Running) -> None:
    """At once, another program of the same client may come with a replaced token."""
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE spent_refresh_tokens SET spent_at = spent_at - interval '1 hour'"
        )


async def test_a_token_replaced_before_a_new_log_in_ends_nothing(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    _, first = await app.trades(await app.gets_code(browser))
    _, second = await app.refreshes(first["refresh_token"])
    await app.whoami(second["access_token"])
    await _passes_a_while(hearth)
    _, later = await app.trades(await app.gets_code(browser))
    assert (await app.refreshes(first["refresh_token"]))[0] == 400
    assert (await app.whoami(later["access_token"]))[0] == 200


# ── PKCE ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
        {"code_challenge": "ä" * 43},
    ],
)
async def test_there_is_no_way_around_pkce(
    app: App, browser: Browser, changes: dict[str, str | None]
) -> None:
    await browser.open(app.asks(**changes))
    answer = said(browser.page.location)
    assert (answer["error"], answer["state"]) == ("invalid_request", app.state)


async def test_a_verifier_must_be_there(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    status, refused = await app.trades(code, code_verifier="")
    assert (status, refused["error"]) == (400, "invalid_request")


# ── Redirects ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "uri",
    [EVIL, f"{CALLBACK}/../x", f"{CALLBACK}?x", f"{CALLBACK}#x", "", CALLBACK.upper()],
)
async def test_nobody_is_sent_where_the_client_is_not(
    app: App, browser: Browser, alice: User, uri: str
) -> None:
    await logs_in(browser, alice.user_id)
    # Neither with a code nor with an error.
    for more in ({}, {"response_type": "token"}):
        await browser.open(app.asks(redirect_uri=uri, **more))
        assert (browser.page.status, browser.page.location) == (400, "")
        assert browser.page.title == "This did not work"


async def test_an_unknown_client_is_told_nothing(app: App, browser: Browser) -> None:
    app.client_id = "unheard-of"
    await browser.open(app.asks())
    assert (browser.page.status, browser.page.location) == (400, "")


@pytest.mark.parametrize("parameter", ["redirect_uri", "client_id", "scope", "state"])
async def test_a_parameter_stands_once(
    app: App, browser: Browser, parameter: str
) -> None:
    await browser.open(app.asks() + f"&{parameter}={EVIL}")
    assert (browser.page.status, browser.page.location) == (400, "")


@pytest.mark.parametrize(
    "onward",
    [
        EVIL,
        "//evil.org/",
        "/\\evil.org",
        "/account/../..//evil.org",
        "https:evil.org",
        "javascript:alert(1)",
        "/account\r\nLocation: https://evil.org/",
        "/_matrix/media/v3/download/evil.org/x",
    ],
)
async def test_the_way_on_after_logging_in_leads_nowhere_else(
    browser: Browser, alice: User, onward: str
) -> None:
    await browser.open("/account/login")
    browser.page.text = browser.page.text.replace(
        'name="next" value="/account"', f'name="next" value="{onward}"'
    )
    await browser.submit(name=alice.user_id, password=PASSWORD)
    assert browser.page.url == f"{browser.base_url}/account"
    assert browser.page.title == "Your account"


# ── Forms of others ──────────────────────────────────────────────────────────────────


async def _count(hearth: Running) -> Json:
    async with hearth.ctx.db.read() as tx:
        row = await tx.fetchrow(
            """
            SELECT (SELECT count(*) FROM oauth_codes) AS codes,
                   (SELECT count(*) FROM users) AS users,
                   (SELECT count(*) FROM browser_sessions) AS browsers,
                   (SELECT count(*) FROM users WHERE deactivated) AS ended,
                   (SELECT count(*) FROM cross_signing_resets) AS resets,
                   (SELECT count(*) FROM devices) AS devices
            """
        )
    return dict(row)


@pytest.mark.parametrize("trick", ["none", "wrong", "cross-site", "origin", "cookie"])
@pytest.mark.parametrize(
    ("where", "fields"),
    [
        ("/account/login", {"name": "?", "password": PASSWORD}),
        ("/account/logout", {}),
        ("/account/register", {"name": "mallory", "password": PASSWORD}),
        ("/account/authorize", {"query": "?", "user_id": "?", "answer": "allow"}),
        ("/account/link", {"user_code": "BCDFBCDF", "answer": "allow"}),
        ("/account", {"action": "org.matrix.profile", "name": "Evil"}),
        ("/account", {"action": "org.matrix.account_deactivate", "password": PASSWORD}),
        (
            "/account",
            {"action": "org.matrix.cross_signing_reset", "password": PASSWORD},
        ),
        ("/account", {"action": "org.matrix.device_delete", "device_id": "?"}),
    ],
)
async def test_another_site_cannot_send_a_form(
    app: App,
    browser: Browser,
    alice: User,
    hearth: Running,
    trick: str,
    where: str,
    fields: dict[str, str],
) -> None:
    await logs_in(browser, alice.user_id)
    csrf = browser.page.forms()[0].fields["csrf"]
    known = {
        "name": alice.user_id,
        "user_id": alice.user_id,
        "device_id": alice.device_id,
        "query": app.asks().partition("?")[2],
    }
    data = {
        name: known.get(name, "") if value == "?" else value
        for name, value in fields.items()
    }
    headers: dict[str, str] = {}
    match trick:
        case "wrong":
            data["csrf"] = "0" * len(csrf)
        case "cross-site":
            data["csrf"], headers = csrf, {"Sec-Fetch-Site": "cross-site"}
        case "origin":
            data["csrf"], headers = csrf, {"Origin": EVIL}
        case "cookie":
            data["csrf"] = csrf
            browser.plant("A" * 43)
    before = await _count(hearth)
    await browser.send(where, data, headers)
    assert browser.page.status == 403
    assert await _count(hearth) == before


async def test_pages_are_in_no_frame_and_run_nothing(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    for where in ("/account", "/account/link", app.asks(), "/account/register"):
        page = await browser.open(where)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in page.headers
    page = await browser.open(app.asks())
    policy = page.headers["Content-Security-Policy"]
    assert "form-action 'self' https://app.example.com;" in policy


async def test_what_a_client_calls_itself_is_text(
    browser: Browser, alice: User, hearth: Running
) -> None:
    name = "<script>alert(1)</script>\"'><b>"
    app = await App(hearth, {**METADATA, "client_name": name}).registers()
    await logs_in(browser, alice.user_id)
    page = await browser.open(app.asks(state='"><script>', login_hint="<x>"))
    assert page.title == f"Allow {name}?"
    assert "<script" not in page.text


# ── Sessions of browsers ─────────────────────────────────────────────────────────────


async def test_a_planted_cookie_is_replaced_at_log_in(
    browser: Browser, alice: User, hearth: Running
) -> None:
    await browser.open("/account/login")
    planted = browser.cookie
    await logs_in(browser, alice.user_id)
    assert browser.cookie != planted
    async with Browser(hearth.base_url) as thief:
        thief.plant(planted)
        assert (await thief.open("/account")).title == "Log in"


async def test_logging_out_ends_the_cookie(
    browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    stolen = browser.cookie
    await browser.submit(form=1)
    assert browser.page.title == "Log in"
    async with Browser(hearth.base_url) as thief:
        thief.plant(stolen)
        assert (await thief.open("/account")).title == "Log in"


async def test_another_password_ends_all_browsers(
    browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    await alice.post(
        "/_matrix/client/v3/account/password",
        {
            "new_password": "another battery staple",
            "auth": {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": alice.user_id},
                "password": PASSWORD,
            },
        },
    )
    assert (await browser.open("/account")).title == "Log in"


async def test_the_cookie_is_kept_from_scripts_and_other_sites(
    another: Callable[..., Awaitable[Running]],
) -> None:
    server = await another(public_base_url="https://m.example.org")
    url = server.base_url + "/account/login"
    async with server.session.get(url) as answer:
        cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-hearth=")
    for part in ("Path=/", "HttpOnly", "SameSite=Lax", "Secure"):
        assert f"; {part}" in cookie
    assert "Domain" not in cookie


async def test_somebody_else_s_answer_is_not_taken(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    """The page was shown to alice; bob has logged in since, in another tab."""
    bob = await hearth.registers()
    await logs_in(browser, alice.user_id)
    page = await browser.open(app.asks())
    await browser.submit(form=1)
    await browser.submit(name=bob.user_id, password=PASSWORD)
    csrf = browser.page.forms()[0].fields["csrf"]
    data = {**page.forms()[0].fields, "csrf": csrf, "answer": "allow"}
    await browser.send("/account/authorize", data, {})
    assert browser.page.location == ""
    assert bob.user_id in browser.page.text


# ── Who is there ─────────────────────────────────────────────────────────────────────


async def test_a_wrong_name_and_a_wrong_password_are_answered_alike(
    browser: Browser, alice: User, hearth: Running
) -> None:
    gone = await hearth.registers()
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": gone.user_id},
        "password": PASSWORD,
    }
    await gone.post("/_matrix/client/v3/account/deactivate", {"auth": auth})
    found: dict[str, tuple[int, str, float]] = {}
    for name in (alice.user_id, "@nobody:hearth.test", "nobody at all", gone.user_id):
        await browser.open("/account/login")
        started = time.perf_counter()
        page = await browser.submit(name=name, password="wrong")
        found[name] = page.status, page.alert, time.perf_counter() - started
    assert {each[:2] for each in found.values()} == {
        (403, "User name or password are wrong.")
    }
    # A hash is computed for each of them: 20 ms, where a refusal at once takes one.
    assert min(each[2] for each in found.values()) > 0.008


async def test_no_secret_is_in_the_log(
    app: App,
    browser: Browser,
    alice: User,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    _, tokens = await app.trades(code)
    await app.trades(code)
    await app.post("/oauth2/revoke", {"token": tokens["access_token"]})
    written = caplog.text + "".join(capfd.readouterr())
    for secret in (code, PASSWORD, browser.cookie, app.verifier, *_secrets(tokens)):
        assert secret not in written


def _secrets(tokens: Json) -> list[str]:
    return [tokens["access_token"], tokens["refresh_token"]]


async def test_only_hashes_are_stored(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    code = await app.gets_code(browser)
    _, tokens = await app.trades(code)
    secrets = (code, browser.cookie, *_secrets(tokens))
    async with hearth.ctx.db.read() as tx:
        for table in (
            "oauth_codes",
            "browser_sessions",
            "access_tokens",
            "refresh_tokens",
            "oauth_sessions",
        ):
            rows: list[Any] = await tx.fetch(f"SELECT t::text FROM {table} t")
            text = "".join(row[0] for row in rows)
            assert not any(secret in text for secret in secrets)
