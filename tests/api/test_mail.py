"""E-mails through a real SMTP server; text messages through an HTTP gateway."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from homeserver.mail import messages
from homeserver.mail import store as outbox
from homeserver.mail.postman import Postman
from tests.support.api import eventually
from tests.support.app import Running
from tests.support.certificates import CertificateAuthority
from tests.support.homeserver import HOST
from tests.support.post import Letterbox, letterbox, link_in, text_of

Another = Callable[..., Awaitable[Running]]
BASE = "https://matrix.hearth.test"


def mail(box: Letterbox, **more: Any) -> dict[str, Any]:
    """The configuration that leads there."""
    return {
        "public_base_url": BASE,
        "mail": {
            "host": HOST,
            "port": box.port,
            "security": "none",
            "sender": "noreply@hearth.test",
            **more,
        },
    }


async def put(
    hearth: Running, to: str = "bob@example.org", accepted: str = "", medium="email"
) -> None:
    letter = messages.letter(
        messages.RESET_PASSWORD,
        accepted,
        BASE + "/x?a=1&b=2",
        server="hearth.test",
        account="@bob<:hearth.test",
    )
    async with hearth.ctx.db.transaction() as tx:
        await outbox.add(tx, medium, to, letter.subject, letter.plain, letter.html)
    hearth.ctx.parts.get(Postman).wake()


async def waiting(hearth: Running) -> int:
    async with hearth.ctx.db.read() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM outbox"))


async def is_sent(hearth: Running) -> None:
    async def gone() -> bool:
        return await waiting(hearth) == 0

    await eventually(gone, "the outbox is empty")


async def was_tried(hearth: Running) -> None:
    async def tried() -> bool:
        async with hearth.ctx.db.read() as tx:
            return bool(
                await tx.fetchval(
                    "SELECT tries > 0 AND due_at < now() + interval '2 minutes'"
                    " FROM outbox"
                )
            )

    await eventually(tried, "it was tried and put off")


async def test_a_letter_comes_as_text_and_html(another: Another) -> None:
    async with letterbox() as box:
        hearth = await another(**mail(box, sender_name="Hearth"))
        await put(hearth)
        come = await box.next()
        assert come["To"] == "bob@example.org"
        assert come["From"] == "Hearth <noreply@hearth.test>"
        assert come["Subject"] == "Choose a new password for hearth.test"
        assert come["Auto-Submitted"] == "auto-generated"
        assert link_in(come) == BASE + "/x?a=1&b=2"
        html = text_of(come, "html")
        assert 'href="https://matrix.hearth.test/x?a=1&amp;b=2"' in html
        assert "@bob&lt;:hearth.test" in html
        assert 'lang="en"' in html
        await is_sent(hearth)


async def test_a_letter_is_in_the_readers_language(another: Another) -> None:
    async with letterbox() as box:
        hearth = await another(**mail(box))
        await put(hearth, accepted="fr, de-AT;q=0.9, en;q=0.1")
        come = await box.next()
        assert come["Subject"] == "Wählen Sie ein neues Passwort für hearth.test"
        assert "Jemand, hoffentlich Sie," in text_of(come)
        assert 'lang="de"' in text_of(come, "html")


def test_every_text_of_a_letter_is_there_in_german() -> None:
    values = {"server": "s", "account": "a"}
    for words in vars(messages).values():
        if isinstance(words, messages.Words):
            english = messages.letter(words, "en", "", **values)
            german = messages.letter(words, "de", "", **values)
            assert english.subject != german.subject
            for one in english.plain.strip().split("\n\n"):
                assert one not in german.plain.split("\n\n")
    assert messages.code("de", "123456", "s") == "123456 ist Ihr Code für s"


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_letter_goes_encrypted_and_with_a_password(
    another: Another, tmp_path: Path, security: str
) -> None:
    authority = CertificateAuthority.create()
    certificate, key = authority.issue(tmp_path, HOST)
    authority.write_ca(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    side = {"starttls" if security == "starttls" else "tls": context}
    more = {"security": security, "user": "hearth", "password": "secret"}
    async with letterbox(**side, user="hearth", password="secret") as box:
        ca_file = str(tmp_path / "ca.pem")
        trusting = await another(**mail(box, **more, tls_ca_file=ca_file))
        await put(trusting)
        assert (await box.next())["To"] == "bob@example.org"
        # Nobody vouches for the certificate: nothing is sent.
        wary = await another(**mail(box, **more))
        await put(wary)
        await was_tried(wary)
        assert box.is_empty


async def test_nothing_is_sent_where_encryption_is_not_offered(
    another: Another,
) -> None:
    async with letterbox() as box:
        hearth = await another(**mail(box, security="starttls"))
        await put(hearth)
        await was_tried(hearth)
        assert box.is_empty


async def test_a_letter_that_was_not_taken_is_sent_again(another: Another) -> None:
    async with letterbox() as box:
        box.refuse.append("451 busy")
        hearth = await another(**mail(box))
        await put(hearth)
        await was_tried(hearth)
        async with hearth.ctx.db.transaction() as tx:
            await tx.execute("UPDATE outbox SET due_at = now()")
        hearth.ctx.parts.get(Postman).wake()
        await box.next()
        await is_sent(hearth)


async def test_a_letter_that_is_refused_for_good_is_dropped(another: Another) -> None:
    async with letterbox() as box:
        box.refuse.append("550 no such user")
        hearth = await another(**mail(box))
        await put(hearth)
        await is_sent(hearth)
        # Nor does what cannot be an address stop what comes after it.
        await put(hearth, to="bob\r\nBcc: eve@example.org")
        await put(hearth)
        await box.next()
        await is_sent(hearth)
        assert box.is_empty


async def test_a_letter_is_given_up_after_a_day(another: Another) -> None:
    async with letterbox() as box:
        box.refuse.append("451 busy")
        hearth = await another(**mail(box))
        async with hearth.ctx.db.transaction() as tx:
            await outbox.add(tx, "email", "bob@example.org", "s", "p", "h")
            await tx.execute("UPDATE outbox SET created_at = now() - interval '25 h'")
        hearth.ctx.parts.get(Postman).wake()
        await is_sent(hearth)


async def test_two_processes_send_a_letter_once(another: Another) -> None:
    async with letterbox() as box:
        first = await another(**mail(box))
        second = await another(first.server._dsn, **mail(box))
        for _ in range(20):
            await put(first)
        second.ctx.parts.get(Postman).wake()
        for _ in range(20):
            await box.next()
        await is_sent(first)
        assert box.is_empty


async def test_a_text_message_goes_to_the_gateway(another: Another) -> None:
    come: list[tuple[str, dict[str, Any]]] = []

    async def take(request: web.Request) -> web.Response:
        come.append((request.headers["Authorization"], await request.json()))
        return web.Response(status=503 if len(come) == 1 else 202)

    app = web.Application()
    app.router.add_post("/sms", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        hearth = await another(
            sms={"url": f"http://{HOST}:{port}/sms", "password_header": "Bearer key"}
        )
        async with hearth.ctx.db.transaction() as tx:
            await outbox.add(tx, "msisdn", "491701234567", "", 'say "hello"')
        hearth.ctx.parts.get(Postman).wake()
        await was_tried(hearth)
        async with hearth.ctx.db.transaction() as tx:
            await tx.execute("UPDATE outbox SET due_at = now()")
        hearth.ctx.parts.get(Postman).wake()
        await is_sent(hearth)
        said = ("Bearer key", {"to": "+491701234567", "text": 'say "hello"'})
        assert come == [said, said]
    finally:
        await runner.cleanup()
