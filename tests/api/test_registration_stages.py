"""What a server may ask of who registers, in an app and on the fallback pages."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.api.test_threepids import ask, confirms, with_mail
from tests.support.api import Json
from tests.support.app import PASSWORD, Running
from tests.support.homeserver import HOST
from tests.support.post import Letterbox, letterbox, link_in

V3 = "/_matrix/client/v3"
REGISTER = V3 + "/register"
Another = Callable[..., Awaitable[Running]]
TERMS = {"terms_url": "https://hearth.test/terms", "terms_version": "2"}


@pytest.fixture
async def box() -> AsyncIterator[Letterbox]:
    async with letterbox() as found:
        yield found


class Maker:
    """A captcha's maker, who takes one answer as right."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.is_away = False

    async def verify(self, request: web.Request) -> web.Response:
        if self.is_away:
            return web.Response(status=500, text="oops")
        form = dict(await request.post())
        self.asked.append(form)
        return web.json_response({"success": form["response"] == "a cat"})


@pytest.fixture
async def maker() -> AsyncIterator[Maker]:
    found = Maker()
    app = web.Application()
    app.router.add_post("/verify", found.verify)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    found.url = f"http://{HOST}:{runner.addresses[0][1]}/verify"
    yield found
    await runner.cleanup()


def captcha(maker: Maker, kind: str = "recaptcha") -> Json:
    return {
        "kind": kind,
        "site_key": "public",
        "secret": "private",
        "verify_url": maker.url,
    }


async def tries(
    hearth: Running, name: str, auth: Json | None, session: str | None = None
) -> tuple[int, Json]:
    body: Json = {"username": name, "password": PASSWORD}
    if auth is not None:
        body["auth"] = {**auth, **({"session": session} if session else {})}
    return await hearth.nobody.answer("POST", REGISTER, body)


async def test_terms_and_a_captcha_come_one_after_the_other(
    another: Another, maker: Maker
) -> None:
    hearth = await another(
        registration={"mode": "open", **TERMS}, captcha=captcha(maker)
    )
    _, asked = await tries(hearth, "bob", None)
    assert asked["flows"] == [{"stages": ["m.login.recaptcha", "m.login.terms"]}]
    assert asked["params"]["m.login.recaptcha"] == {"public_key": "public"}
    policy = asked["params"]["m.login.terms"]["policies"]["terms_of_service"]
    assert policy["version"] == "2"
    assert policy["en"] == {
        "name": "Terms of service",
        "url": "https://hearth.test/terms",
    }
    session = asked["session"]
    solving = {"type": "m.login.recaptcha", "response": "a dog"}
    status, wrong = await tries(hearth, "bob", solving, session)
    assert (status, wrong["errcode"]) == (401, "M_FORBIDDEN")
    solving["response"] = "a cat"
    # Who cannot ask does not refuse for good.
    maker.is_away = True
    assert (await tries(hearth, "bob", solving, session))[0] == 503
    maker.is_away = False
    _, then = await tries(hearth, "bob", solving, session)
    assert then["completed"] == ["m.login.recaptcha"]
    assert maker.asked[-1] == {"secret": "private", "response": "a cat"}
    status, _ = await tries(hearth, "bob", {"type": "m.login.terms"}, session)
    assert status == 200
    async with hearth.ctx.db.read() as tx:
        assert await tx.fetchval("SELECT terms FROM users") == "2"


async def test_an_address_may_be_given_at_registration(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    _, asked = await tries(hearth, "bob", None)
    assert asked["flows"] == [
        {"stages": ["m.login.dummy"]},
        {"stages": ["m.login.email.identity"]},
    ]
    reply = await hearth.nobody.post(REGISTER + "/email/requestToken", ask())
    assert (await confirms(hearth, link_in(await box.next())))[0] == 200
    proof = {
        "type": "m.login.email.identity",
        "threepid_creds": {"sid": reply["sid"], "client_secret": "secret"},
    }
    status, made = await tries(hearth, "bob", proof, asked["session"])
    assert status == 200
    found = await hearth.user(made).get(V3 + "/account/3pid")
    assert [each["address"] for each in found["threepids"]] == ["bob@example.org"]


async def test_an_address_can_be_required(another: Another, box: Letterbox) -> None:
    hearth = await with_mail(
        another, box, registration={"mode": "open", "require_email": True}
    )
    status, asked = await tries(hearth, "bob", {"type": "m.login.dummy"})
    assert status == 401
    assert asked["flows"] == [{"stages": ["m.login.email.identity"]}]


async def test_an_account_waits_for_approval(another: Another) -> None:
    hearth = await another(registration={"mode": "approval", "shared_secret": "s"})
    status, refused = await tries(hearth, "bob", {"type": "m.login.dummy"})
    assert status == 403
    assert refused["errcode"] == "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL"
    assert refused["approval_notice_medium"] == "org.matrix.msc3866.none"
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "bob"},
        "password": PASSWORD,
    }
    status, waiting = await hearth.nobody.answer("POST", V3 + "/login", login)
    assert (status, waiting["errcode"]) == (403, refused["errcode"])
    # Who does not know the password does not learn that the account waits.
    login["password"] = "wrong"
    status, body = await hearth.nobody.answer("POST", V3 + "/login", login)
    assert (status, body["errcode"]) == (403, "M_FORBIDDEN")
    assert (await tries(hearth, "bob", {"type": "m.login.dummy"}))[1]["errcode"] == (
        "M_USER_IN_USE"
    )


async def test_there_may_be_a_limit_of_users(another: Another) -> None:
    hearth = await another(registration={"mode": "open", "max_users": 1})
    dummy = {"type": "m.login.dummy"}
    assert (await tries(hearth, "bob", dummy))[0] == 200
    status, body = await tries(hearth, "eve", dummy)
    assert (status, body["errcode"]) == (403, "M_RESOURCE_LIMIT_EXCEEDED")


# ── Fallback pages ───────────────────────────────────────────────────────────────────


class Person:
    """Somebody with a browser that runs no scripts."""

    def __init__(self, hearth: Running, browser: aiohttp.ClientSession) -> None:
        self.base_url = hearth.base_url
        self.browser = browser
        self.text = ""
        self.policy = ""

    def where(self, kind: str, session: str) -> str:
        return f"{self.base_url}{V3}/auth/{kind}/fallback/web?session={session}"

    async def opens(self, kind: str, session: str) -> int:
        async with self.browser.get(self.where(kind, session)) as page:
            self.text = await page.text()
            self.policy = page.headers.get("Content-Security-Policy", "")
            return page.status

    async def sends(self, kind: str, session: str, **fields: str) -> int:
        hidden = dict(
            re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.text)
        )
        async with self.browser.post(
            self.where(kind, session), data={**hidden, **fields}
        ) as page:
            self.text = await page.text()
            self.policy = page.headers.get("Content-Security-Policy", "")
            return page.status


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as found:
        yield found


async def test_stages_are_passed_on_pages(
    another: Another, maker: Maker, browser: aiohttp.ClientSession
) -> None:
    hearth = await another(
        registration={"mode": "open", **TERMS}, captcha=captcha(maker, "turnstile")
    )
    session = (await tries(hearth, "bob", None))[1]["session"]
    person = Person(hearth, browser)
    # Not before its turn.
    assert await person.opens("m.login.terms", session) == 200
    assert 'href="https://hearth.test/terms"' in person.text
    assert await person.sends("m.login.terms", session) == 403
    assert await person.opens("m.login.recaptcha", session) == 200
    assert 'class="cf-turnstile" data-sitekey="public"' in person.text
    assert "script-src https://challenges.cloudflare.com" in person.policy
    wrong = {"cf-turnstile-response": "a dog"}
    assert await person.sends("m.login.recaptcha", session, **wrong) == 403
    assert "not solved" in person.text
    right = {"cf-turnstile-response": "a cat"}
    assert await person.sends("m.login.recaptcha", session, **right) == 200
    assert "window.onAuthDone" in person.text
    assert "script-src 'sha256-" in person.policy
    assert await person.opens("m.login.terms", session) == 200
    assert await person.sends("m.login.terms", session) == 200
    # The client sends no more than the session.
    status, made = await tries(hearth, "bob", {"session": session})
    assert (status, made.get("user_id")) == (200, "@bob:hearth.test")
    assert await person.opens("m.login.terms", session) == 404


async def test_an_address_is_confirmed_on_pages(
    another: Another, box: Letterbox, browser: aiohttp.ClientSession
) -> None:
    hearth = await with_mail(
        another, box, registration={"mode": "open", "require_email": True}
    )
    # Over plain http a browser would not keep the cookie of a server with https.
    browser.headers["Cookie"] = "__Host-hearth=" + "c" * 43
    session = (await tries(hearth, "bob", None))[1]["session"]
    person, stage = Person(hearth, browser), "m.login.email.identity"
    assert await person.opens(stage, session) == 200
    assert await person.sends(stage, session, email="nonsense") == 400
    assert await person.sends(stage, session, email="bob@example.org") == 200
    assert "on its way to bob@example.org" in person.text
    assert await person.sends(stage, session) == 401
    assert "not confirmed yet" in person.text
    assert (await confirms(hearth, link_in(await box.next())))[0] == 200
    assert await person.sends(stage, session) == 200
    assert (await tries(hearth, "bob", {"session": session}))[0] == 200


async def test_a_password_is_shown_on_a_page(
    hearth: Running, browser: aiohttp.ClientSession
) -> None:
    bob = await hearth.registers()
    where = f"{V3}/devices/{bob.device_id}"
    _, asked = await bob.answer("DELETE", where, {})
    session, stage = asked["session"], "m.login.password"
    person = Person(hearth, browser)
    assert await person.opens(stage, session) == 200
    assert await person.sends(stage, session, password="wrong") == 403
    # A form that did not come from the page is none.
    good = person.text
    person.text = good.replace('name="csrf" value="', 'name="csrf" value="x')
    assert await person.sends(stage, session, password=PASSWORD) == 403
    person.text = good
    assert await person.sends(stage, session, password=PASSWORD) == 200
    status, _ = await bob.answer("DELETE", where, {"auth": {"session": session}})
    assert status == 200


async def test_a_token_is_shown_on_a_page(
    another: Another, browser: aiohttp.ClientSession
) -> None:
    hearth = await another(registration={"mode": "token"})
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("INSERT INTO registration_tokens (token) VALUES ('good')")
    session = (await tries(hearth, "bob", None))[1]["session"]
    person, stage = Person(hearth, browser), "m.login.registration_token"
    assert await person.opens(stage, session) == 200
    assert await person.sends(stage, session, token="bad") == 403
    assert await person.sends(stage, session, token="good") == 200
    assert (await tries(hearth, "bob", {"session": session}))[0] == 200
    async with hearth.ctx.db.read() as tx:
        row = await tx.fetchrow("SELECT pending, completed FROM registration_tokens")
    assert tuple(row) == (0, 1)


@pytest.mark.parametrize("session", ["", "unknown", "%00"])
@pytest.mark.parametrize("kind", ["m.login.password", "m.login.sso", "x"])
async def test_a_page_without_a_session_says_so(
    hearth: Running, browser: aiohttp.ClientSession, session: str, kind: str
) -> None:
    person = Person(hearth, browser)
    assert await person.opens(kind, session) == 404
    assert "run out" in person.text
