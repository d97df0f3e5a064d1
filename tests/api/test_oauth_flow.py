"""Clients log in by OAuth: the whole way, and each step of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.api import path
from tests.support.app import PASSWORD, Running, User
from tests.support.browser import Browser
from tests.support.oauth import ALLOW, CALLBACK, DENY, METADATA, App, logs_in, said

pytestmark = pytest.mark.usefixtures("hearth")


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


# ── The whole way ────────────────────────────────────────────────────────────────────


async def test_a_user_logs_in_with_a_client(
    app: App, browser: Browser, alice: User
) -> None:
    await browser.open(app.asks())
    assert browser.page.title == "Log in"
    await browser.submit(name=alice.user_id, password=PASSWORD)
    assert browser.page.title == "Allow Letterbox?"
    assert alice.user_id in browser.page.text
    await browser.submit(ALLOW)
    assert browser.page.location.startswith(f"{CALLBACK}#")
    answer = said(browser.page.location)
    assert answer["state"] == app.state
    assert answer["iss"] == f"{browser.base_url}/"

    status, reply = await app.trades(answer["code"])
    assert status == 200
    assert reply["token_type"] == "Bearer"
    assert reply["scope"] == app.scope
    assert 0 < reply["expires_in"] <= 3600
    assert await app.whoami(reply["access_token"]) == (
        200,
        {"user_id": alice.user_id, "device_id": app.device_id, "is_guest": False},
    )
    devices = await alice.get("/_matrix/client/v3/devices")
    names = {
        each["device_id"]: each["display_name"]
        for each in devices["devices"]
        if each["device_id"] == app.device_id
    }
    assert names == {app.device_id: "Letterbox"}


async def test_the_answer_may_come_in_the_query(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    callback = METADATA["redirect_uris"][1]
    code = await app.gets_code(browser, response_mode="query", redirect_uri=callback)
    assert browser.page.location.startswith(f"{callback}&code=")
    assert (await app.trades(code, redirect_uri=callback))[0] == 200


async def test_a_user_may_refuse(app: App, browser: Browser, alice: User) -> None:
    await logs_in(browser, alice.user_id)
    await browser.open(app.asks())
    await browser.submit(DENY)
    answer = said(browser.page.location)
    assert (answer["error"], answer["state"]) == ("access_denied", app.state)
    assert "code" not in answer


async def test_somebody_new_makes_an_account_on_the_way(
    app: App, browser: Browser, hearth: Running
) -> None:
    await browser.open(app.asks(prompt="create"))
    assert browser.page.title == "Make an account"
    name = f"new{app.device_id}"
    await browser.submit(name=name, password=PASSWORD, again=PASSWORD)
    assert browser.page.title == "Allow Letterbox?"
    await browser.submit(ALLOW)
    _, reply = await app.trades(said(browser.page.location)["code"])
    _, me = await app.whoami(reply["access_token"])
    assert me["user_id"] == f"@{name}:hearth.test"
    await hearth.logs_in(f"@{name}:hearth.test")  # and by password as well


async def test_unstable_scopes_and_openid_are_understood(
    app: App, browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    unstable = (
        "urn:matrix:org.matrix.msc2967.client:api:*"
        f" urn:matrix:org.matrix.msc2967.client:device:{app.device_id}"
    )
    code = await app.gets_code(browser, scope=f"openid {unstable}")
    status, reply = await app.trades(code)
    assert (status, reply["scope"]) == (200, unstable)
    _, me = await app.whoami(reply["access_token"])
    assert me["device_id"] == app.device_id


async def test_another_user_can_be_chosen(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    bob = await hearth.registers()
    await logs_in(browser, alice.user_id)
    await browser.open(app.asks())
    await browser.submit(form=1)
    assert browser.page.title == "Log in"
    await browser.submit(name=bob.user_id, password=PASSWORD)
    assert bob.user_id in browser.page.text
    assert alice.user_id not in browser.page.text


async def test_prompt_none_is_answered_without_a_page(
    app: App, browser: Browser, alice: User
) -> None:
    await browser.open(app.asks(prompt="none"))
    assert said(browser.page.location)["error"] == "login_required"
    await logs_in(browser, alice.user_id)
    await browser.open(app.asks(prompt="none"))
    assert said(browser.page.location)["error"] == "consent_required"


# ── Tokens ───────────────────────────────────────────────────────────────────────────


async def test_tokens_are_renewed(app: App, browser: Browser, alice: User) -> None:
    await logs_in(browser, alice.user_id)
    _, first = await app.trades(await app.gets_code(browser))
    status, second = await app.refreshes(first["refresh_token"])
    assert status == 200
    assert second["scope"] == app.scope
    assert second["refresh_token"] != first["refresh_token"]
    # The answer may have been lost: the old one is good until the new is used.
    status, third = await app.refreshes(first["refresh_token"])
    assert status == 200
    assert (await app.whoami(third["access_token"]))[0] == 200
    assert (await app.refreshes(third["refresh_token"]))[0] == 200


async def test_a_refresh_token_is_of_one_client(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    _, tokens = await app.trades(await app.gets_code(browser))
    other = await App(hearth, {**METADATA, "client_name": "Other"}).registers()
    status, refused = await other.refreshes(tokens["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")


async def test_a_refresh_token_of_a_log_in_by_password_is_no_client_s(
    app: App, alice: User
) -> None:
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
        "refresh_token": True,
    }
    token = (await alice.post(path("login"), login))["refresh_token"]
    status, refused = await app.refreshes(token)
    assert (status, refused["error"]) == (400, "invalid_grant")
    assert await alice.post(path("refresh"), {"refresh_token": token})


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_either_token_logs_the_device_out(
    app: App, browser: Browser, alice: User, kind: str
) -> None:
    await logs_in(browser, alice.user_id)
    _, tokens = await app.trades(await app.gets_code(browser))
    for _ in range(2):  # what is revoked already is no error
        status, _ = await app.post("/oauth2/revoke", {"token": tokens[kind]})
        assert status == 200
    status, refused = await app.whoami(tokens["access_token"])
    assert (status, refused["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert (await app.refreshes(tokens["refresh_token"]))[0] == 400


async def test_an_ordinary_logout_ends_it_as_well(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    await logs_in(browser, alice.user_id)
    _, tokens = await app.trades(await app.gets_code(browser))
    await hearth.client(tokens["access_token"]).post("/_matrix/client/v3/logout")
    assert (await app.whoami(tokens["access_token"]))[0] == 401
    assert (await app.refreshes(tokens["refresh_token"]))[0] == 400


async def test_another_process_knows_the_browser_and_the_code(
    app: App, browser: Browser, alice: User, another_process: Running
) -> None:
    await logs_in(browser, alice.user_id)
    browser.base_url = browser.page.url = another_process.base_url
    code = await app.gets_code(browser)
    status, tokens = await app.trades(code)
    assert status == 200
    there = another_process.client(tokens["access_token"])
    assert (await there.get("/_matrix/client/v3/account/whoami"))["user_id"]
    await app.post("/oauth2/revoke", {"token": tokens["access_token"]})
    async with asyncio.timeout(20):
        while (await there.answer("GET", "/_matrix/client/v3/devices"))[0] != 401:
            await asyncio.sleep(0.02)


# ── Metadata ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "where",
    [
        "/_matrix/client/v1/auth_metadata",
        "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata",
        "/.well-known/openid-configuration",
    ],
)
async def test_clients_find_the_endpoints(hearth: Running, where: str) -> None:
    found = await hearth.nobody.get(where)
    assert found["issuer"] == f"{hearth.base_url}/"
    assert found["authorization_endpoint"] == f"{hearth.base_url}/account/authorize"
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert "org.matrix.device_delete" in found["account_management_actions_supported"]
    issuer = await hearth.nobody.get(
        "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer"
    )
    assert issuer == {"issuer": found["issuer"]}


async def test_the_public_address_is_told(another: object) -> None:
    server = await another(public_base_url="https://m.example.org")  # type: ignore[operator]
    found = await server.nobody.get("/_matrix/client/v1/auth_metadata")
    assert found["token_endpoint"] == "https://m.example.org/oauth2/token"


async def test_a_registration_is_answered_with_what_counts(hearth: Running) -> None:
    app = App(hearth)
    body = {
        **METADATA,
        "client_name#fr": "Boîte",
        "grant_types": ["authorization_code", "refresh_token", "unheard-of"],
        "contacts": ["x@example.com"],
    }
    status, reply = await app.post("/oauth2/register", json=body)
    assert status == 201
    assert reply["grant_types"] == ["authorization_code", "refresh_token"]
    assert reply["redirect_uris"] == METADATA["redirect_uris"]
    assert "client_name#fr" not in reply
    again = await app.post("/oauth2/register", json=body)
    assert again == (201, reply)
