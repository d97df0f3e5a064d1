"""E-mails about what is unread: few, not too early, and no more of them on request."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from homeserver.accounts.store import threepids
from homeserver.accounts.store.threepids import Threepid
from homeserver.mail import messages, smtp
from homeserver.mail.store import Message
from homeserver.push import mailer
from tests.support.api import eventually, path
from tests.support.app import Running
from tests.support.client import Client
from tests.support.homeserver import HOST
from tests.support.post import Letterbox, letterbox, link_in, text_of

BASE = "https://matrix.hearth.test"
PUBLIC = {"preset": "public_chat"}
INVALID = (400, "M_INVALID_PARAM")


@pytest.fixture
async def box() -> AsyncIterator[Letterbox]:
    async with letterbox() as found:
        yield found


@pytest.fixture
async def mailing(another, box, monkeypatch) -> Callable[..., Any]:
    """A server that sends e-mails when something was unread for a second."""
    monkeypatch.setattr(mailer, "_LOOK_EVERY_S", 0.1)

    async def make(dsn: str | None = None, **push: Any) -> Running:
        return await another(
            *([dsn] if dsn else []),
            public_base_url=BASE,
            mail={
                "host": HOST,
                "port": box.port,
                "security": "none",
                "sender": "noreply@hearth.test",
            },
            push={"email_delay_s": 1, **push},
        )

    return make


async def owns(site: Running, client: Client, address: str) -> None:
    async with site.ctx.db.transaction() as tx:
        await threepids.add(tx, client.user_id, Threepid("email", address, 0, 0))


def pusher(address: str, **more: Any) -> dict[str, Any]:
    return {
        "app_id": "m.email",
        "pushkey": address,
        "kind": "email",
        "app_display_name": "E-mail notifications",
        "device_display_name": address,
        "lang": "en",
        "data": {"brand": "Some\nApp"},
        **more,
    }


async def sets(client: Client, body: dict[str, Any]) -> tuple[int, str]:
    status, reply = await client.answer("POST", path("pushers", "set"), body)
    return status, reply.get("errcode", "")


async def shown(client: Client) -> list[dict[str, Any]]:
    return (await client.get(path("pushers")))["pushers"]


async def silent_for(site: Running, seconds: float) -> None:
    """Have all rooms keep silent for other seconds from now on."""
    async with site.ctx.db.transaction() as tx:
        await tx.execute("UPDATE push_mails SET sent_at = now(), wait_s = $1", seconds)
        await tx.execute("UPDATE pushers SET retry_at = now() WHERE retry_at > now()")


async def test_few_emails_tell_what_is_unread(mailing, person, box):
    site = await mailing()
    alice, bob = await person(site), await person(site)
    await alice.sets_displayname("Alice <b>")
    await owns(site, bob, "bob@example.org")
    other_device = await site.logs_in(bob.user_id)
    assert await sets(other_device, pusher(" Bob@Example.org")) == (200, "")
    await other_device.post(path("logout"))
    [one] = await shown(bob)
    assert (one["kind"], one["pushkey"]) == ("email", "bob@example.org")
    assert "device_id" not in one

    room = await alice.creates_room(**PUBLIC, name="Tea & cake")
    await bob.joins(room)
    read = await alice.sends(room, "read in time")
    await bob.marks_read(room, read)
    for n in range(7):
        await alice.sends(room, f"message {n}")
    await alice.sends_event(room, "m.room.encrypted", {"body": "secret"})
    mail = await box.next()
    assert mail["To"] == "bob@example.org"
    assert mail["Subject"] == "Some App: unread messages on hearth.test"
    text, html = text_of(mail), text_of(mail, "html")
    assert "Tea & cake\n  (3 more)\n  Alice <b>: message 3\n" in text
    assert "Alice <b>: An encrypted message" in text
    assert "Tea &amp; cake" in html
    assert "Alice &lt;b&gt;" in html
    for hidden in ("read in time", "secret", "message 2"):
        assert hidden not in text + html
    unsubscribe = link_in(mail)
    assert mail["List-Unsubscribe"] == f"<{unsubscribe}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    # A busy room makes few e-mails; another room is told of, with it.
    await silent_for(site, 3600)
    await alice.sends(room, "busy")
    await asyncio.sleep(1.5)
    assert box.is_empty
    quiet = await alice.creates_room(invite=[bob.user_id])
    await bob.joins(quiet)
    await alice.sends(quiet, "in another room")
    await silent_for(site, 0)
    text = text_of(await box.next())
    assert "busy" in text
    assert "in another room" in text
    assert "message" not in text.replace("unread messages", "")

    # What is read before its time makes no e-mail.
    await bob.marks_read(quiet, await alice.sends(quiet, "seen"))
    await bob.marks_read(room, await alice.sends(room, "seen"))
    await asyncio.sleep(1.5)
    assert box.is_empty
    await unsubscribes(site, unsubscribe)
    assert await shown(bob) == []


async def unsubscribes(site: Running, link: str) -> None:
    """Look at the page, which changes nothing, and press the button."""
    where = site.base_url + link.removeprefix(BASE)
    async with aiohttp.ClientSession() as browser:
        for language, words in (("en", "Send no more"), ("de", "Keine E-Mails mehr")):
            headers = {"Accept-Language": language}
            async with browser.get(where, headers=headers) as page:
                assert page.status == 200
                text = await page.text()
                assert words in text
                assert "bob@example.org" in text
        # As a mail program does it: without cookies.
        async with browser.post(where, data={"List-Unsubscribe": "One-Click"}) as page:
            assert page.status == 200
            assert "No more e-mails" in await page.text()
        async with browser.get(where) as page:
            assert page.status == 404
            assert "not sent any more" in await page.text()
        async with browser.post(where + "x") as page:
            assert page.status == 200


async def test_an_email_pusher_is_for_ones_own_address(mailing, person, box):
    site = await mailing()
    alice, bob = await person(site), await person(site)
    await owns(site, bob, "bob@example.org")
    assert await sets(alice, pusher("bob@example.org")) == INVALID
    assert await sets(alice, pusher("no address")) == INVALID
    assert await sets(bob, pusher("bob@example.org", lang="de-DE")) == (200, "")
    room = await alice.creates_room(invite=[bob.user_id], name="Runde")
    mail = await box.next()
    assert "ungelesene Nachrichten" in mail["Subject"]
    assert "Eine Einladung in diesen Raum" in text_of(mail)
    # An address that is given up gets nothing more.
    await bob.joins(room)
    async with site.ctx.db.transaction() as tx:
        await threepids.remove(tx, bob.user_id, "email", "bob@example.org")
    await silent_for(site, 0)
    await alice.sends(room, "x")

    async def is_gone() -> bool:
        return await shown(bob) == []

    await eventually(is_gone, "the pusher goes with its address")
    assert box.is_empty


async def test_two_processes_send_one_email(mailing, new_dsn, person, box):
    dsn = await new_dsn()
    first, _ = await mailing(dsn), await mailing(dsn)
    alice, bob = await person(first), await person(first)
    await owns(first, bob, "bob@example.org")
    await sets(bob, pusher("bob@example.org", data={}))
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.sends(room, "once")
    mail = await box.next()
    assert mail["Subject"] == "hearth.test: unread messages on hearth.test"
    await silent_for(first, 0)
    await asyncio.sleep(0.5)
    assert box.is_empty


async def test_encrypted_events_wake_clients_and_make_no_emails(mailing, person, box):
    site = await mailing(encrypted_events=True)
    versions = await site.nobody.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4028"] is True
    alice, bob = await person(site), await person(site)
    await owns(site, bob, "bob@example.org")
    await sets(bob, pusher("bob@example.org"))
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    # Mentions only, which a client can find alone.
    await bob.put(path("pushrules", "global", "room", room), {"actions": []})
    await alice.sends_event(room, "m.room.encrypted", {"algorithm": "x"})
    page = await bob.get(path("notifications"))
    assert [each["event"]["type"] for each in page["notifications"]] == [
        "m.room.encrypted"
    ]
    synced = await bob.syncs()
    assert synced["rooms"]["join"][room]["unread_notifications"] == {
        "notification_count": 1,
        "highlight_count": 0,
    }
    [rules] = [
        each["content"]["global"]["override"]
        for each in synced["account_data"]["events"]
        if each["type"] == "m.push_rules"
    ]
    assert rules[1]["rule_id"] == ".org.matrix.msc4028.encrypted_event"
    await asyncio.sleep(1.5)
    assert box.is_empty


async def test_a_server_without_mail_takes_no_email_pusher(hearth, alice):
    versions = await hearth.nobody.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4028"] is False
    assert await sets(alice, pusher("alice@example.org")) == INVALID


def test_one_click_needs_https():
    link = "http://matrix.example.org/account/unsubscribe?token=x"
    room = messages.RoomNews("{name}", [messages.Line("{x}", messages.Said.OTHER)])
    letter = messages.unread(
        "de", [room], link, more_rooms=3, brand="b", server="s", account="@a:s"
    )
    assert "In 3 anderen Räumen" in letter.plain
    assert "{name}\n  {x}: Etwas, das kein Text ist" in letter.plain
    config = type("Mail", (), {"sender": "n@s", "sender_name": ""})()
    message = Message(1, "email", "b@s", "s", "p", "h", 1, link)
    built = smtp.build(config, "s", message)
    assert built["List-Unsubscribe"] == f"<{link}>"
    assert built["List-Unsubscribe-Post"] is None
