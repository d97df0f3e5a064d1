"""Clients that know `m.login.sso` only log in on our own pages."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from tests.support.app import PASSWORD, Running, User
from tests.support.browser import Browser
from tests.support.oauth import logs_in, said

REDIRECT = "/_matrix/client/v3/login/sso/redirect"
HERE = "https://client.example.com/?hs=1"


@pytest.fixture
async def browser(hearth: Running) -> AsyncIterator[Browser]:
    async with Browser(hearth.base_url) as browser:
        yield browser


@pytest.fixture
async def alice(hearth: Running) -> User:
    return await hearth.registers()


async def asks(browser: Browser, where: str, **more: str) -> None:
    query = "".join(f"&{name}={value}" for name, value in more.items())
    await browser.open(f"{REDIRECT}?redirectUrl={quote(where, safe='')}{query}")
    if browser.page.status == 302:
        await browser.open(browser.page.location)


async def test_a_user_logs_in(browser: Browser, alice: User, hearth: Running) -> None:
    flows = (await hearth.nobody.get("/_matrix/client/v3/login"))["flows"]
    assert {"type": "m.login.sso", "oauth_aware_preferred": True}.items() <= next(
        flow for flow in flows if flow["type"] == "m.login.sso"
    ).items()
    await asks(browser, HERE)
    assert browser.page.title == "Log in"
    await browser.submit(name=alice.user_id, password=PASSWORD)
    assert browser.page.title == "Log in at client.example.com?"
    await browser.submit()
    location = browser.page.location
    assert location.startswith(f"{HERE}&loginToken=")
    login = {"type": "m.login.token", "token": said(location)["loginToken"]}
    reply = await hearth.nobody.post("/_matrix/client/v3/login", login)
    assert reply["user_id"] == alice.user_id
    status, _ = await hearth.nobody.answer("POST", "/_matrix/client/v3/login", login)
    assert status == 403


async def test_somebody_new_makes_an_account(browser: Browser) -> None:
    await asks(browser, "io.element:/callback", action="register")
    assert browser.page.title == "Make an account"
    await browser.submit(name="ssofriend", password=PASSWORD, again=PASSWORD)
    assert browser.page.title == "Log in at io.element:?"
    await browser.submit()
    assert browser.page.location.startswith("io.element:/callback?loginToken=")


async def test_a_token_of_others_is_not_handed_on(
    browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    await asks(browser, "https://client.example.com/?loginToken=evil&x=1#part")
    await browser.submit()
    told = browser.page.location
    assert told.startswith("https://client.example.com/?x=1&loginToken=htl_")
    assert told.endswith("#part")


@pytest.mark.parametrize(
    "where",
    [
        "",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "//evil.org",
        "/account",
        "https://",
        "https://client.example.com@evil.org/",
        "https://client.example.com\\@evil.org/",
        "https://evil.org/\r\nSet-Cookie: x",
        "https://evil.org/ x",
    ],
)
async def test_no_browser_is_sent_there(
    browser: Browser, alice: User, where: str
) -> None:
    await logs_in(browser, alice.user_id)
    await asks(browser, where)
    assert (browser.page.status, browser.page.location) == (400, "")
    await asks(browser, HERE)
    await browser.submit(where=where)
    assert (browser.page.status, browser.page.location) == (400, "")


async def test_nothing_is_sent_without_the_user_s_word(
    browser: Browser, alice: User
) -> None:
    await logs_in(browser, alice.user_id)
    for data in ({}, {"csrf": "0" * 64}):
        form = {"where": HERE, "user_id": alice.user_id, **data}
        await browser.send("/account/sso", form, {})
        assert (browser.page.status, browser.page.location) == (403, "")


async def test_there_is_no_other_provider(browser: Browser) -> None:
    page = await browser.open(f"{REDIRECT}/github?redirectUrl={quote(HERE)}")
    assert (page.status, page.title) == (404, "This did not work")
