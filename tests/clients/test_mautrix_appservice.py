"""mautrix's application service: a puppet bridge as bridges are written."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from mautrix.api import ClientPath, Method
from mautrix.appservice import AppService, state_store
from mautrix.errors import MForbidden
from mautrix.types import EventType, Membership, MessageType, PresenceState

from tests.support.api import path
from tests.support.certificates import CertificateAuthority
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST, free_port

SECONDS = 20


class Bridge:
    """The service, and what it has heard."""

    def __init__(self, service: AppService) -> None:
        self.service = service
        self.heard: list = []
        self._news = asyncio.Event()
        service.matrix_event_handler(self._hear)

    async def _hear(self, event) -> None:
        self.heard.append(event)
        self._news.set()

    async def hears(self, wanted, what: str):
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    self._news.clear()
                    for event in self.heard:
                        if wanted(event):
                            return event
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"the bridge never heard {what}") from None


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[Hearth, Bridge]]:
    server = Hearth(tmp_path / "hearth", CertificateAuthority.create())
    port = free_port()
    registration = {
        "id": "puppets",
        "url": f"http://{HOST}:{port}",
        "as_token": secrets.token_hex(16),
        "hs_token": secrets.token_hex(16),
        "sender_localpart": "puppeteer",
        "rate_limited": False,
        "de.sorunome.msc2409.push_ephemeral": True,
        "push_ephemeral": True,
        "org.matrix.msc3202": True,
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@puppet_.*:{server.name}"}],
            "aliases": [{"exclusive": True, "regex": f"#puppet_.*:{server.name}"}],
            "rooms": [],
        },
    }
    file = tmp_path / "puppets.yaml"
    file.write_text(yaml.safe_dump(registration))
    server.registrations = (file,)
    service = AppService(
        server=server.base_url,
        domain=server.name,
        as_token=registration["as_token"],
        hs_token=registration["hs_token"],
        bot_localpart=registration["sender_localpart"],
        id=registration["id"],
        ephemeral_events=True,
        encryption_events=True,
        state_store=state_store.FileASStateStore(path=str(tmp_path / "state")),
    )
    async with server:
        await service.start(HOST, port)
        try:
            yield server, Bridge(service)
        finally:
            await service.stop()


async def test_a_puppet_bridge_lives_its_day(site: tuple[Hearth, Bridge]) -> None:
    server, bridge = site
    service = bridge.service
    ann = await server.registers("ann")

    # It finds its way to us, and back.
    bot = service.intent
    await bot.ensure_registered()
    reply = await bot.api.request(
        Method.POST, ClientPath.v1.appservice.puppets.ping, {"transaction_id": "meow"}
    )
    assert reply["duration_ms"] >= 0
    await bot.set_displayname("Puppeteer")

    # A puppet with a face makes a portal and invites.
    puppet = service.intent.user(f"@puppet_pia:{server.name}")
    await puppet.ensure_registered()
    await puppet.set_displayname("Pia")
    room = await puppet.create_room(
        alias_localpart="puppet_portal", name="Portal", invitees=[ann.user_id]
    )
    await ann.joins(room)
    await bridge.hears(
        lambda e: (
            e.type == EventType.ROOM_MEMBER
            and e.state_key == ann.user_id
            and e.content.membership == Membership.JOIN
        ),
        "ann's join",
    )
    sent = await puppet.send_text(room, "ahoy", timestamp=1_500_000_000_000)
    event = await ann.sees(room, "ahoy")
    assert event["event_id"] == sent
    assert event["origin_server_ts"] == 1_500_000_000_000
    assert event["sender"] == puppet.mxid
    profile = await ann.get(path("profile", puppet.mxid))
    assert profile["displayname"] == "Pia"

    # Others talk; the bridge hears it once, with typing and receipts.
    await ann.sets_typing(room)
    await bridge.hears(lambda e: e.type == EventType.TYPING, "typing")
    said = await ann.sends(room, "hello, puppet")
    heard = await bridge.hears(
        lambda e: getattr(e, "event_id", None) == said, "what ann said"
    )
    assert heard.content.msgtype == MessageType.TEXT
    await puppet.mark_read(room, said)
    await bridge.hears(lambda e: e.type == EventType.RECEIPT, "a receipt")
    await puppet.set_presence(PresenceState.ONLINE)

    # A whole troupe.
    troupe = [
        service.intent.user(f"@puppet_{number}:{server.name}") for number in range(20)
    ]
    await asyncio.gather(*(each.ensure_joined(room, bot=puppet) for each in troupe))
    await asyncio.gather(
        *(each.send_text(room, f"I am {each.mxid}") for each in troupe)
    )
    for each in troupe:
        await ann.sees(room, f"I am {each.mxid}")
    last = await ann.sends(room, "bravo")
    await bridge.hears(lambda e: getattr(e, "event_id", None) == last, "the end")
    ids = [e.event_id for e in bridge.heard if getattr(e, "event_id", None)]
    assert len(ids) == len(set(ids))

    # Names that are not its own.
    with pytest.raises(MForbidden):
        await service.intent.user(ann.user_id).whoami()
