"""OpenID Connect providers, and people who log in there with a browser.

They are `oidc-provider` from npm under Node.js, in a process that the tests give
orders to; it is installed in `.work/provider`, once.
"""

import asyncio
import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from tests.support.browser import Browser
from tests.support.homeserver import free_port, repository
from tests.support.javascript import SOURCE, environment, node, npm

_SOURCE: Final = SOURCE / "provider"
_ANSWER_SECONDS: Final = 30


def _install() -> Path:
    home = repository() / ".work" / "provider"
    home.mkdir(parents=True, exist_ok=True)
    wanted = (_SOURCE / "package-lock.json").read_text()
    ready = home / "installed.txt"
    with (home / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ready.exists() and ready.read_text() == wanted):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_SOURCE / name, home / name)
            ci = [*npm(), "ci", "--no-audit", "--no-fund"]
            subprocess.run(
                ci, cwd=home, check=True, stdout=sys.stderr, env=environment()
            )
            ready.write_text(wanted)
        # In one piece, for another run may just be starting it.
        new = home / "provider.mjs.new"
        shutil.copy(_SOURCE / "provider.mjs", new)
        new.replace(home / "provider.mjs")
    return home


class Providers:
    """The process with all of them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = 0

    @classmethod
    async def run(cls) -> Self:
        process = await asyncio.create_subprocess_exec(
            str(node()),
            "provider.mjs",
            cwd=await asyncio.to_thread(_install),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return cls(process)

    async def does(self, what: str, **given: Any) -> Any:
        """Give an order and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders += 1
        order = {"id": self._orders, "do": what, **given}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    async def ends(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Provider:
    """One provider, which this server is a client of."""

    def __init__(self, providers: Providers, name: str) -> None:
        self._providers = providers
        self.name = name
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"

    async def starts(
        self, base_url: str, accounts: dict[str, Any], **client: Any
    ) -> None:
        """Serve; `client` is how this server is registered there."""
        here = f"{base_url}/account/provider/{self.name}"
        await self._providers.does(
            "start",
            name=self.name,
            port=self.port,
            accounts=accounts,
            clients=[
                {
                    "client_id": "hearth",
                    "client_secret": "a secret of two",
                    "redirect_uris": [f"{here}/callback"],
                    "backchannel_logout_uri": f"{here}/logout",
                    "backchannel_logout_session_required": True,
                    **client,
                }
            ],
        )

    async def logs_in_as(self, sub: str | None) -> None:
        """Whoever comes there next is this person; None: is refused."""
        await self._providers.does("person", name=self.name, sub=sub)

    async def rotates(self, kid: str) -> None:
        await self._providers.does("rotate", name=self.name, kid=kid)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """The section of it in our configuration."""
        return {
            "id": self.name,
            "name": self.name.capitalize(),
            "issuer": self.issuer,
            "client_id": "hearth",
            "client_secret": "a secret of two",
            **more,
        }


class Traveller:
    """A browser that also goes to providers, where it has cookies of its own."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    async def __aenter__(self) -> Self:
        jar = aiohttp.CookieJar(unsafe=True)
        self._session = aiohttp.ClientSession(cookie_jar=jar)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def answer_of(self, where: str) -> str:
        """The address that the provider sends the browser back to."""
        for _ in range(10):
            async with self._session.get(
                aiohttp.client.URL(where, encoded=True), allow_redirects=False
            ) as reply:
                text = await reply.text()
                location = reply.headers.get("Location")
            assert location, f"{where} answers {reply.status}: {text[:500]}"
            url = aiohttp.client.URL(where).join(
                aiohttp.client.URL(location, encoded=True)
            )
            where = str(url)
            if where.startswith(self.browser.base_url):
                return where
        raise AssertionError("the provider sends the browser in circles")

    async def goes_on(self) -> None:
        """From where we have sent the browser, to the provider and back to us."""
        await self.browser.open(await self.answer_of(self.browser.page.location))

    async def logs_out(self, provider: Provider) -> None:
        """Log out at the provider itself."""
        async with self._session.get(f"{provider.issuer}/session/end") as reply:
            text = await reply.text()
        xsrf = text.partition('name="xsrf" value="')[2].partition('"')[0]
        assert xsrf, text[:500]
        async with self._session.post(
            f"{provider.issuer}/session/end/confirm",
            data={"xsrf": xsrf, "logout": "yes"},
            allow_redirects=False,
        ) as reply:
            assert reply.status in (302, 303), await reply.text()
