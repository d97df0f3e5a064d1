"""People log in through CAS and SAML."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from homeserver.sign_on.cas import read_answer
from homeserver.sign_on.identity import NotIdentified
from tests.support.app import Running
from tests.support.browser import Browser
from tests.support.homeserver import free_port

Start = Callable[..., Awaitable[Running]]
CAS = '<cas:serviceResponse xmlns:cas="http://www.yale.edu/tp/cas">{}</cas:serviceResponse>'
YES = (
    "<cas:authenticationSuccess><cas:user>{}</cas:user><cas:attributes>"
    "<cas:displayName>Ada L.</cas:displayName><cas:mail>ada@example.org</cas:mail>"
    "<cas:affiliation>{}</cas:affiliation><cas:affiliation>member</cas:affiliation>"
    "</cas:attributes></cas:authenticationSuccess>"
)
NO = '<cas:authenticationFailure code="INVALID_TICKET">no</cas:authenticationFailure>'


class CasServer:
    """It gives tickets, each good once and for the service that it was asked for."""

    def __init__(self) -> None:
        self.tickets: dict[str, tuple[str, str, str]] = {}
        self.renewed: list[str] = []

    def gives(self, where: str, user: str, affiliation: str = "staff") -> str:
        """The address that it sends the browser back to."""
        service = parse_qs(urlsplit(where).query)["service"][0]
        ticket = f"ST-{len(self.tickets)}"
        self.tickets[ticket] = (service, user, affiliation)
        return f"{service}&ticket={ticket}"

    async def validates(self, request: web.Request) -> web.Response:
        found = self.tickets.get(request.query.get("ticket", ""))
        body = NO
        if found is not None and found[0] == request.query.get("service"):
            self.tickets[request.query["ticket"]] = ("", "", "")
            self.renewed.append(request.query.get("renew", ""))
            body = YES.format(found[1], found[2])
        return web.Response(text=CAS.format(body), content_type="application/xml")


@pytest.fixture
async def cas() -> AsyncIterator[tuple[CasServer, str]]:
    server, app, port = CasServer(), web.Application(), free_port()
    app.router.add_get("/cas/p3/serviceValidate", server.validates)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield server, f"http://127.0.0.1:{port}/cas"
    await runner.cleanup()


def place() -> dict[str, object]:
    port = free_port()
    return {
        "listen": [{"bind": "127.0.0.1", "port": port}],
        "public_base_url": f"http://127.0.0.1:{port}",
    }


async def test_a_ticket_lets_somebody_in(
    another: Start, cas: tuple[CasServer, str]
) -> None:
    campus, url = cas
    server = await another(
        **place(),
        cas_providers=[
            {"id": "campus", "url": url, "required_attributes": ["affiliation=staff"]}
        ],
    )
    async with Browser(server.base_url) as browser:
        await browser.open("/account/provider/campus")
        assert browser.page.location.startswith(f"{url}/login?service=")
        back = campus.gives(browser.page.location, "Ada@campus")
        await browser.open(back)
        assert browser.page.title == "Welcome"
        assert browser.page.forms()[0].fields["name"] == "ada"
        await browser.submit()
        assert "@ada:hearth.test" in browser.page.text
        # A ticket is good once, for the browser that was sent for it.
        await browser.open(back)
        assert browser.page.status == 403
        await browser.open("/account/provider/campus")
        stolen = campus.gives(browser.page.location, "bob")
        async with Browser(server.base_url) as thief:
            await thief.open("/account/login")
            await thief.open(stolen)
            assert thief.page.status == 403
        await browser.open("/account/provider/campus")
        other = browser.page.location
        ticket = stolen.rpartition("=")[2]
        again = campus.gives(other, "bob").rpartition("=")[0]
        await browser.open(f"{again}={ticket}")
        assert browser.page.alert == "The log-in there did not work. Try again."
        await browser.open("/account/provider/campus")
        await browser.open(campus.gives(browser.page.location, "eve", "guest"))
        assert browser.page.alert == "Your account there may not be used here."


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<a/>",
        CAS.format(""),
        CAS.format(NO),
        CAS.format(YES.format("ada", "x") + NO),
        CAS.format("<cas:authenticationSuccess/>"),
        CAS.format(YES.format(" ", "x")),
        CAS.format(YES.format("a" * 256, "x")),
        '<!DOCTYPE a [<!ENTITY b "c">]>' + CAS.format(YES.format("ada", "x")),
    ],
)
def test_what_is_no_yes_is_a_no(body: str) -> None:
    with pytest.raises(NotIdentified):
        read_answer(body.encode())


@pytest.mark.skipif(shutil.which("xmlsec1") is None, reason="xmlsec1 is not there")
async def test_an_assertion_lets_somebody_in(another: Start, tmp_path: Path) -> None:
    saml = pytest.importorskip("tests.support.saml")
    provider = saml.IdentityProvider(tmp_path / "idp")
    server = await another(
        **place(),
        saml_providers=[
            {
                "id": "campus",
                "metadata_file": str(provider.metadata_file),
                "required_attributes": ["eduPersonAffiliation=staff"],
            }
        ],
    )
    page = f"{server.base_url}/account/provider/campus"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{page}/metadata") as told,
    ):
        assert told.status == 200
        provider.knows(await told.text())
    ada = {
        "uid": ["Ada"],
        "displayName": ["Ada L."],
        "mail": ["ada@example.org"],
        "eduPersonAffiliation": ["staff"],
    }
    async with Browser(server.base_url) as browser:

        async def comes(*, sign: bool = True, **attributes: list[str]) -> None:
            await browser.open("/account/provider/campus")
            where, form = provider.answers(
                browser.page.location, "a-1", sign=sign, **attributes
            )
            # Browsers send no cookie along with a form of another site.
            async with Browser(server.base_url) as without:
                without._session.cookie_jar.clear()
                async with without._session.post(
                    where, data=form, allow_redirects=False
                ) as sent:
                    assert sent.status == 303
                    onward = sent.headers["Location"]
                # Whoever else has the address is nobody by it.
                await without.open("/account/login")
            await browser.open(onward)

        await comes(**ada)
        assert browser.page.title == "Welcome"
        await browser.submit()
        assert "@ada:hearth.test" in browser.page.text
        await comes(**ada)
        assert browser.page.title == "Your account"
        await comes(sign=False, **ada)
        assert browser.page.alert == "The log-in there did not work. Try again."
        await comes(**{**ada, "eduPersonAffiliation": ["guest"]})
        assert browser.page.alert == "Your account there may not be used here."
        # The answer to one request is none to another, and a form counts once.
        await browser.open("/account/provider/campus")
        where, old = provider.answers(browser.page.location, "a-1", **ada)
        await browser.open("/account/provider/campus")
        _, new = provider.answers(browser.page.location, "a-1", **ada)
        mixed = {**new, "SAMLResponse": old["SAMLResponse"]}
        await browser.send(where, mixed, {})
        assert browser.page.alert == "The log-in there did not work. Try again."
        await browser.send(where, new, {})
        assert browser.page.status == 403
