"""People log in through OpenID Connect providers: real ones, of somebody else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc import jwk

from homeserver.db.embedded import EmbeddedPostgres
from tests.conftest import dsn_of
from tests.support.api import eventually
from tests.support.app import PASSWORD, Running, configuration, running
from tests.support.browser import Browser
from tests.support.homeserver import free_port
from tests.support.oauth import ALLOW, App, logs_in, said
from tests.support.provider import Provider, Providers, Traveller

LOGIN = "/_matrix/client/v3/login"
HERE = "https://client.example.com/?hs=1"
PEOPLE: dict[str, dict[str, Any]] = {
    "ada-1": {
        "name": "Ada Lovelace",
        "preferred_username": "Ada",
        "email": "ada@example.org",
        "email_verified": True,
    },
    "bea-2": {"name": "Bea", "preferred_username": "hasan"},
    "cy-3": {"preferred_username": "cy", "groups": ["pupils"]},
    "dee-4": {
        "preferred_username": "dee",
        "groups": ["pupils", "staff"],
        "email": "dee@example.org",
        "email_verified": True,
    },
    "eve-5": {
        "preferred_username": "eve",
        "groups": ["staff"],
        "email": "ada@example.org",
        "email_verified": False,
    },
}


class Site:
    """This server and three providers."""

    def __init__(self, providers: Providers) -> None:
        self.company = Provider(providers, "company")
        self.school = Provider(providers, "school")
        self.club = Provider(providers, "club")
        self.server: Running


@pytest.fixture(scope="module")
async def site(
    postgres: EmbeddedPostgres,
    administrator: asyncpg.Connection,
    database_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    name = "sign_on_tests"
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {database_template}")
    home: Path = tmp_path_factory.mktemp("sign_on")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "key.pem").write_bytes(pem)
    public = jwk.ECKey.import_key(pem).as_dict(private=False)
    providers = await Providers.run()
    try:
        site, port = Site(providers), free_port()
        base = f"http://127.0.0.1:{port}"
        config = configuration(
            home,
            listen=[{"bind": "127.0.0.1", "port": port}],
            public_base_url=base,
            oidc_providers=[
                site.company.configuration(brand="gitlab"),
                site.school.configuration(
                    client_auth="client_secret_post",
                    required_claims=["groups=staff", "groups=heads"],
                    sign_up=False,
                    link_by_email=True,
                    user_info=True,
                    pkce=False,
                ),
                site.club.configuration(
                    client_auth="private_key_jwt",
                    private_key=str(home / "key.pem"),
                    choose_name=False,
                ),
            ],
        )
        picture = f"{site.company.issuer}/picture.png"
        ada = {**PEOPLE["ada-1"], "picture": picture}
        await site.company.starts(base, {**PEOPLE, "ada-1": ada})
        await site.school.starts(
            base, PEOPLE, token_endpoint_auth_method="client_secret_post"
        )
        await site.club.starts(
            base,
            PEOPLE,
            token_endpoint_auth_method="private_key_jwt",
            jwks={"keys": [{**public, "use": "sig", "alg": "ES256"}]},
        )
        async with running(config, dsn_of(postgres, name)) as site.server:
            yield site
    finally:
        await providers.ends()


@pytest.fixture
async def traveller(site: Site) -> AsyncIterator[Traveller]:
    async with Browser(site.server.base_url) as browser, Traveller(browser) as found:
        yield found


def page_of(provider: Provider, onward: str = "") -> str:
    return f"/account/provider/{provider.name}?next={quote(onward, safe='')}"


async def comes_from(
    traveller: Traveller, provider: Provider, sub: str, onward: str = "/account"
) -> None:
    await provider.logs_in_as(sub)
    await traveller.browser.open(page_of(provider, onward))
    await traveller.goes_on()


async def test_somebody_new_comes_through_a_client_and_leaves_elsewhere(
    site: Site, traveller: Traveller
) -> None:
    browser = traveller.browser
    app = await App(site.server).registers()
    await site.company.logs_in_as("ada-1")
    await browser.open(app.asks())
    assert browser.page.title == "Log in"
    assert "Continue with Company" in browser.page.text
    await browser.open(page_of(site.company, app.asks()))
    await traveller.goes_on()
    assert browser.page.title == "Welcome"
    assert "Ada Lovelace" in browser.page.text
    assert browser.page.forms()[0].fields["name"] == "ada"
    before = browser.cookie
    await browser.submit(name="Countess")
    assert browser.page.title == "Allow Letterbox?"
    assert browser.cookie != before
    await browser.submit(ALLOW)
    status, tokens = await app.trades(said(browser.page.location)["code"])
    assert status == 200
    user = site.server.client(tokens["access_token"])
    me = await user.get("/_matrix/client/v3/account/whoami")
    assert me["user_id"] == "@countess:hearth.test"
    profile = await user.get("/_matrix/client/v3/profile/@countess:hearth.test")
    assert profile["displayname"] == "Ada Lovelace"
    where = profile["avatar_url"].removeprefix("mxc://")
    url = f"{site.server.base_url}/_matrix/client/v1/media/download/{where}"
    token = {"Authorization": f"Bearer {tokens['access_token']}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=token) as picture,
    ):
        assert await picture.read() == b"a picture"
    addresses = await user.get("/_matrix/client/v3/account/3pid")
    assert [each["address"] for each in addresses["threepids"]] == ["ada@example.org"]

    # With another browser she is known, and nobody asks for a name again.
    async with Browser(site.server.base_url) as second, Traveller(second) as again:
        await comes_from(again, site.company, "ada-1")
        assert second.page.title == "Your account"
        # She logs out there, with the first: what began with that ends here.
        await traveller.logs_out(site.company)

        async def has_ended() -> bool:
            return (await app.whoami(tokens["access_token"]))[0] == 401

        await eventually(has_ended, "the device is logged out", pause=0.02)
        await browser.open("/account")
        assert browser.page.title == "Log in"
        await second.open("/account")
        assert second.page.title == "Your account"


async def test_a_client_that_knows_no_oauth_lets_its_user_choose(
    site: Site, traveller: Traveller
) -> None:
    browser, nobody = traveller.browser, site.server.nobody
    flows = (await nobody.get(LOGIN))["flows"]
    sso = next(flow for flow in flows if flow["type"] == "m.login.sso")
    assert sso["identity_providers"] == [
        {"id": "company", "name": "Company", "brand": "gitlab"},
        {"id": "school", "name": "School"},
        {"id": "club", "name": "Club"},
    ]
    await site.club.logs_in_as("bea-2")
    await browser.open(f"{LOGIN}/sso/redirect/club?redirectUrl={quote(HERE, safe='')}")
    assert browser.page.status == 302
    await browser.open(browser.page.location)
    await traveller.goes_on()
    # The club's people get the name that they have there.
    assert "name" not in browser.page.forms()[0].fields
    await browser.submit()
    assert browser.page.title == "Log in at client.example.com?"
    await browser.submit()
    token = said(browser.page.location)["loginToken"]
    reply = await nobody.post(LOGIN, {"type": "m.login.token", "token": token})
    assert reply["user_id"] == "@hasan:hearth.test"
    bea = site.server.user(reply)

    # Without a password she confirms what needs it where she came from.
    where = f"/_matrix/client/v3/devices/{bea.device_id}"
    status, asked = await bea.answer("DELETE", where, {})
    assert (status, asked["flows"]) == (401, [{"stages": ["m.login.sso"]}])
    auth = {"type": "m.login.sso", "session": asked["session"]}
    status, refused = await bea.answer("DELETE", where, {"auth": auth})
    assert (status, refused["errcode"]) == (401, "M_FORBIDDEN")
    page = (
        f"/_matrix/client/v3/auth/m.login.sso/fallback/web?session={asked['session']}"
    )
    await browser.open(page)
    assert "log out devices of @hasan:hearth.test" in browser.page.text
    link = browser.page.text.partition('class="button" href="')[2].partition('"')[0]
    link = link.replace("&amp;", "&")
    # A link that was on no page of ours has nobody confirm anything.
    await browser.open(link.rpartition("=")[0] + "=0")
    assert browser.page.status == 403
    # Nor does somebody else's account there.
    await site.club.logs_in_as("dee-4")
    async with Traveller(browser) as other:
        await browser.open(link)
        await other.goes_on()
    assert browser.page.status == 403
    await site.club.logs_in_as("bea-2")
    await browser.open(link)
    await traveller.goes_on()
    assert browser.page.title == "Done"
    auth = {"session": asked["session"]}
    assert await bea.call("DELETE", where, {"auth": auth}) == {}
    assert (await bea.answer("GET", "/_matrix/client/v3/sync"))[0] == 401


async def test_an_account_is_linked_by_its_own_password_only(
    site: Site, traveller: Traveller
) -> None:
    browser = traveller.browser
    hasan = await site.server.registers("oldtimer")
    await comes_from(traveller, site.company, "cy-3")
    assert browser.page.title == "Welcome"
    for user, password in ((hasan.user_id, "wrong"), ("@nobody", PASSWORD)):
        await browser.submit(form=1, user=user, password=password)
        assert browser.page.alert == "User name or password are wrong."
    # The name of an account that is there is not given again.
    await browser.submit(name="oldtimer")
    assert (browser.page.status, browser.page.title) == (400, "Welcome")
    await browser.submit(form=1, user="oldtimer", password=PASSWORD)
    assert browser.page.title == "Your account"
    assert hasan.user_id in browser.page.text
    # From now on both ways lead there, and the page is not asked twice.
    await browser.open("/account/welcome")
    assert browser.page.status == 404
    async with Browser(site.server.base_url) as second, Traveller(second) as again:
        await comes_from(again, site.company, "cy-3")
        assert hasan.user_id in second.page.text


async def test_only_those_come_in_whom_the_operator_wants(
    site: Site, traveller: Traveller
) -> None:
    browser, school = traveller.browser, site.school
    await comes_from(traveller, school, "cy-3")
    assert browser.page.alert == "Your account there may not be used here."
    async with Traveller(browser) as again:
        await comes_from(again, school, "eve-5")
    # Nobody may sign up, but who has an account may link it; an address that the
    # school has not confirmed is nobody's.
    assert browser.page.title == "Welcome"
    assert [form.fields["what"] for form in browser.page.forms()] == ["link"]
    form = {"what": "make", "name": "eve"}
    form["csrf"] = browser.page.forms()[0].fields["csrf"]
    await browser.send("/account/welcome", form, {})
    assert browser.page.alert == "Nobody can register on this server."
    # Who is trusted with it links by an address.
    await comes_from(traveller, site.company, "dee-4")
    await browser.submit(name="dee")
    async with Browser(browser.base_url) as second, Traveller(second) as third:
        await comes_from(third, school, "dee-4")
        assert second.page.title == "Your account"
        assert "@dee:hearth.test" in second.page.text
    async with Traveller(browser) as again:
        await comes_from(again, school, None)
        assert browser.page.alert == "The other side did not log you in."


async def test_an_answer_counts_once_and_for_who_asked(
    site: Site, traveller: Traveller
) -> None:
    browser = traveller.browser
    await site.company.logs_in_as("dee-4")
    strange = "This log-in was not begun here, or too long ago. Begin again."

    async def answer() -> str:
        await browser.open(page_of(site.company))
        return await traveller.answer_of(browser.page.location)

    # Session fixation, and log-in as somebody else: another browser's answer.
    where = await answer()
    async with Browser(site.server.base_url) as victim:
        await victim.open("/account/login")
        await victim.open(where)
        assert (victim.page.status, victim.page.alert) == (403, strange)
        await victim.open("/account")
        assert victim.page.title == "Log in"
    # A code that was used, or taken along from another answer.
    await browser.open(where)
    assert browser.page.title in ("Welcome", "Your account")
    await browser.open(where)
    assert (browser.page.status, browser.page.alert) == (403, strange)
    fresh = await answer()
    used = said(where)["code"]
    await browser.open(fresh.replace(said(fresh)["code"], used))
    assert browser.page.alert == "The log-in there did not work. Try again."
    # Mix-up: the answer of one provider where another's is awaited.
    for change in (
        lambda at: at.replace("/provider/company/", "/provider/club/"),
        lambda at: at.replace(quote(site.company.issuer, safe=""), "http%3A%2F%2Fevil"),
        lambda at: at.partition("&iss=")[0],
        lambda at: at + "&state=another",
    ):
        await browser.open(change(await answer()))
        assert browser.page.status in (400, 403), browser.page.url
    # Nobody is sent on to where a stranger wants.
    for onward in ("https://evil.example", "//evil.example", "/account/../evil", ""):
        await browser.open(page_of(site.company, onward))
        await traveller.goes_on()
        assert browser.page.url.startswith(site.server.base_url)


async def test_forms_count_only_from_our_pages(
    site: Site, traveller: Traveller
) -> None:
    await comes_from(traveller, site.club, "eve-5")
    browser = traveller.browser
    assert browser.page.title == "Welcome"
    for what in ("make", "link"):
        form = {"what": what, "name": "forged", "csrf": "0" * 64}
        await browser.send("/account/welcome", form, {})
        assert browser.page.status == 403
    status, _ = await site.server.nobody.answer(
        "GET", "/_matrix/client/v3/profile/@forged:hearth.test"
    )
    assert status == 404


async def test_keys_may_change_at_any_time(
    site: Site, traveller: Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.sign_on.keys._PAUSE_S", 0.0)
    await comes_from(traveller, site.company, "dee-4")
    await site.company.rotates("second")
    async with Browser(site.server.base_url) as second, Traveller(second) as again:
        await comes_from(again, site.company, "dee-4")
        assert second.page.title in ("Welcome", "Your account")


async def test_logout_tokens_are_checked(site: Site, traveller: Traveller) -> None:
    await comes_from(traveller, site.club, "ada-1")
    for token in ("", "x", "e30.e30.", "eyJhbGciOiJub25lIn0.e30."):
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{site.server.base_url}/account/provider/club/logout",
                data={"logout_token": token},
            ) as reply,
        ):
            assert reply.status == 400
            assert (await reply.json())["error"] == "invalid_request"
    status, _ = await site.server.nobody.answer(
        "POST", "/account/provider/nobody/logout"
    )
    assert status in (400, 404)


async def test_a_password_account_is_asked_for_its_password_too(site: Site) -> None:
    async with Browser(site.server.base_url) as browser:
        user = await site.server.registers()
        await logs_in(browser, user.user_id)
        status, asked = await user.answer(
            "DELETE", f"/_matrix/client/v3/devices/{user.device_id}", {}
        )
        assert (status, asked["flows"]) == (401, [{"stages": ["m.login.password"]}])
