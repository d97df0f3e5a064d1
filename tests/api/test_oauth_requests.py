"""What clients may register and ask for, and how they are refused."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import Json
from tests.support.app import Running, User
from tests.support.browser import Browser
from tests.support.oauth import ALLOW, CALLBACK, METADATA, App, logs_in, said

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


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_uri": None}, "invalid_client_metadata"),
        ({"client_uri": "http://example.com"}, "invalid_client_metadata"),
        ({"redirect_uris": [EVIL]}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": [CALLBACK] * 21}, "invalid_redirect_uri"),
        ({"redirect_uris": CALLBACK}, "invalid_client_metadata"),
        ({"redirect_uris": [1]}, "invalid_client_metadata"),
        ({"logo_uri": f"{EVIL}logo.png"}, "invalid_client_metadata"),
        ({"tos_uri": "javascript:alert(1)"}, "invalid_client_metadata"),
        ({"policy_uri": "http://example.com/"}, "invalid_client_metadata"),
        ({"client_name": "x" * 201}, "invalid_client_metadata"),
        ({"application_type": "browser"}, "invalid_client_metadata"),
        (
            {"token_endpoint_auth_method": "client_secret_post"},
            "invalid_client_metadata",
        ),
        ({"grant_types": ["password"]}, "invalid_client_metadata"),
    ],
)
async def test_a_client_that_may_lie_is_not_registered(
    hearth: Running, changes: Json, error: str
) -> None:
    body = {k: v for k, v in {**METADATA, **changes}.items() if v is not None}
    status, reply = await App(hearth).post("/oauth2/register", json=body)
    assert (status, reply["error"]) == (400, error)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "\0"}, "invalid_request"),
    ],
)
async def test_the_token_endpoint_refuses_as_oauth_does(
    app: App, data: dict[str, str], error: str
) -> None:
    client = {"client_id": app.client_id} if data else {}
    status, reply = await app.post("/oauth2/token", {**client, **data})
    assert (status, reply["error"]) == (
        401 if error == "invalid_client" else 400,
        error,
    )
    status, reply = await app.post("/oauth2/token", json={**client, **data})
    assert (status, reply["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "openid",
        "urn:matrix:client:api:*",
        "urn:matrix:client:device:ABC",
        "urn:matrix:client:api:* urn:matrix:client:device:",
        "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B",
        'urn:matrix:client:api:* urn:matrix:client:device:"',
        "urn:matrix:client:api:* urn:matrix:client:device:ä",
        "urn:matrix:client:api:* urn:matrix:client:device:" + "x" * 256,
        "urn:matrix:client:api:* urn:matrix:client:device:" + "x" * 3000,
        "urn:synapse:admin:*",
    ],
)
async def test_a_scope_must_name_access_and_one_device(
    app: App, browser: Browser, scope: str
) -> None:
    await browser.open(app.asks(scope=scope))
    assert said(browser.page.location)["error"] == "invalid_scope"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
    ],
)
async def test_other_ways_are_not_taken(
    app: App, browser: Browser, changes: dict[str, str | None], error: str
) -> None:
    await browser.open(app.asks(**changes))
    assert said(browser.page.location)["error"] == error


async def test_the_user_s_answer_counts_only_for_what_was_asked(
    app: App, browser: Browser, alice: User
) -> None:
    """Who changes the hidden request gets no further than a new one would."""
    await logs_in(browser, alice.user_id)
    await browser.open(app.asks())
    query = app.asks(redirect_uri=EVIL).partition("?")[2]
    await browser.submit(ALLOW, query=query)
    assert (browser.page.status, browser.page.location) == (400, "")
