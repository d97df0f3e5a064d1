"""Sends what is due: a task of every process, of which one at a time is at work."""

import asyncio
import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import orjson
import structlog

from homeserver import errors
from homeserver.context import Context
from homeserver.db import leases
from homeserver.db.errors import DatabaseError
from homeserver.delayed import store
from homeserver.delayed.deliver import CLAIM_SECONDS, PASSING, deliver
from homeserver.delayed.store import DelayedEvent
from homeserver.errors import MatrixError
from homeserver.http.limits import Limits, writes

_LEASE: Final = "delayed-events"
_LEASE_SECONDS: Final = 10.0
# Every process looks so often; one that knows what comes next looks just then.
_LOOK_SECONDS: Final = 1.0
_BATCH: Final = 50
_RETRY_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class DelayedSender:
    """One process's task; `async with` runs it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        # What a user may send at once holds for what was scheduled for one moment too.
        self._limits = Limits(ctx.clock.monotonic, enabled=ctx.config.limits.enabled)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="delayed-events")
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
            wait: float | None = None
            try:
                async with self._ctx.db.read() as tx:
                    wait = await store.seconds_to_next(tx)
                if wait == 0 and not await self._send_due():
                    wait = None
            except DatabaseError as error:
                log.warning("delayed events wait for the database", reason=str(error))
            except Exception:  # the next round may do better
                log.exception("cannot send delayed events")
            if wait != 0:
                await asyncio.sleep(min(_LOOK_SECONDS, wait or _LOOK_SECONDS))

    async def _send_due(self) -> bool:
        """Send all that is due; False: another process is at it."""
        async with self._ctx.db.transaction() as tx:
            if not await leases.claim(tx, _LEASE, self._me, _LEASE_SECONDS):
                return False
        try:
            while due := await self._take():
                await self._send_all(due)
        finally:
            async with self._ctx.db.transaction() as tx:
                await leases.release(tx, (_LEASE,), self._me)
        return True

    async def _take(self) -> list[DelayedEvent]:
        async with self._ctx.db.transaction() as tx:
            if not await leases.claim(tx, _LEASE, self._me, _LEASE_SECONDS):
                return []
            return await store.claim_due(tx, _BATCH, CLAIM_SECONDS)

    async def _send_all(self, due: Sequence[DelayedEvent]) -> None:
        """Begin in their order; what is for one room goes one after the other."""
        rooms: dict[str, list[DelayedEvent]] = {}
        for event in due:
            rooms.setdefault(event.room_id, []).append(event)
        await asyncio.gather(*(self._send_in_order(each) for each in rooms.values()))

    async def _send_in_order(self, events: Sequence[DelayedEvent]) -> None:
        for event in events:
            await self._send(event)

    async def _send(self, event: DelayedEvent) -> None:
        try:
            self._limits.spend(writes, event.user_id)
            await deliver(self._ctx, event)
        except MatrixError as error:
            await self._fail(event, error)
        except PASSING as error:
            log.warning("a delayed event is tried again", reason=repr(error))
            async with self._ctx.db.transaction() as tx:
                await store.let_go(tx, event.delay_id, _RETRY_SECONDS)
        except asyncio.CancelledError:
            # What was under way is not sent twice: its transaction ID is known.
            async with self._ctx.db.transaction() as tx:
                await store.let_go(tx, event.delay_id)
            raise
        except Exception:
            log.exception("a delayed event cannot be sent")
            await self._fail(event, errors.internal())

    async def _fail(self, event: DelayedEvent, error: MatrixError) -> None:
        text = orjson.dumps(error.body()).decode()
        async with self._ctx.db.transaction() as tx:
            await store.finalise(tx, event.delay_id, error=text)
