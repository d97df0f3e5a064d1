"""Tells services what happens: one task for each that this process holds.

Laws. Whoever holds a service is woken by what may interest it, in its own process or
another; a transaction is written down before it is sent, and sent the same until it is
answered with 200. Failures make longer and longer pauses. A process that dies frees its
services by doing nothing.

Spec: application-service-api#pushing-events
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Self

import orjson
import structlog
from prometheus_client import Counter, Gauge

from federation.ids import UserId
from homeserver.appservices import store
from homeserver.appservices.calls import TRANSACTION_SECONDS, ServiceFailed
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.appservices.store import Claimed
from homeserver.bridging import window
from homeserver.bridging.batch import Writer
from homeserver.bridging.interest import Interest
from homeserver.bridging.thirdparty_api import Protocols
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room, RoomDelta

LEASE_SECONDS: Final = 7.0
_RENEW_SECONDS: Final = 2.0
_CLAIM_SECONDS: Final = 1.0
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 300.0
_STOP_SECONDS: Final = 5.0
_SAVE_SECONDS: Final = 0.25
_ROOMS: Final = frozenset((Kind.RECEIPT, Kind.TYPING))
_LISTS: Final = frozenset((Kind.DEVICE_LIST, Kind.TOKENS))

log = structlog.get_logger(__name__)
transactions = Counter(
    "hearth_appservice_transactions", "Transactions to services", ["outcome"]
)
told_events = Counter("hearth_appservice_events", "Events told to services")
held_services = Gauge("hearth_appservices_held", "Services that this process tells")


@dataclass(slots=True)
class _Held:
    """A service that this process tells; everything up to `position` is told."""

    service: Service
    interest: Interest
    position: int
    txn: int
    failures: int
    pending: bytes | None = None
    pending_upto: int = 0
    is_unsaved: bool = False
    is_idle: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class BridgeSender:
    """One process's share of the telling; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._services = ctx.parts.get(Services)
        self._me = secrets.token_hex(8)
        ctx.parts.put(Protocols())
        self._held: dict[str, _Held] = {}
        self._claim_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False

    # ── Life ─────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        live = self._ctx.live
        live.on_events(self._on_events)
        for kind in (
            *(Kind.MEMBERSHIP, Kind.RECEIPT, Kind.TYPING, Kind.PRESENCE),
            *(Kind.TO_DEVICE, Kind.DEVICE_KEYS, Kind.DEVICE_LIST, Kind.TOKENS),
        ):
            live.on_change(kind, self._on_change)
        live.on_reset(self._on_reset)
        self._services.on_change(self._on_services)
        self._tasks = [
            asyncio.create_task(self._repeat(work, pause), name=f"bridging-{name}")
            for name, work, pause in (
                ("claim", self._claim, self._pause_for_claims),
                ("renew", self._renew, self._pause_for_renewal),
            )
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is under way, then let other processes go on."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        held = list(self._held.values())
        running = [each.task for each in held if each.task is not None]
        for each in held:
            each.wake.set()
        if running:
            await asyncio.wait(running, timeout=_STOP_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with contextlib.suppress(DatabaseError):
            async with self._ctx.db.transaction() as tx:
                for each in held:
                    if each.is_unsaved and each.pending is None:
                        await store.save(
                            tx, each.service.service_id, self._me, each.position
                        )
                await store.release(tx, self._me)

    async def _repeat(
        self,
        work: Callable[[], Awaitable[None]],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        while True:
            try:
                await work()
            except DatabaseError as error:
                log.warning("bridging waits for the database", reason=str(error))
            except Exception:
                log.exception("bridging stumbled")
            await pause()

    async def _pause_for_claims(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLAIM_SECONDS):
                await self._claim_now.wait()
        self._claim_now.clear()

    async def _pause_for_renewal(self) -> None:
        await asyncio.sleep(_RENEW_SECONDS)

    # ── What happens ─────────────────────────────────────────────────────────────

    def _on_events(self, delta: RoomDelta, room: Room | None) -> None:
        for held in self._held.values():
            held.interest.follow(delta)
            if not held.wake.is_set() and held.interest.may_want(delta, room):
                held.wake.set()

    def _on_change(self, _position: int, change: Change) -> None:
        for held in self._held.values():
            if not held.wake.is_set() and self._may_want(held, change):
                held.wake.set()

    def _may_want(self, held: _Held, change: Change) -> bool:
        service = held.service
        if change.kind is Kind.MEMBERSHIP:
            return service.is_user(change.user_id or "")
        if service.registration.with_encryption:
            if change.kind in _LISTS:
                return True
            if change.kind is Kind.DEVICE_KEYS:
                return service.is_user(change.user_id or "")
        if not service.wants_ephemeral:
            return False
        if change.kind in _ROOMS:
            room = self._ctx.live.view.loaded_room(change.room_nid or 0)
            return held.interest.may_want_room(room)
        if change.kind is Kind.TO_DEVICE:
            users = change.reach.users if change.reach is not None else ()
            return any(map(service.is_user, users))
        return change.kind is Kind.PRESENCE

    def _on_reset(self) -> None:
        for held in self._held.values():
            held.interest.forget()
            held.wake.set()

    def _on_services(self) -> None:
        """Registrations changed: those that are others now are taken anew."""
        for held in list(self._held.values()):
            if self._services.get(held.service.service_id) is not held.service:
                self._drop(held)
        self._claim_now.set()

    # ── Holding ──────────────────────────────────────────────────────────────────

    async def _claim(self) -> None:
        free = [
            service.service_id
            for service in self._services.all
            if service.url is not None and service.service_id not in self._held
        ]
        if not free:
            return
        async with self._ctx.db.transaction() as tx:
            claimed = await store.claim(tx, self._me, LEASE_SECONDS, free)
        for each in claimed:
            service = self._services.get(each.service_id)
            if service is not None and each.service_id not in self._held:
                self._begin(service, each)

    def _begin(self, service: Service, claimed: Claimed) -> None:
        interest = Interest(service, self._ctx.db, self._ctx.live)
        held = _Held(service, interest, claimed.position, claimed.txn, claimed.failures)
        if claimed.pending is not None:
            held.pending = claimed.pending.encode()
            held.pending_upto = claimed.pending_upto or claimed.position
        self._held[service.service_id] = held
        held_services.set(len(self._held))
        held.task = asyncio.create_task(self._serve(held), name="bridge")

    def _drop(self, held: _Held) -> None:
        """Tell this service no longer, as this process has it."""
        if self._held.get(held.service.service_id) is held:
            del self._held[held.service.service_id]
            held_services.set(len(self._held))
        task = held.task
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _renew(self) -> None:
        """Keep what is ours; note how far those are for whom nothing happens."""
        if not self._held:
            return
        async with self._ctx.db.transaction() as tx:
            ours = await store.renew(tx, self._me, LEASE_SECONDS, list(self._held))
        for service_id, held in list(self._held.items()):
            if service_id not in ours:
                self._drop(held)
            elif held.is_idle and not held.wake.is_set():
                # Whatever came since would have woken it.
                held.position = self._ctx.live.position
                async with self._ctx.db.transaction() as tx:
                    await store.save(tx, service_id, self._me, held.position)

    # ── Telling one service ──────────────────────────────────────────────────────

    async def _serve(self, held: _Held) -> None:
        writer = Writer(self._ctx, held.interest)
        try:
            while not self._is_stopping:
                if not await self._step(held, writer):
                    break
        except DatabaseError as error:
            log.warning("bridging waits for the database", reason=str(error))
        except Exception:
            log.exception("bridging stumbled", service=held.service.service_id)
        finally:
            self._drop(held)

    async def _step(self, held: _Held, writer: Writer) -> bool:
        """Do the next thing; False: the service is not ours any more."""
        if held.pending is not None:
            return await self._send(held)
        held.wake.clear()
        upto = self._ctx.live.position
        if held.position < upto:
            batch = await writer.next(held.position, upto)
            if batch.is_empty:
                held.position = batch.upto
                return True
            each = held.service.registration
            body = batch.body(
                with_old_names=bool(each.push_ephemeral or each.soru_push_ephemeral)
            )
            return await self._prepare(held, body, batch.upto, len(batch.events))
        if held.is_unsaved:
            # The next transaction notes how far this one went; soon there may be one.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAVE_SECONDS):
                    await held.wake.wait()
                return True
            held.is_unsaved = False
            async with self._ctx.db.transaction() as tx:
                return await store.save(
                    tx, held.service.service_id, self._me, held.position
                )
        held.is_idle = True
        await held.wake.wait()
        held.is_idle = False
        return True

    async def _prepare(self, held: _Held, body: bytes, upto: int, events: int) -> bool:
        async with self._ctx.db.transaction() as tx:
            number = await store.prepare(
                tx,
                held.service.service_id,
                self._me,
                held.position,
                upto,
                body.decode(),
            )
        if number is None:
            return False
        held.txn, held.pending, held.pending_upto = number, body, upto
        told_events.inc(events)
        return True

    async def _send(self, held: _Held) -> bool:
        service, body = held.service, held.pending or b"{}"
        try:
            answer = await self._services.calls.ask(
                service,
                "PUT",
                "transactions",
                str(held.txn),
                body=body,
                seconds=TRANSACTION_SECONDS,
                old_base="",
            )
            reason = "" if answer.status == 200 else f"it answered {answer.status}"
        except ServiceFailed as error:
            reason = str(error)
        if reason:
            await self._fail(held, reason)
            return False
        transactions.labels("sent").inc()
        if b'"to_device":' in body:
            await self._delete_messages(held, body)
        held.position, held.pending = held.pending_upto, None
        if held.failures:
            log.info("a service is there again", service=service.service_id)
        held.failures = 0
        held.is_unsaved = True
        return True

    async def _fail(self, held: _Held, reason: str) -> None:
        transactions.labels("failed").inc()
        delay = min(_FIRST_DELAY * 2 ** min(held.failures, 20), _LONGEST_DELAY)
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - only spreads retries
        log.info(
            "a service did not take a transaction",
            service=held.service.service_id,
            reason=reason,
            retry_seconds=round(delay, 1),
        )
        async with self._ctx.db.transaction() as tx:
            await store.note_failure(tx, held.service.service_id, self._me, delay)

    async def _delete_messages(self, held: _Held, body: bytes) -> None:
        """Delete messages to devices of users that are the service's alone. MSC4203.

        Others may sync as well, and that deletes them.
        """
        told = orjson.loads(body).get("to_device", ())
        users = {UserId(each["to_user_id"]) for each in told}
        own = [user_id for user_id in users if held.service.owns_user(user_id)]
        if own:
            async with self._ctx.db.transaction() as tx:
                await window.delete_messages(tx, own, held.position, held.pending_upto)
