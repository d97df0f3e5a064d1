"""Sends what is in the outbox, as long as the block lasts."""

from types import TracebackType
from typing import Final, Self

import structlog

from homeserver.claimed import Claimed
from homeserver.context import Context
from homeserver.mail import gateway, smtp, store
from homeserver.mail.smtp import NotDelivered
from homeserver.mail.store import Message

_AT_ONCE: Final = 5

log = structlog.get_logger(__name__)


class Postman:
    """One process's sender of messages."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._work = Claimed(
            ctx.db,
            "postman",
            claim=store.claim,
            renew=store.renew,
            work=self._send,
            at_once=_AT_ONCE,
        )

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
        self._work.wake()

    async def __aenter__(self) -> Self:
        if self.has_mail or self.has_sms:
            await self._work.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.has_mail or self.has_sms:
            await self._work.__aexit__(kind, error, trace)

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
