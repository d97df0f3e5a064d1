"""A real SMTP server that keeps what it gets, for tests that read e-mails."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from tests.support.homeserver import HOST

_LINK = re.compile(r"^https?://\S+$", re.MULTILINE)


@dataclass
class Letterbox:
    """The server's port and all that has come. `refuse`: what it answers instead."""

    port: int = 0
    user: str = ""
    password: str = ""
    refuse: list[str] = field(default_factory=list)
    _come: "asyncio.Queue[EmailMessage]" = field(default_factory=asyncio.Queue)

    async def next(self, seconds: float = 20) -> EmailMessage:
        """The next e-mail, in the order in which they came."""
        async with asyncio.timeout(seconds):
            return await self._come.get()

    @property
    def is_empty(self) -> bool:
        return self._come.empty()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Any, envelope: Envelope
    ) -> str:
        if self.refuse:
            return self.refuse.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        self._come.put_nowait(message_from_bytes(content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"

    def authenticate(
        self, _server: SMTP, _session: Any, _envelope: Any, _how: str, data: Any
    ) -> AuthResult:
        good = isinstance(data, LoginPassword) and (
            data.login.decode(),
            data.password.decode(),
        ) == (self.user, self.password)
        return AuthResult(success=good)


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def link_in(mail: EmailMessage) -> str:
    """The link that stands alone in its line."""
    return _LINK.findall(text_of(mail))[0]


@asynccontextmanager
async def letterbox(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    user: str = "",
    password: str = "",
) -> AsyncIterator[Letterbox]:
    """The server while it runs."""
    box = Letterbox(user=user, password=password)

    def session() -> SMTP:
        return SMTP(
            box,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=box.authenticate if user else None,
            auth_required=bool(user),
            auth_require_tls=starttls is not None,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, HOST, 0, ssl=tls)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()
