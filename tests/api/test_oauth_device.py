"""A device without a browser is allowed on another one (RFC 8628)."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import Json
from tests.support.app import PASSWORD, Running, User
from tests.support.browser import Browser
from tests.support.oauth import ALLOW, DENY, DEVICE_GRANT, METADATA, App, logs_in


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


async def waits(app: App, **changes: str) -> Json:
    data = {"client_id": app.client_id, "scope": app.scope, **changes}
    status, reply = await app.post("/oauth2/device", data)
    assert status == 200, reply
    return reply


async def polls(app: App, waiting: Json) -> tuple[int, Json]:
    return await app.post(
        "/oauth2/token",
        {
            "grant_type": DEVICE_GRANT,
            "device_code": waiting["device_code"],
            "client_id": app.client_id,
        },
    )


async def test_a_device_is_allowed_on_another(
    app: App, browser: Browser, alice: User
) -> None:
    waiting = await waits(app)
    assert waiting["interval"] == 5
    status, reply = await polls(app, waiting)
    assert (status, reply["error"]) == (400, "authorization_pending")

    await browser.open(waiting["verification_uri_complete"])
    await browser.submit(name=alice.user_id, password=PASSWORD)
    assert browser.page.title == "Link Letterbox?"
    assert waiting["user_code"] in browser.page.text
    assert app.device_id in browser.page.text
    await browser.submit(ALLOW)
    assert browser.page.title == "The device is linked"

    status, tokens = await polls(app, waiting)
    assert (status, tokens["scope"]) == (200, app.scope)
    _, me = await app.whoami(tokens["access_token"])
    assert (me["user_id"], me["device_id"]) == (alice.user_id, app.device_id)
    assert (await app.refreshes(tokens["refresh_token"]))[0] == 200
    status, reply = await polls(app, waiting)
    assert (status, reply["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("lower", [False, True])
async def test_the_code_may_be_typed(
    app: App, browser: Browser, alice: User, *, lower: bool
) -> None:
    waiting = await waits(app)
    await logs_in(browser, alice.user_id)
    await browser.open(waiting["verification_uri"])
    code = waiting["user_code"]
    await browser.submit(user_code=code.lower().replace("-", " ") if lower else code)
    assert browser.page.title == "Link Letterbox?"
    await browser.submit(DENY)
    assert browser.page.title == "The device is not linked"
    status, reply = await polls(app, waiting)
    assert (status, reply["error"]) == (400, "access_denied")


async def test_who_asks_too_often_is_told_to_wait(app: App) -> None:
    waiting = await waits(app)
    assert (await polls(app, waiting))[1]["error"] == "authorization_pending"
    assert (await polls(app, waiting))[1]["error"] == "slow_down"


async def test_a_code_runs_out(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    waiting = await waits(app)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("UPDATE oauth_device_codes SET expires_at = now()")
    assert (await polls(app, waiting))[1]["error"] == "expired_token"
    await logs_in(browser, alice.user_id)
    await browser.open(waiting["verification_uri_complete"])
    assert browser.page.status == 400
    assert browser.page.title == "Link a new device"


@pytest.mark.parametrize("code", ["", "BCDF-BCDF", "aeiou", "x" * 500, "' OR 1=1"])
async def test_a_wrong_code_links_nothing(
    browser: Browser, alice: User, code: str
) -> None:
    await logs_in(browser, alice.user_id)
    await browser.open("/account/link")
    await browser.submit(user_code=code)
    assert browser.page.alert.startswith("No device waits with this code.")


async def test_a_code_is_answered_once(
    app: App, browser: Browser, alice: User, hearth: Running
) -> None:
    waiting = await waits(app)
    await logs_in(browser, alice.user_id)
    page = await browser.open(waiting["verification_uri_complete"])
    await browser.submit(DENY)
    data = {**page.forms()[0].fields, "answer": "allow"}
    await browser.send("/account/link", data, {})
    assert browser.page.status == 400
    assert (await polls(app, waiting))[1]["error"] == "access_denied"


async def test_a_device_code_is_of_one_client(app: App, hearth: Running) -> None:
    waiting = await waits(app)
    other = await App(hearth, {**METADATA, "client_name": "Other"}).registers()
    assert (await polls(other, waiting))[1]["error"] == "invalid_grant"


async def test_guessing_codes_comes_to_an_end(another: object) -> None:
    server = await another(limits={"enabled": True})  # type: ignore[operator]
    alice = await server.registers()
    async with Browser(server.base_url) as browser:
        await logs_in(browser, alice.user_id)
        for _ in range(10):
            await browser.open("/account/link?user_code=BCDFBCDF")
            assert browser.page.status == 400
        await browser.open("/account/link?user_code=BCDFBCDF")
        assert browser.page.status == 429


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"client_id": "unheard-of"}, "invalid_client"),
    ],
)
async def test_a_device_must_ask_for_what_there_is(
    app: App, changes: dict[str, str], error: str
) -> None:
    data = {"client_id": app.client_id, "scope": app.scope, **changes}
    status, reply = await app.post("/oauth2/device", data)
    assert (status >= 400, reply["error"]) == (True, error)


async def test_a_client_must_have_registered_for_it(hearth: Running) -> None:
    metadata = {**METADATA, "grant_types": ["authorization_code"]}
    app = await App(hearth, metadata).registers()
    data = {"client_id": app.client_id, "scope": app.scope}
    status, reply = await app.post("/oauth2/device", data)
    assert (status, reply["error"]) == (400, "unauthorized_client")
