"""Registrations that administrators add, and names that are kept for services."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.app import PASSWORD, Running, User
from tests.support.appservice import Service

SERVICES = "/_hearth/admin/v1/appservices"
V3 = "/_matrix/client/v3"
REGISTER = "/_synapse/admin/v1/register"
SECRET = "a secret"
WITH_SECRET = {"mode": "open", "shared_secret": SECRET}


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(tmp_path, "irc") as service:
        yield service


@pytest.fixture
async def xmpp(tmp_path: Path) -> AsyncIterator[Service]:
    async with Service(tmp_path, "xmpp") as service:
        yield service


async def made(site: Running, name: str, kind: str = "notadmin") -> tuple[int, Any]:
    """An account that a tool makes with the shared secret."""
    nonce = (await site.nobody.get(REGISTER))["nonce"]
    message = f"{nonce}\0{name}\0{PASSWORD}\0{kind}".encode()
    mac = hmac.new(SECRET.encode(), message, hashlib.sha1).hexdigest()
    form = {"nonce": nonce, "username": name, "password": PASSWORD, "mac": mac}
    form["admin"] = kind == "admin"
    return await site.nobody.answer("POST", REGISTER, form)


def registration(service: Service, **more: Any) -> dict[str, Any]:
    return {**yaml.safe_load(service.file.read_text()), **more}


def where(service: Service) -> str:
    return f"{SERVICES}/{service.name}%20bridge"


async def listed(admin: User) -> dict[str, dict[str, Any]]:
    found = (await admin.get(SERVICES))["appservices"]
    return {each["id"]: each for each in found}


def errcode(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1].get("errcode", "")


async def test_a_registration_is_added_replaced_and_taken_out(
    another, new_dsn, irc: Service, xmpp: Service
) -> None:
    dsn = await new_dsn()
    files = {"registrations": [str(irc.file)]}
    site, other = [
        await another(dsn, appservices=files, registration=WITH_SECRET)
        for _ in range(2)
    ]
    _, reply = await made(site, "boss", "admin")
    admin = site.user(reply)
    alice = await site.registers("alice")
    assert list(await listed(admin)) == ["irc bridge"]
    await admin.put(where(xmpp), registration(xmpp))
    shown = (await listed(admin))["xmpp bridge"]
    assert shown == {
        "id": "xmpp bridge",
        "url": f"http://127.0.0.1:{xmpp.port}",
        "sender": "@xmpp_bot:hearth.test",
        "rate_limited": False,
        "from_file": False,
        "failures": 0,
    }
    # It is told of what happens, here and by the other process.
    room = (await alice.post(f"{V3}/createRoom", {"preset": "public_chat"}))["room_id"]
    await xmpp.api(site).post(f"{V3}/join/{room}", {})
    await alice.put(f"{V3}/rooms/{room}/send/m.room.message/1", {"body": "hello"})
    await xmpp.hears_body("hello")
    # What the files say leaves it alone, and it leaves them alone.
    irc.writes_registration(rate_limited=True)
    reply = await admin.post(f"{SERVICES}/reload", {})
    rates = {each["id"]: each["rate_limited"] for each in reply["appservices"]}
    assert rates == {"irc bridge": True, "xmpp bridge": False}
    invalid = (400, "M_INVALID_PARAM")
    for service, value in [
        (irc, registration(irc)),
        (xmpp, registration(xmpp, as_token=irc.token)),
        (xmpp, registration(xmpp, id="other")),
        (xmpp, registration(xmpp, url="ftp://x")),
    ]:
        assert errcode(await admin.answer("PUT", where(service), value)) == invalid
    irc.writes_registration(as_token=xmpp.token)
    refused = await admin.answer("POST", f"{SERVICES}/reload", {})
    assert errcode(refused) == invalid
    irc.writes_registration()
    await admin.post(f"{SERVICES}/reload", {})
    assert errcode(await admin.answer("DELETE", where(irc))) == (404, "M_NOT_FOUND")
    await admin.delete(where(xmpp))
    assert list(await listed(admin)) == ["irc bridge"]
    for running in (site, other):
        await is_unknown(running, xmpp)


async def is_unknown(running: Running, service: Service) -> None:
    async with asyncio.timeout(20):
        while True:
            api = service.api(running)
            status, _ = await api.answer("GET", f"{V3}/account/whoami")
            if status == 401:
                return
            await asyncio.sleep(0.05)


async def test_only_administrators_see_them(hearth: Running) -> None:
    alice = await hearth.registers()
    for method, place in (
        ("GET", SERVICES),
        ("PUT", f"{SERVICES}/x"),
        ("DELETE", f"{SERVICES}/x"),
        ("POST", f"{SERVICES}/reload"),
    ):
        assert errcode(await alice.answer(method, place, {})) == (403, "M_FORBIDDEN")


async def test_tools_make_no_accounts_with_a_services_names(
    another, irc: Service
) -> None:
    site = await another(
        appservices={"registrations": [str(irc.file)]}, registration=WITH_SECRET
    )
    for name, expected in (("irc_alice", (400, "M_EXCLUSIVE")), ("alice", (200, ""))):
        assert errcode(await made(site, name)) == expected
