"""Sends what is due: in every process, and what is for one room by one at a time."""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import orjson
import structlog

from homeserver import errors
from homeserver.claimed import Claimed
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.delayed import store
from homeserver.delayed.deliver import PASSING, deliver
from homeserver.delayed.store import DelayedEvent
from homeserver.errors import MatrixError
from homeserver.http.limits import Limits, writes

# Every process looks so often; one that knows what comes next looks just then.
_LOOK_SECONDS: Final = 1.0
_ROOMS_AT_ONCE: Final = 50
_RETRY_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class DelayedSender:
    """One process's task; `async with` runs it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        # What a user may send at once holds for what was scheduled for one moment too.
        self._limits = Limits(ctx.clock.monotonic, enabled=ctx.config.limits.enabled)
        self._work = Claimed(
            ctx.db,
            "delayed-events",
            claim=_claim,
            renew=_renew,
            work=self._send_in_order,
            at_once=_ROOMS_AT_ONCE,
            look_s=_LOOK_SECONDS,
            until_next=store.seconds_to_next,
        )

    async def __aenter__(self) -> Self:
        await self._work.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.__aexit__(kind, error, trace)

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
                await store.let_go(tx, (event.delay_id,), _RETRY_SECONDS)
        except Exception:
            log.exception("a delayed event cannot be sent")
            await self._fail(event, errors.internal())

    async def _fail(self, event: DelayedEvent, error: MatrixError) -> None:
        text = orjson.dumps(error.body()).decode()
        async with self._ctx.db.transaction() as tx:
            await store.finalise(tx, event.delay_id, error=text)


async def _claim(tx: Tx, seconds: float, most: int) -> list[Sequence[DelayedEvent]]:
    """What is due, room by room, each in its order."""
    rooms: dict[str, list[DelayedEvent]] = {}
    for event in await store.claim_due(tx, most, seconds):
        rooms.setdefault(event.room_id, []).append(event)
    return list(rooms.values())


async def _renew(
    tx: Tx, several: Sequence[Sequence[DelayedEvent]], seconds: float
) -> None:
    delay_ids = [event.delay_id for events in several for event in events]
    await store.let_go(tx, delay_ids, seconds)
