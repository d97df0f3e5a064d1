"""Sends what is in the outbox, as long as the block lasts."""

import asyncio
from types import TracebackType
from typing import Final, Self

import asyncpg
import structlog

from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.mail import gateway, smtp, store
from homeserver.mail.smtp import NotDelivered
from homeserver.mail.store import Message

_AT_ONCE: Final = 5
# How long a message of another process, or one that was put off, may lie.
_LOOK_EVERY_S: Final = 15.0

log = structlog.get_logger(__name__)


class Postman:
    """One process's sender of messages."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_mail(self) -> bool:
        """Whether e-mails can be sent."""
        return bool(self._ctx.config.mail.host)

    @property
    def has_sms(self) -> bool:
        """Whether text messages can be sent."""
        return bool(self._ctx.config.sms.url)

    def wake(self) -> None:
        """There is something in the outbox."""
        self._woken.set()

    async def __aenter__(self) -> Self:
        if self.has_mail or self.has_sms:
            self._task = asyncio.create_task(self._run(), name="postman")
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                while await self._send_some():
                    pass
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("outbox not read", reason=str(error))
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _send_some(self) -> int:
        async with self._ctx.db.transaction() as tx:
            messages = await store.claim(tx, _AT_ONCE)
        await asyncio.gather(*(self._send(message) for message in messages))
        return len(messages)

    async def _send(self, message: Message) -> None:
        try:
            await self._deliver(message)
        except NotDelivered as error:
            await self._not_sent(message, error)
            return
        async with self._ctx.db.transaction() as tx:
            await store.delete(tx, message.message_id)

    async def _deliver(self, message: Message) -> None:
        config = self._ctx.config
        if message.medium == "email":
            if not self.has_mail:
                raise NotDelivered("[mail] has no host any more", for_good=True)
            await smtp.send(config.mail, config.server_name, message)
            return
        if not self.has_sms:
            raise NotDelivered("[sms] has no url any more", for_good=True)
        await gateway.send(config.sms, message)

    async def _not_sent(self, message: Message, error: NotDelivered) -> None:
        async with self._ctx.db.transaction() as tx:
            if error.for_good:
                await store.delete(tx, message.message_id)
                is_kept = False
            else:
                is_kept = await store.put_off(tx, message)
        log.warning(
            "message not sent",
            medium=message.medium,
            subject=message.subject if message.medium == "email" else "",
            reason=str(error),
            tried_again=is_kept,
        )
