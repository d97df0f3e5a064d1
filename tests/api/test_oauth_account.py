"""The pages on which people make, see to and end their accounts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from homeserver.oauth import tasks
from tests.support.api import Json, RefusedError
from tests.support.app import PASSWORD, Running, User
from tests.support.browser import Browser
from tests.support.oauth import App, logs_in

UPLOAD = "/_matrix/client/v3/keys/device_signing/upload"


@pytest.fixture
async def browser(hearth: Running) -> AsyncIterator[Browser]:
    async with Browser(hearth.base_url) as browser:
        yield browser


@pytest.fixture
async def alice(hearth: Running) -> User:
    return await hearth.registers()


# ── Registration ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({"name": "Not a name"}, ""),
        ({"name": ""}, "Choose a user name."),
        ({"password": "short", "again": "short"}, "The password is too short."),
        ({"again": "different"}, "The two passwords are not the same."),
    ],
)
async def test_what_is_wrong_is_said_and_the_name_kept(
    browser: Browser, changes: dict[str, str], alert: str
) -> None:
    await browser.open("/account/register")
    filled = {"name": "carol1", "password": PASSWORD, "again": PASSWORD, **changes}
    await browser.submit(**filled)
    assert browser.page.status == 400
    assert browser.page.alert.startswith(alert)
    assert browser.page.alert
    assert browser.page.forms()[0].fields["name"] == filled["name"]
    assert PASSWORD not in browser.page.text


async def test_a_name_is_given_once(browser: Browser, alice: User) -> None:
    await browser.open("/account/register")
    await browser.submit(name=alice.user_id, password=PASSWORD, again=PASSWORD)
    assert browser.page.status == 400
    assert (await browser.open("/account")).title == "Log in"


async def test_a_token_is_asked_for_where_it_is_needed(
    another: Callable[..., Awaitable[Running]],
) -> None:
    server = await another(registration={"mode": "token"})
    async with server.ctx.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO registration_tokens (token, uses_allowed) VALUES ('once', 1)"
        )
    async with Browser(server.base_url) as browser:
        await browser.open("/account/register?token=wrong")
        assert browser.page.forms()[0].fields["token"] == "wrong"
        passwords = {"password": PASSWORD, "again": PASSWORD}
        await browser.submit(name="dora", **passwords)
        assert browser.page.alert == "The registration token is not valid."
        await browser.submit(name="dora", token=" once ", **passwords)
        assert browser.page.title == "Your account"
    async with Browser(server.base_url) as browser:
        await browser.open("/account/register")
        await browser.submit(name="emil", token="once", **passwords)
        assert browser.page.alert == "The registration token is not valid."


async def test_a_closed_server_says_so(
    another: Callable[..., Awaitable[Running]],
) -> None:
    server = await another(registration={"mode": "closed"})
    async with Browser(server.base_url) as browser:
        page = await browser.open("/account/register")
        assert page.forms() == []
        assert "Accounts are made by the administrator" in page.text
        assert "Make an account" not in (await browser.open("/account/login")).text


async def test_pages_are_there_in_german(hearth: Running) -> None:
    async with Browser(hearth.base_url, language="de-CH,de;q=0.9") as browser:
        page = await browser.open("/account/login")
        assert page.title == "Anmelden"
        assert '<html lang="de">' in page.text
        page = await browser.submit(name="niemand", password="falsch")
        assert page.alert == "Benutzername oder Passwort ist falsch."


async def test_pages_can_be_used_with_a_screen_reader_and_a_phone(
    browser: Browser,
) -> None:
    for where in ("/account/login", "/account/register"):
        page = await browser.open(where)
        assert 'name="viewport"' in page.text
        for name in page.forms()[0].fields.keys() - {"csrf", "next"}:
            assert f'<label for="{name}">' in page.text
        assert page.text.count("<h1>") == 1


# ── Seeing to it ─────────────────────────────────────────────────────────────────────


async def test_a_link_leads_to_its_page_after_the_log_in(
    browser: Browser, alice: User
) -> None:
    await browser.open("/account?action=org.matrix.devices_list")
    await browser.submit(name=alice.user_id, password=PASSWORD)
    assert browser.page.title == "Your devices"
    assert alice.device_id in browser.page.text


async def test_the_name_is_changed(browser: Browser, alice: User) -> None:
    await logs_in(browser, alice.user_id)
    for name, told in (("Alice <3", {"displayname": "Alice <3"}), ("", {})):
        await browser.submit(name=name)
        assert browser.page.forms()[0].fields["name"] == name
        found = await alice.get(f"/_matrix/client/v3/profile/{alice.escaped()}")
        assert {k: v for k, v in found.items() if v is not None} == told


@pytest.mark.parametrize(
    "action", ["org.matrix.device_delete", "org.matrix.session_end"]
)
async def test_a_device_is_logged_out(
    browser: Browser, alice: User, hearth: Running, action: str
) -> None:
    other = await hearth.logs_in(alice.user_id)
    await logs_in(browser, alice.user_id)
    await browser.open(f"/account?action={action}&device_id={other.device_id}")
    assert other.device_id in browser.page.text
    await browser.submit()
    assert browser.page.title == "Your devices"
    assert other.device_id not in browser.page.text
    with pytest.raises(RefusedError, match="M_UNKNOWN_TOKEN"):
        await other.get("/_matrix/client/v3/account/whoami")
    await alice.get("/_matrix/client/v3/account/whoami")


@pytest.mark.parametrize("device_id", ["", "unheard-of", "%00", "x" * 300])
async def test_there_is_no_page_of_a_device_of_others(
    browser: Browser, alice: User, hearth: Running, device_id: str
) -> None:
    bob = await hearth.registers()
    await logs_in(browser, alice.user_id)
    for each in (device_id, bob.device_id):
        page = await browser.open(
            f"/account?action=org.matrix.device_view&device_id={each}"
        )
        assert page.status == 404


async def test_an_account_is_ended_with_the_password(
    browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    await browser.open("/account?action=org.matrix.account_deactivate")
    await browser.submit(password="wrong")
    assert browser.page.status == 403
    await alice.get("/_matrix/client/v3/account/whoami")
    await browser.submit(password=PASSWORD, erase="yes")
    assert browser.page.title == "Your account has ended"
    with pytest.raises(RefusedError, match="M_UNKNOWN_TOKEN"):
        await alice.get("/_matrix/client/v3/account/whoami")
    assert (await browser.open("/account")).title == "Log in"


# ── New cross-signing keys ───────────────────────────────────────────────────────────


def master_key(user_id: str, letter: str) -> Json:
    public = letter * 43
    return {
        "master_key": {
            "user_id": user_id,
            "usage": ["master"],
            "keys": {f"ed25519:{public}": public},
        }
    }


async def test_keys_are_replaced_once_the_user_has_allowed_it(
    browser: Browser, alice: User, hearth: Running
) -> None:
    app = await App(hearth).registers()
    await logs_in(browser, alice.user_id)
    _, tokens = await app.trades(await app.gets_code(browser))
    client = hearth.client(tokens["access_token"])
    await client.post(UPLOAD, master_key(alice.user_id, "A"))

    status, asked = await client.answer("POST", UPLOAD, master_key(alice.user_id, "B"))
    assert status == 401
    assert {"stages": ["m.oauth"]} in asked["flows"]
    url: Any = asked["params"]["m.oauth"]["url"]
    assert url.startswith(f"{hearth.base_url}/account?action=")
    auth = {"auth": {"session": asked["session"]}}
    body = {**master_key(alice.user_id, "B"), **auth}
    status, _ = await client.answer("POST", UPLOAD, body)
    assert status == 401

    await browser.open(url)
    await browser.submit(password="wrong")
    assert browser.page.status == 403
    await browser.submit(password=PASSWORD)
    assert browser.page.title == "The reset is allowed"
    await client.post(UPLOAD, body)
    # And once only.
    status, _ = await client.answer("POST", UPLOAD, master_key(alice.user_id, "C"))
    assert status == 401


async def test_a_legacy_log_in_is_asked_for_the_password(
    browser: Browser, alice: User, hearth: Running
) -> None:
    app = await App(hearth).registers()
    await logs_in(browser, alice.user_id)
    await app.trades(await app.gets_code(browser))
    legacy = await hearth.logs_in(alice.user_id, device_id=app.device_id)
    await legacy.post(UPLOAD, master_key(alice.user_id, "A"))
    _, asked = await legacy.answer("POST", UPLOAD, master_key(alice.user_id, "B"))
    assert asked["flows"] == [{"stages": ["m.login.password"]}]


# ── What is forgotten ────────────────────────────────────────────────────────────────


async def test_clients_without_a_session_are_forgotten(
    browser: Browser, alice: User, another_process: Running, hearth: Running
) -> None:
    used = await App(hearth).registers()
    unused = App(hearth)
    unused.metadata["client_name"] = f"Unused {used.device_id}"
    await unused.registers()
    await logs_in(browser, alice.user_id)
    _, tokens = await used.trades(await used.gets_code(browser))
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE oauth_clients SET registered_at = now() - interval '31 days'"
        )
    await tasks.forget_old(hearth.ctx)
    await browser.open(unused.asks())
    assert browser.page.status == 400
    assert (await used.refreshes(tokens["refresh_token"]))[0] == 200
