"""E-mail addresses and phone numbers of accounts; identity servers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.support.api import Json
from tests.support.app import PASSWORD, Running, User
from tests.support.homeserver import HOST
from tests.support.post import Letterbox, letterbox, link_in, text_of

V3 = "/_matrix/client/v3"
THREEPID = V3 + "/account/3pid"
BOB = "bob@example.org"
Another = Callable[..., Awaitable[Running]]


@pytest.fixture
async def box() -> AsyncIterator[Letterbox]:
    async with letterbox() as found:
        yield found


async def with_mail(another: Another, box: Letterbox, **more: Any) -> Running:
    return await another(
        public_base_url="https://matrix.hearth.test",
        mail={
            "host": HOST,
            "port": box.port,
            "security": "none",
            "sender": "noreply@hearth.test",
        },
        **more,
    )


def ask(email: str = BOB, secret: str = "secret", attempt: int = 1, **more: Any) -> Any:
    return {
        "email": email,
        "client_secret": secret,
        "send_attempt": attempt,
        **more,
    }


def local(hearth: Running, link: str) -> str:
    assert link.startswith("https://matrix.hearth.test/account/confirm?")
    return hearth.base_url + link.removeprefix("https://matrix.hearth.test")


async def confirms(hearth: Running, link: str, **more: Any) -> tuple[int, str, str]:
    """Do what a person does in a browser: open the link, press the button.

    The status, the text, and where the browser is sent on.
    """
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        async with browser.get(local(hearth, link), **more) as page:
            text = await page.text()
            if page.status != 200:
                return page.status, text, ""
            # A server that speaks https keeps cookies from plain http.
            cookie = page.headers["Set-Cookie"].partition(";")[0]
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
        async with browser.post(
            hearth.base_url + "/account/confirm",
            data=fields,
            headers={"Cookie": cookie, **more.get("headers", {})},
            allow_redirects=False,
        ) as done:
            return done.status, await done.text(), done.headers.get("Location", "")


def with_password(user: User, **more: Any) -> Json:
    identifier = {"type": "m.id.user", "user": user.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    return {"auth": auth, **more}


async def adds(hearth: Running, box: Letterbox, user: User, email: str = BOB) -> None:
    reply = await hearth.nobody.post(THREEPID + "/email/requestToken", ask(email))
    status, _, _ = await confirms(hearth, link_in(await box.next()))
    assert status == 200
    proof = {"sid": reply["sid"], "client_secret": "secret"}
    await user.post(THREEPID + "/add", with_password(user, **proof))


async def test_an_address_is_confirmed_and_added(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    bob = await hearth.registers("bob")
    reply = await hearth.nobody.post(
        THREEPID + "/email/requestToken", ask(" Bob@Example.ORG ")
    )
    proof = {"sid": reply["sid"], "client_secret": "secret"}
    # Not before it is confirmed.
    status, early = await bob.answer(
        "POST", THREEPID + "/add", with_password(bob, **proof)
    )
    assert (status, early["errcode"]) == (400, "M_THREEPID_AUTH_FAILED")
    status, text, _ = await confirms(hearth, link_in(await box.next()))
    assert (status, "The address is confirmed" in text) == (200, True)
    # Not without the password, nor with another secret.
    status, asked = await bob.answer("POST", THREEPID + "/add", proof)
    assert (status, asked["flows"]) == (401, [{"stages": ["m.login.password"]}])
    other = {**proof, "client_secret": "other"}
    status, _ = await bob.answer("POST", THREEPID + "/add", with_password(bob, **other))
    assert status == 400
    await bob.post(THREEPID + "/add", with_password(bob, **proof))
    found = (await bob.get(THREEPID))["threepids"]
    assert [(each["medium"], each["address"]) for each in found] == [("email", BOB)]
    # The proof is used up.
    status, _ = await bob.answer("POST", THREEPID + "/add", with_password(bob, **proof))
    assert status == 400
    reply = await bob.post(THREEPID + "/delete", {"medium": "email", "address": BOB})
    assert reply == {"id_server_unbind_result": "no-support"}
    assert (await bob.get(THREEPID))["threepids"] == []


async def test_who_has_an_address_logs_in_with_it(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    bob = await hearth.registers("bob")
    await adds(hearth, box, bob)
    for named in (
        {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": BOB}},
        {
            "identifier": {
                "type": "m.id.thirdparty",
                "medium": "email",
                "address": "BOB@EXAMPLE.org",
            }
        },
        {"medium": "email", "address": BOB},
    ):
        body = {"type": "m.login.password", "password": PASSWORD, **named}
        reply = await hearth.nobody.post(V3 + "/login", body)
        assert reply["user_id"] == bob.user_id
        body["password"] = "wrong"
        wrong = await hearth.nobody.answer("POST", V3 + "/login", body)
        assert (wrong[0], wrong[1]["errcode"]) == (403, "M_FORBIDDEN")
    # Who has none is refused with the same words.
    body["identifier"] = {
        "type": "m.id.thirdparty",
        "medium": "email",
        "address": "eve@example.org",
    }
    assert await hearth.nobody.answer("POST", V3 + "/login", body) == wrong
    await bob.post(V3 + "/account/deactivate", with_password(bob))
    body = {"type": "m.login.password", "password": PASSWORD, **named}
    assert (await hearth.nobody.answer("POST", V3 + "/login", body))[0] == 403


async def test_only_its_owner_learns_that_an_address_is_known(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    bob = await hearth.registers("bob")
    await adds(hearth, box, bob)
    for where in ("/account/3pid", "/register", "/account/password"):
        for email in (BOB, "eve@example.org"):
            reply = await hearth.nobody.post(
                f"{V3}{where}/email/requestToken", ask(email, secret=where[1:4])
            )
            assert set(reply) == {"sid"}
    come = {
        (mail["To"], mail["Subject"]): mail
        for mail in [await box.next() for _ in range(6)]
    }
    taken = come[(BOB, "You have an account at hearth.test")]
    assert bob.user_id in text_of(taken)
    assert "https://" not in text_of(taken)
    none = come[("eve@example.org", "No account at hearth.test has this address")]
    assert "https://" not in text_of(none)
    link_in(come[(BOB, "Choose a new password for hearth.test")])


async def test_everybody_learns_it_where_the_configuration_says_so(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box, threepids={"tell_if_known": True})
    bob = await hearth.registers("bob")
    await adds(hearth, box, bob)
    for where, email, errcode in (
        ("/account/3pid", BOB, "M_THREEPID_IN_USE"),
        ("/register", BOB, "M_THREEPID_IN_USE"),
        ("/account/password", "eve@example.org", "M_THREEPID_NOT_FOUND"),
    ):
        status, body = await hearth.nobody.answer(
            "POST", f"{V3}{where}/email/requestToken", ask(email, secret="s")
        )
        assert (status, body["errcode"]) == (400, errcode)


async def test_a_link_is_sent_again_only_for_a_new_attempt(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    where = THREEPID + "/email/requestToken"
    first = await hearth.nobody.post(where, ask(attempt=1))
    assert await hearth.nobody.post(where, ask(attempt=1)) == first
    assert await hearth.nobody.post(where, ask(attempt=2)) == first
    other = await hearth.nobody.post(where, ask(secret="other"))
    assert other != first
    links = [link_in(await box.next()) for _ in range(3)]
    assert box.is_empty
    # The newer link is the one that counts.
    assert (await confirms(hearth, links[0]))[0] == 403
    assert (await confirms(hearth, links[1]))[0] == 200


async def test_opening_a_link_confirms_nothing(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(another, box)
    await hearth.nobody.post(THREEPID + "/email/requestToken", ask())
    link = local(hearth, link_in(await box.next()))
    async with aiohttp.ClientSession() as scanner, scanner.get(link) as page:
        assert page.status == 200
        assert page.headers["Cache-Control"] == "no-store"
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', await page.text()))
    # Nor does a form that another site sends.
    async with aiohttp.ClientSession() as eve:
        for cookie in ({}, {"Cookie": "__Host-hearth=" + "x" * 43}):
            async with eve.post(
                hearth.base_url + "/account/confirm", data=fields, headers=cookie
            ) as page:
                assert page.status == 403
    async with hearth.ctx.db.read() as tx:
        assert (
            await tx.fetchval(
                "SELECT count(*) FROM threepid_sessions WHERE validated_at IS NOT NULL"
            )
            == 0
        )


async def test_people_are_sent_on_to_hosts_that_are_allowed(
    another: Another, box: Letterbox
) -> None:
    hearth = await with_mail(
        another, box, threepids={"next_link_hosts": ["app.hearth.test"]}
    )
    where = THREEPID + "/email/requestToken"
    good, other = "https://app.hearth.test/#/done", "https://evil.test/<x>"
    await hearth.nobody.post(where, ask(secret="a", next_link=good))
    link = link_in(await box.next())
    assert (await confirms(hearth, link))[::2] == (303, good)
    await hearth.nobody.post(where, ask(secret="b", next_link=other))
    status, text, location = await confirms(
        hearth, link_in(await box.next()), headers={"Accept-Language": "de"}
    )
    assert (status, location) == (200, "")
    assert 'href="https://evil.test/&lt;x&gt;"' in text
    assert "Weiter zu evil.test" in text


@pytest.mark.parametrize(
    "body",
    [
        ask(email="nonsense"),
        ask(email="a@b\r\nBcc: eve@x.org"),
        ask(email="a@" + "b" * 300),
        ask(secret=""),
        ask(secret="with space"),
        ask(secret="x" * 256),
        ask(attempt=-1),
        ask(attempt=2**53),
        ask(attempt="1"),
        ask(next_link="javascript:alert(1)"),
        ask(next_link="https://"),
        ask(next_link="https://x/" + "y" * 3000),
        {},
    ],
)
async def test_a_bad_request_sends_nothing(
    another: Another, box: Letterbox, body: Json
) -> None:
    hearth = await with_mail(another, box)
    status, reply = await hearth.nobody.answer(
        "POST", THREEPID + "/email/requestToken", body
    )
    assert (status, reply["errcode"]) in [
        (400, "M_INVALID_PARAM"),
        (400, "M_BAD_JSON"),
    ]
    async with hearth.ctx.db.read() as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_server_that_sends_nothing_says_so(hearth: Running) -> None:
    phone = {"country": "DE", "phone_number": "0170 1234567"}
    for where in ("/account/3pid", "/register", "/account/password"):
        for medium, more in (("email", {"email": BOB}), ("msisdn", phone)):
            status, body = await hearth.nobody.answer(
                "POST",
                f"{V3}{where}/{medium}/requestToken",
                {"client_secret": "s", "send_attempt": 1, **more},
            )
            assert status == 400
            assert body["errcode"] == "M_THREEPID_MEDIUM_NOT_SUPPORTED"


async def test_one_mailbox_gets_few_letters(another: Another, box: Letterbox) -> None:
    hearth = await with_mail(another, box, limits={"enabled": True})
    where = THREEPID + "/email/requestToken"
    for number in range(5):
        await hearth.nobody.post(where, ask(secret=f"s{number}"))
    status, body = await hearth.nobody.answer("POST", where, ask(secret="more"))
    assert (status, body["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    # Others get theirs.
    await hearth.nobody.post(where, ask("eve@example.org"))


# ── Phones ───────────────────────────────────────────────────────────────────────────


async def code_of(hearth: Running) -> str:
    async with hearth.ctx.db.read() as tx:
        text = await tx.fetchval(
            "SELECT plain FROM outbox ORDER BY message_id DESC LIMIT 1"
        )
    return str(text).split()[0]


async def test_a_phone_number_is_confirmed_with_a_code(another: Another) -> None:
    # The gateway is away, so that the message stays where the test can read it.
    hearth = await another(sms={"url": f"http://{HOST}:9/"})
    bob = await hearth.registers("bob")
    phone = {"country": "DE", "phone_number": "0170 1234567"}
    body = {"client_secret": "secret", "send_attempt": 1, **phone}
    reply = await hearth.nobody.post(THREEPID + "/msisdn/requestToken", body)
    submit = reply["submit_url"].removeprefix(hearth.base_url)
    proof = {"sid": reply["sid"], "client_secret": "secret"}
    code = await code_of(hearth)
    wrong = f"{(int(code) + 1) % 10**6:06}"
    assert await hearth.nobody.post(submit, {**proof, "token": wrong}) == {
        "success": False
    }
    stranger = {**proof, "token": code, "client_secret": "other"}
    assert await hearth.nobody.post(submit, stranger) == {"success": False}
    assert await hearth.nobody.post(submit, {**proof, "token": code}) == {
        "success": True
    }
    await bob.post(THREEPID + "/add", with_password(bob, **proof))
    found = (await bob.get(THREEPID))["threepids"]
    assert [each["address"] for each in found] == ["491701234567"]
    for identifier in (
        {"type": "m.id.phone", "country": "DE", "phone": "0170/1234567"},
        {"type": "m.id.phone", "country": "GB", "phone": "+49 170 1234567"},
        {"type": "m.id.thirdparty", "medium": "msisdn", "address": "491701234567"},
    ):
        reply = await hearth.nobody.post(
            V3 + "/login",
            {
                "type": "m.login.password",
                "identifier": identifier,
                "password": PASSWORD,
            },
        )
        assert reply["user_id"] == bob.user_id


async def test_a_code_cannot_be_guessed(another: Another) -> None:
    hearth = await another(sms={"url": f"http://{HOST}:9/"})
    phone = {"country": "DE", "phone_number": "0170 1234567"}
    body = {"client_secret": "secret", "send_attempt": 1, **phone}
    reply = await hearth.nobody.post(THREEPID + "/msisdn/requestToken", body)
    submit = reply["submit_url"].removeprefix(hearth.base_url)
    proof = {"sid": reply["sid"], "client_secret": "secret"}
    code = await code_of(hearth)
    for number in range(1, 6):
        wrong = f"{(int(code) + number) % 10**6:06}"
        await hearth.nobody.post(submit, {**proof, "token": wrong})
    assert await hearth.nobody.post(submit, {**proof, "token": code}) == {
        "success": False
    }


@pytest.mark.parametrize(
    ("country", "number"), [("DE", "1"), ("DE", "x"), ("XX", "0170"), ("DE", "1" * 50)]
)
async def test_what_is_no_number_is_refused(
    another: Another, country: str, number: str
) -> None:
    hearth = await another(sms={"url": f"http://{HOST}:9/"})
    body = {"client_secret": "s", "send_attempt": 1}
    status, reply = await hearth.nobody.answer(
        "POST",
        THREEPID + "/msisdn/requestToken",
        {**body, "country": country, "phone_number": number},
    )
    assert (status, reply["errcode"]) == (400, "M_INVALID_PARAM")
