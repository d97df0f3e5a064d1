"""Give an e-mail to the configured SMTP server."""

import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

import aiosmtplib

from homeserver.config.accounts import Mail
from homeserver.mail.store import Message

# RFC 5321, 4.2.1: replies of 500 and more are for good.
_FOR_GOOD: Final = 500
# Of the recipient or the message; others concern the server, which may be mended.
_ABOUT_US: Final = (530, 534, 535, 538)


class NotDelivered(Exception):  # noqa: N818 - reads as what happened
    """The message was not taken; `for_good`: nor will it ever be."""

    def __init__(self, reason: str, *, for_good: bool) -> None:
        super().__init__(reason)
        self.for_good = for_good


def build(config: Mail, server_name: str, message: Message) -> EmailMessage:
    """The e-mail as it goes over the wire."""
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = Address(
        display_name=config.sender_name or server_name, addr_spec=config.sender
    )
    mail["To"] = Address(addr_spec=message.recipient)
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = make_msgid(domain=config.sender.rpartition("@")[2])
    # Nobody's absence shall be told to us.
    mail["Auto-Submitted"] = "auto-generated"
    if message.unsubscribe:
        mail["List-Unsubscribe"] = f"<{message.unsubscribe}>"
        if message.unsubscribe.startswith("https:"):
            # RFC 8058: one click in the mail program, without opening a page.
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.plain)
    mail.add_alternative(message.html, subtype="html")
    return mail


async def send(config: Mail, server_name: str, message: Message) -> None:
    """Give the message to the server. Raises: NotDelivered."""
    try:
        mail = build(config, server_name, message)
    except (ValueError, IndexError) as error:  # an address that cannot be written
        raise NotDelivered(str(error), for_good=True) from error
    client = aiosmtplib.SMTP(
        hostname=config.host,
        port=config.port,
        timeout=config.timeout_s,
        use_tls=config.security == "tls",
        # Never "if the server offers it": whoever is in between could take that away.
        start_tls=config.security == "starttls",
        tls_context=ssl.create_default_context(cafile=config.tls_ca_file or None),
        username=config.user or None,
        password=config.password or None,
    )
    try:
        async with client:
            await client.send_message(mail)
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [refused.code for refused in error.recipients]
        for_good = all(code >= _FOR_GOOD for code in codes)
        raise NotDelivered(f"recipient refused: {codes}", for_good=for_good) from error
    except aiosmtplib.SMTPResponseException as error:
        for_good = error.code >= _FOR_GOOD and error.code not in _ABOUT_US
        raise NotDelivered(
            f"{error.code} {error.message}", for_good=for_good
        ) from error
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise NotDelivered(reason, for_good=False) from error
