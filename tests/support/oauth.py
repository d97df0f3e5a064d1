"""A client that logs in by OAuth, and the little it has to remember."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.support.api import Json
from tests.support.app import PASSWORD, Running
from tests.support.browser import Browser

CALLBACK = "https://app.example.com/callback"
METADATA: Json = {
    "client_name": "Letterbox",
    "client_uri": "https://example.com/",
    "redirect_uris": [CALLBACK, "https://app.example.com/?kept=yes"],
    "grant_types": [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "application_type": "web",
}
ALLOW, DENY = ("answer", "allow"), ("answer", "deny")
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass
class App:
    """A client with its registration."""

    server: Running
    metadata: Json = field(default_factory=lambda: dict(METADATA))
    client_id: str = ""
    device_id: str = field(default_factory=lambda: secrets.token_hex(6))
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(40))
    state: str = field(default_factory=lambda: secrets.token_hex(8))

    async def post(
        self, where: str, data: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, Json]:
        url = self.server.base_url + where
        async with self.server.session.post(url, data=data, **more) as answer:
            return answer.status, await answer.json()

    async def registers(self) -> "App":
        status, reply = await self.post("/oauth2/register", json=self.metadata)
        assert status == 201, reply
        self.client_id = reply["client_id"]
        return self

    @property
    def scope(self) -> str:
        return f"urn:matrix:client:api:* urn:matrix:client:device:{self.device_id}"

    def asks(self, **changes: str | None) -> str:
        """The page to which it sends its user; None leaves a parameter out."""
        fields = {
            "response_type": "code",
            "response_mode": "fragment",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": self.scope,
            "state": self.state,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            **changes,
        }
        kept = {name: value for name, value in fields.items() if value is not None}
        return f"/account/authorize?{urlencode(kept)}"

    async def gets_code(self, browser: Browser, **changes: str | None) -> str:
        """The user, who is logged in with the browser, allows it."""
        await browser.open(self.asks(**changes))
        await browser.submit(ALLOW)
        return said(browser.page.location)["code"]

    async def trades(self, code: str, **changes: str) -> tuple[int, Json]:
        return await self.post(
            "/oauth2/token",
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "client_id": self.client_id,
                "code_verifier": self.verifier,
                **changes,
            },
        )

    async def refreshes(self, refresh_token: str, **changes: str) -> tuple[int, Json]:
        return await self.post(
            "/oauth2/token",
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "client_id": self.client_id,
                **changes,
            },
        )

    async def whoami(self, token: str) -> tuple[int, Json]:
        api = self.server.client(token)
        return await api.answer("GET", "/_matrix/client/v3/account/whoami")


def said(location: str) -> dict[str, str]:
    """What a redirect tells the client."""
    parts = urlsplit(location)
    return dict(parse_qsl(parts.fragment or parts.query, keep_blank_values=True))


async def logs_in(browser: Browser, user_id: str, password: str = PASSWORD) -> None:
    """Log in on the page that the browser shows, or on the log-in page."""
    if browser.page.title != "Log in":
        await browser.open("/account/login")
    await browser.submit(name=user_id, password=password)
