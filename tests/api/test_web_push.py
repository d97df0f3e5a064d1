"""Web Push: messages that only the client can read, without a gateway. MSC4174."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import http_ece
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from homeserver.push import pushers, sender, web_push
from tests.support.api import RefusedError, eventually, path
from tests.support.app import Running
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
OWN_NETWORK = {"federation": {"allow_addresses": ["127.0.0.0/8"]}}
INVALID = (400, "M_INVALID_PARAM")


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Service:
    """A push service, and a client that has subscribed with it."""

    url: str = ""
    got: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    auth: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def pushkey(self) -> str:
        public = self.key.public_key()
        form = PublicFormat.UncompressedPoint
        return encoded(public.public_bytes(Encoding.X962, form))

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.sizes.append(len(body))
        message = http_ece.decrypt(
            body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"
        )
        self.got.append((dict(request.headers), json.loads(message)))
        return web.Response(status=self.status, headers=self.headers)

    async def gets(self, number: int) -> list[dict[str, Any]]:
        async def is_there() -> bool:
            return len(self.got) >= number

        await eventually(is_there, f"{number} messages", pause=0.02)
        return [message for _, message in self.got]

    async def gets_no_more_than(self, number: int) -> None:
        await asyncio.sleep(0.3)
        assert len(self.got) == number, self.got[number:]

    def pusher(self, **more: Any) -> dict[str, Any]:
        data = {"url": self.url, "auth": encoded(self.auth), **more.pop("data", {})}
        return {
            "app_id": "org.example.web",
            "pushkey": self.pushkey,
            "kind": "webpush",
            "app_display_name": "An App",
            "device_display_name": "A Browser",
            "lang": "en",
            "data": data,
            **more,
        }


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    found = Service()
    app = web.Application()
    app.router.add_post("/push/{id}", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/push/secret"
    yield found
    await runner.cleanup()


@pytest.fixture
async def pushing(another) -> Running:
    return await another(**OWN_NETWORK)


async def sets(client: Client, body: dict[str, Any]) -> int:
    status, _ = await client.answer("POST", path("pushers", "set"), body)
    return status


async def acknowledges(client: Client, token: str, app_id: str) -> tuple[int, str]:
    body = {"app_id": app_id, "ack_token": token}
    status, answer = await client.answer("POST", path("pushers", "ack"), body)
    return status, answer.get("errcode", "")


async def subscribed(client: Client, service: Service, **more: Any) -> None:
    """The client sets its pusher and acknowledges what it gets."""
    before = len(service.got)
    assert await sets(client, service.pusher(**more)) == 201
    token = (await service.gets(before + 1))[-1]["ack_token"]
    assert await acknowledges(client, token, "org.example.web") == (200, "")


async def shown(client: Client) -> list[dict[str, Any]]:
    return (await client.get(path("pushers")))["pushers"]


async def in_a_room(alice: Client, bob: Client) -> str:
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    return room


async def test_a_client_subscribes_and_reads_what_comes(pushing, person, service):
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    capabilities = (await bob.get(path("capabilities")))["capabilities"]
    vapid = capabilities["m.webpush"]["vapid"]
    assert capabilities["m.webpush"]["enabled"] is True
    assert (len(decoded(vapid)), decoded(vapid)[0]) == (65, 4)

    assert await sets(bob, service.pusher()) == 201
    [one] = await shown(bob)
    assert one["activated"] is False
    [told] = await service.gets(1)
    assert told.keys() == {"app_id", "ack_token"}
    token = told["ack_token"]
    await alice.sends(room, "before the client has shown that it is there")
    await service.gets_no_more_than(1)
    unknown = (400, "M_UNKNOWN_ACTIVATION_TOKEN")
    assert await acknowledges(bob, token + "x", "org.example.web") == unknown
    assert (await acknowledges(bob, token, "other"))[0] == 404
    assert (await acknowledges(alice, token, "org.example.web"))[0] == 404
    assert await acknowledges(bob, token, "org.example.web") == (200, "")
    assert (await shown(bob))[0]["activated"] is True
    # Clients set their pushers again and again; nothing has changed.
    assert await sets(bob, service.pusher(lang="de")) == 200

    event_id = await alice.sends(room, "hello")
    told = (await service.gets(2))[1]
    assert (told["event_id"], told["content"]["body"]) == (event_id, "hello")
    assert told["counts"] == {"unread": 2}
    assert "auth" not in json.dumps(told)
    headers, _ = service.got[1]
    assert (headers["TTL"], headers["Urgency"]) == ("172800", "high")
    assert headers["Content-Encoding"] == "aes128gcm"
    token, key = headers["Authorization"].removeprefix("vapid ").split(",")
    assert key == f"k={vapid}"
    assert Vapid02.verify(headers["Authorization"])
    claims = json.loads(decoded(token.split(".")[1]))
    assert claims["aud"] == service.url.removesuffix("/push/secret")
    assert claims["sub"].startswith(("https://", "mailto:"))
    assert headers["Authorization"] == service.got[0][0]["Authorization"]

    # What is longer than a push service takes comes without its content.
    long = await alice.sends(room, "x" * 5000)
    told = (await service.gets(3))[2]
    assert told["event_id"] == long
    assert "content" not in told
    await bob.marks_read(room, long)
    assert (await service.gets(4))[3].keys() == {"counts", "devices"}
    assert max(service.sizes) <= 4096


async def test_a_subscription_ends_and_is_begun_anew(pushing, person, service):
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    await subscribed(bob, service, data={"format": "event_id_only"})
    event_id = await alice.sends(room, "x")
    told = (await service.gets(2))[1]
    assert told.keys() == {"event_id", "room_id", "counts", "devices"}
    assert told["event_id"] == event_id
    # Another secret is another subscription.
    service.auth = os.urandom(16)
    await subscribed(bob, service)
    service.status = 410
    await alice.sends(room, "nobody is there")
    await service.gets(4)

    async def is_gone() -> bool:
        return await shown(bob) == []

    await eventually(is_gone, "the subscription is deleted")


async def test_who_is_asked_too_often_is_left_alone(
    pushing, person, service, monkeypatch
):
    monkeypatch.setattr(sender, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(sender, "_RETRY_SWEEP_SECONDS", 0.05)
    alice, bob = await person(pushing), await person(pushing)
    room = await in_a_room(alice, bob)
    await subscribed(bob, service)
    service.status, service.headers = 429, {"Retry-After": "1"}
    loop = asyncio.get_running_loop()
    event_id = await alice.sends(room, "x")
    await service.gets(2)
    refused_at, service.status = loop.time(), 201
    told = (await service.gets(3))[2]
    assert told["event_id"] == event_id
    assert loop.time() - refused_at > 0.9


async def test_a_token_that_comes_late_is_refused(
    pushing, person, service, monkeypatch
):
    bob = await person(pushing)
    monkeypatch.setattr(pushers, "TOKEN_LIFETIME", pushers.TOKEN_LIFETIME / 600)
    assert await sets(bob, service.pusher()) == 201
    [told] = await service.gets(1)
    expired = (400, "M_EXPIRED_ACTIVATION_TOKEN")

    async def is_late() -> bool:
        async with pushing.ctx.db.read() as tx:
            state = await pushers.token_state(
                tx, bob.user_id, "org.example.web", told["ack_token"]
            )
        return state == (True, True, False)

    await eventually(is_late, "the token has expired", pause=0.1)
    late = await acknowledges(bob, told["ack_token"], "org.example.web")
    assert late == expired
    # Whoever registers again gets another one.
    assert await sets(bob, service.pusher()) == 201
    _, again = await service.gets(2)
    assert again["ack_token"] != told["ack_token"]


async def test_what_is_no_subscription_is_refused(pushing, person, service):
    bob = await person(pushing)
    changes: list[dict[str, Any]] = [
        {"pushkey": "key"},
        {"pushkey": encoded(b"\x04" + bytes(64))},  # which is not on the curve
        {"data": {"auth": "short"}},
        {"data": {"auth": encoded(b"x" * 17)}},
        {"data": {"url": "http://push.example.org/x"}},
        {"data": {"url": "http://192.168.0.1/x"}},
        {"data": {"url": "https://user@push.example.org/x"}},
        {"data": {"format": "other"}},
    ]
    for change in changes:
        with pytest.raises(RefusedError) as error:
            await bob.post(path("pushers", "set"), service.pusher(**change))
        assert (error.value.status, error.value.errcode) == INVALID, change
    assert await shown(bob) == []


async def test_private_addresses_are_not_pushed_to(another, person, service):
    # A name of the public internet may lead into the operator's network.
    site = await another()
    bob = await person(site)
    url = service.url.replace("http://127.0.0.1", "https://localhost")
    assert await sets(bob, service.pusher(data={"url": url})) == 201
    await service.gets_no_more_than(0)
    assert not site.ctx.config.allowed_networks


def test_a_message_that_is_too_long_loses_what_can_be_spared():
    told = {"event_id": "$x", "room_id": "!y", "devices": [{"data": "z" * 9000}]}
    assert json.loads(web_push.fitting(told)) == {"event_id": "$x", "room_id": "!y"}
    assert json.loads(web_push.fitting({**told, "event_id": "$" * 5000})) == {
        "event_id": "$" * 5000,
        "room_id": "!y",
    }
