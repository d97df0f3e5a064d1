"""Delivers to one destination after another: transactions, their order, failures."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
from prometheus_client import Counter

from federation.bodies import MAX_EDUS, MAX_PDUS, Transaction, TransactionResult
from federation.ids import ServerName
from federation.wire import calls
from federation.wire.backoff import FIRST_SECONDS, LONGEST_SECONDS
from federation.wire.errors import NotReachable, RemoteError, WireError
from homeserver.context import Context
from homeserver.db.errors import DatabaseUnavailable
from homeserver.destinations import store
from homeserver.destinations.destination import (
    Batch,
    Destination,
    Item,
    cut,
    in_order,
)
from homeserver.destinations.store import OutgoingEvent

# A failing destination that is tried again within this stays in memory.
SHORT_PAUSE_SECONDS: Final = 60.0
# A server that was away for more events than this gets the last of each room.
MAX_BACKLOG: Final = 1000
_DATABASE_SECONDS: Final = 1.0
_AT_ONCE: Final = 200

log = structlog.get_logger(__name__)
transactions = Counter(
    "hearth_sent_transactions_total", "Transactions sent to other servers", ("outcome",)
)


class Delivery:
    """How a process sends to the destinations that it holds.

    `is_allowed` tells whether it may go on. `on_asleep` is called with a destination
    that is given up for the seconds named. `moved` collects those whose cursor moved.
    """

    def __init__(
        self,
        ctx: Context,
        holder: str,
        is_allowed: Callable[[], bool],
        on_asleep: Callable[[Destination, float], None],
    ) -> None:
        self._ctx = ctx
        self._holder = holder
        self._is_allowed = is_allowed
        self._on_asleep = on_asleep
        self.moved: set[ServerName] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._numbers = iter(range(1, 2**62))

    def kick(self, destination: Destination) -> None:
        """Send what there is, unless that is under way or has to wait."""
        if destination.task is None and not destination.is_paused:
            destination.task = asyncio.create_task(
                self._send_all(destination), name=f"send to {destination.name}"
            )

    def resume(self, destination: Destination) -> None:
        """End a pause."""
        if destination.timer is not None:
            destination.timer.cancel()
            destination.timer = None
        self.kick(destination)

    async def _send_all(self, destination: Destination) -> None:
        try:
            while self._is_allowed() and await self._send_some(destination):
                pass
        except DatabaseUnavailable as error:
            log.info("sender waits for the database", reason=str(error))
            destination.fall_behind()
            self._pause(destination, _DATABASE_SECONDS)
        except Exception:
            log.exception("cannot send", destination=destination.name)
            destination.fall_behind()
            self._pause(destination, FIRST_SECONDS)
        finally:
            destination.task = None

    async def _send_some(self, destination: Destination) -> bool:
        """Send the next that there is; False when there is none, or it failed."""
        if destination.unanswered is not None:
            return await self._send(destination, destination.unanswered[2])
        if destination.is_behind:
            return await self._catch_up(destination)
        batch = destination.take()
        return batch is not None and await self._send(destination, batch)

    # ── From the database ────────────────────────────────────────────────────────

    async def _catch_up(self, destination: Destination) -> bool:
        """Send what the database has; False when the destination failed."""
        upto = self._ctx.live.position
        # Whatever comes after this is queued, so nothing falls between.
        destination.queue.clear()
        destination.seen = upto
        destination.is_behind = False
        async for batch in self._batches(destination, upto):
            if not await self._send(destination, batch):
                destination.fall_behind()
                return False
            if not self._is_allowed():
                destination.fall_behind()
            if destination.is_behind:
                return True
        destination.cursor = max(destination.cursor, upto)
        destination.was_away = False
        self.moved.add(destination.name)
        return True

    async def _batches(
        self, destination: Destination, upto: int
    ) -> AsyncIterator[Batch]:
        """What is outgoing to the destination, transaction by transaction."""
        name = destination.name
        latest = await self._latest_after_long_absence(destination, upto)
        async with self._ctx.db.read() as tx:
            sticky = await store.sticky_events(
                tx, name, destination.cursor, upto, was_away=latest is not None
            )
        for start in range(0, len(sticky), MAX_PDUS):
            items = [
                Item(e.position, event_nid=e.event_nid)
                for e in sticky[start : start + MAX_PDUS]
            ]
            yield Batch(items, destination.cursor)  # the cursor stays
        while destination.cursor < upto:
            after = destination.cursor
            async with self._ctx.db.read() as tx:
                if latest is None:
                    events = await store.outgoing_events(
                        tx, name, after, upto, MAX_PDUS + 1
                    )
                else:
                    events = [e for e in latest if e.position > after][: MAX_PDUS + 1]
                # Events of one position stay together.
                last = events[-1].position - 1 if len(events) > MAX_PDUS else upto
                receipts = await store.outgoing_receipts(
                    tx, name, after, last, MAX_EDUS
                )
                edus = await store.outgoing_edus(tx, name, after, last, MAX_EDUS)
            # A full list may have more behind it: go no further than its end.
            if len(receipts) == MAX_EDUS:
                last = min(last, receipts[-1].position)
            if len(edus) == MAX_EDUS:
                last = min(last, edus[-1][0])
            items = in_order(
                (Item(e.position, event_nid=e.event_nid) for e in events),
                (Item(r.position, receipt=r.receipt) for r in receipts),
                (Item(position, edu=edu) for position, edu in edus),
            )
            yield cut([item for item in items if item.position <= last], last)

    async def _latest_after_long_absence(
        self, destination: Destination, upto: int
    ) -> list[OutgoingEvent] | None:
        """The last event of each room, when it would be far too many; else None.

        The destination fetches from us, and from others, what it wants of the rest.
        """
        if not destination.was_away:
            return None
        name, after = destination.name, destination.cursor
        async with self._ctx.db.read() as tx:
            backlog = await store.outgoing_events(
                tx, name, after, upto, MAX_BACKLOG + 1
            )
            if len(backlog) <= MAX_BACKLOG:
                return None
            latest = await store.latest_outgoing_events(tx, name, after, upto)
        log.info("backlog skipped", destination=name, rooms=len(latest))
        return latest

    # ── To the wire ──────────────────────────────────────────────────────────────

    async def _send(self, destination: Destination, batch: Batch) -> bool:
        """Send one transaction; False when the destination has to wait."""
        txn_id, transaction = await self._transaction(destination, batch)
        destination.active_at = self._ctx.clock.monotonic()
        if transaction.pdus or transaction.edus:
            try:
                async with self._slots:
                    result = await calls.send_transaction(
                        self._ctx.wire, destination.name, txn_id, transaction
                    )
            except WireError as error:
                destination.unanswered = (txn_id, transaction, batch)
                await self._failed(destination, error)
                return False
            _count(destination, result)
        destination.unanswered = None
        destination.cursor = max(destination.cursor, batch.last)
        self.moved.add(destination.name)
        if destination.is_failing:
            await self._recovered(destination)
        return True

    async def _transaction(
        self, destination: Destination, batch: Batch
    ) -> tuple[str, Transaction]:
        """The transaction of a batch; one that was not answered stays the same."""
        if destination.unanswered is not None and destination.unanswered[2] is batch:
            return destination.unanswered[:2]
        events = await self._ctx.live.events.by_nids(batch.event_nids)
        transaction = Transaction(
            origin=self._ctx.server_name,
            origin_server_ts=self._ctx.clock.ms(),
            pdus=tuple(event.shown.json for event in events.values()),
            edus=tuple(batch.edus()),
        )
        return f"{self._holder}{next(self._numbers)}", transaction

    # ── Failures ─────────────────────────────────────────────────────────────────

    async def _failed(self, destination: Destination, error: WireError) -> None:
        transactions.labels("failed").inc()
        delay = self._delay(destination, error)
        log.info(
            "destination fails",
            destination=destination.name,
            reason=error.why,
            retry_seconds=round(delay),
        )
        destination.is_silent = isinstance(error, NotReachable)
        destination.is_failing = destination.was_away = True
        destination.retry_seconds = delay
        destination.drop_fleeting()
        is_long = delay > SHORT_PAUSE_SECONDS
        if is_long:
            self._on_asleep(destination, delay)  # it costs nothing while it is gone
        else:
            self._pause(destination, delay)
        name, cursor = destination.name, destination.cursor
        async with self._ctx.db.transaction() as tx:
            await store.save_cursors(tx, [(name, cursor)], self._holder, release=False)
            await store.note_failure(tx, name, self._holder, delay, release=is_long)

    def _delay(self, destination: Destination, error: WireError) -> float:
        """How long to wait: by the shared back-off, or twice as long as before."""
        if isinstance(error, NotReachable):
            retry_at = self._ctx.wire.backoff.retry_at(destination.name)
            if retry_at is not None:
                left = retry_at - self._ctx.clock.ms() / 1000
                return max(0.1, min(left, LONGEST_SECONDS))
        if isinstance(error, RemoteError) and error.retry_after_ms is not None:
            return max(0.1, min(error.retry_after_ms / 1000, LONGEST_SECONDS))
        return min(max(FIRST_SECONDS, destination.retry_seconds * 2), LONGEST_SECONDS)

    async def _recovered(self, destination: Destination) -> None:
        destination.is_failing = False
        destination.retry_seconds = 0.0
        async with self._ctx.db.transaction() as tx:
            await store.note_recovery(tx, (destination.name,))

    def _pause(self, destination: Destination, delay: float) -> None:
        if destination.timer is not None:
            destination.timer.cancel()
        loop = asyncio.get_running_loop()
        destination.timer = loop.call_later(delay, self.resume, destination)


def _count(destination: Destination, result: TransactionResult) -> None:
    transactions.labels("sent").inc()
    for event_id, why in result.pdus.items():
        if why is not None:
            log.info(
                "event not taken",
                destination=destination.name,
                event_id=event_id,
                reason=why[:300],
            )
