"""People log in by OAuth: matrix-js-sdk's own code, and our pages in Chromium.

`make interop` runs these. Chromium is the system's; without it they are skipped, unless
CI is set.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.app import PASSWORD, Running, configuration, running
from tests.support.javascript import SOURCE, Person, install, node

CLIENT = {
    "client_name": "Letterbox",
    "client_uri": "https://example.com/",
    "redirect_uris": ["http://127.0.0.1/callback"],
    "application_type": "native",
}
TOKEN = "let-me-in"


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    if not os.environ.get("HEARTH_INTEROP"):
        pytest.skip("HEARTH_INTEROP is not set: `make interop` runs these")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium")
        pytest.skip("there is no Chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


@pytest.fixture
async def server(
    chromium: Browser, new_dsn: Callable[[], Awaitable[str]], tmp_path: Path
) -> AsyncIterator[Running]:
    """A server on which people need a token to make an account."""
    config = configuration(tmp_path, registration={"mode": "token"})
    async with running(config, await new_dsn()) as server:
        async with server.ctx.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO registration_tokens (token) VALUES ($1)", TOKEN
            )
        yield server


@pytest.fixture
async def callback() -> AsyncIterator[str]:
    """Where the client waits for the answer, on the user's own machine."""
    application = web.Application()

    async def take(_request: web.Request) -> web.Response:
        return web.Response(text="You can close this page.")

    application.router.add_get("/callback", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}/callback"
    await runner.cleanup()


@pytest.fixture
async def app(server: Running) -> AsyncIterator[Person]:
    """The client, which has found the server and registered."""
    home = await asyncio.to_thread(install)
    shutil.copy(SOURCE / "oauth.mjs", home / "oauth.mjs")
    process = await asyncio.create_subprocess_exec(
        str(node()),
        "oauth.mjs",
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    person = Person(process)
    begun = await person.does("begin", base_url=server.base_url, client=CLIENT)
    person.device_id = begun["device_id"]
    yield person
    await person.quits()


async def new_page(chromium: Browser, **options: str) -> tuple[BrowserContext, Page]:
    """A browser of somebody's own, as small as a phone, without scripts."""
    context = await chromium.new_context(
        viewport={"width": 360, "height": 640}, java_script_enabled=False, **options
    )
    page = await context.new_page()
    page.set_default_timeout(20_000)
    return context, page


async def title(page: Page) -> str:
    return await page.locator("h1").inner_text()


async def signs_up(page: Page, name: str) -> None:
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_label("Password, once more").fill(PASSWORD)
    await page.get_by_label("Registration token").fill(TOKEN)
    await page.get_by_role("button", name="Make an account").click()


async def logs_in(page: Page, name: str) -> None:
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()


async def allows(page: Page, callback: str) -> dict[str, str]:
    """Press the button; what the client is told."""
    await page.get_by_role("button", name="Allow", exact=True).click()
    await page.wait_for_url(f"{callback}**")
    parts = urlsplit(page.url)
    return dict(parse_qsl(parts.fragment or parts.query))


@pytest.mark.parametrize("mode", ["fragment", "query"])
async def test_somebody_signs_up_logs_in_and_out(
    chromium: Browser, server: Running, app: Person, callback: str, mode: str
) -> None:
    _, page = await new_page(chromium)
    url = await app.does(
        "asks", state="s1", redirect_uri=callback, mode=mode, prompt="create"
    )
    await page.goto(url)
    assert await title(page) == "Make an account"
    await signs_up(page, "alice")
    assert await title(page) == "Allow Letterbox?"
    answer = await allows(page, callback)
    assert answer["state"] == "s1"

    scope = await app.does("trades", code=answer["code"], redirect_uri=callback)
    assert app.device_id in scope
    me = await app.does("whoami")
    assert me["user_id"] == "@alice:hearth.test"
    assert me["device_id"] == app.device_id
    await app.does("refreshes")
    assert (await app.does("whoami"))["user_id"] == "@alice:hearth.test"
    await app.does("revokes")
    assert await app.does("whoami") == {"errcode": "M_UNKNOWN_TOKEN"}

    # Again, in another browser, with the password.
    _, page = await new_page(chromium)
    url = await app.does("asks", state="s2", redirect_uri=callback, mode=mode)
    await page.goto(url)
    assert await title(page) == "Log in"
    await logs_in(page, "alice")
    answer = await allows(page, callback)
    await app.does("trades", code=answer["code"], redirect_uri=callback)
    assert (await app.does("whoami"))["user_id"] == "@alice:hearth.test"

    # The user ends it on the page of the account.
    await page.goto(f"{server.base_url}/account?action=org.matrix.devices_list")
    await page.get_by_role("link", name="Letterbox").click()
    await page.get_by_role("button", name="Log this device out").click()
    assert await title(page) == "Your devices"
    assert await app.does("whoami") == {"errcode": "M_UNKNOWN_TOKEN"}


async def test_a_device_is_linked_in_another_browser(
    chromium: Browser, server: Running, app: Person, callback: str
) -> None:
    _, page = await new_page(chromium)
    await page.goto(f"{server.base_url}/account/register")
    await signs_up(page, "bob")
    waiting = await app.does("waits")

    _, phone = await new_page(chromium, locale="de-DE")
    await phone.goto(waiting["verification_uri_complete"])
    assert await title(phone) == "Anmelden"
    await phone.get_by_label("Benutzername").fill("bob")
    await phone.get_by_label("Passwort").fill(PASSWORD)
    await phone.get_by_role("button", name="Anmelden").click()
    assert await title(phone) == "Letterbox verbinden?"
    assert waiting["user_code"] in await phone.content()
    await phone.get_by_role("button", name="Zulassen", exact=True).click()
    assert await title(phone) == "Das Gerät ist verbunden"
    assert await app.does("gets") == {"error": None}
    me = await app.does("whoami")
    assert (me["user_id"], me["device_id"]) == ("@bob:hearth.test", app.device_id)


async def test_pages_fit_a_phone_and_load_nothing(
    chromium: Browser, server: Running, app: Person, callback: str
) -> None:
    _, page = await new_page(chromium)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    url = await app.does("asks", state="s", redirect_uri=callback, mode="query")
    await page.goto(f"{server.base_url}/account/register")
    await signs_up(page, "carol")
    for where in (
        url,
        f"{server.base_url}/account",
        f"{server.base_url}/account/link",
        f"{server.base_url}/account?action=org.matrix.devices_list",
        f"{server.base_url}/account?action=org.matrix.cross_signing_reset",
        f"{server.base_url}/account?action=org.matrix.account_deactivate",
    ):
        await page.goto(where)
        box = await page.locator("main").bounding_box()
        assert box is not None
        assert box["width"] <= 360
        for button in await page.get_by_role("button").all():
            size = await button.bounding_box()
            assert size is not None
            assert size["height"] >= 44  # what a thumb needs
    assert set(asked) <= {"document", "other"}
    assert not [text for text in said if "Content Security Policy" in text]
