"""Whose is this access token? Asked with every request, so answered from memory.

Laws. What is remembered of a token is dropped by the change that ends it (Kind.TOKENS),
in every process, before its own process answers the request that ended it. What was
read from the database while such a change went by is used once and not remembered.

Spec: client-server-api#using-access-tokens
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from federation.ids import DeviceId, UserId
from homeserver import errors
from homeserver.accounts import masquerade, tokens
from homeserver.accounts.store import devices
from homeserver.accounts.store import tokens as store
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.bounded import MEMORY, MIB, LruCache, Worth
from homeserver.clock import Clock
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database
from homeserver.http.requests import Request, Requester
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live

_REMEMBERED_BYTES: Final = 64 * MIB
_REMEMBERED_COST: Final = 900  # with its part of the index by user
# "May be a few minutes out of date."
SEEN_SECONDS: Final = 60.0
MAX_UNWRITTEN: Final = 20_000
_SEEN: Final = 400  # bytes, roughly

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Remembered:
    requester: Requester
    expires_at_ms: int | None
    seen_ms: int = 0
    seen_ip: str = ""


class Authentication:
    """The access tokens that one process knows."""

    def __init__(
        self, db: Database, live: Live, clock: Clock, services: Services
    ) -> None:
        self._db = db
        self._services = services
        self._clock = clock
        self._known: LruCache[bytes, _Remembered] = LruCache(
            "access tokens",
            _REMEMBERED_BYTES,
            _REMEMBERED_COST,
            Worth.DEAR,
            dropped=self._drop,
        )
        self._by_user: dict[str, tuple[bytes, ...]] = {}
        # Changes so far: whoever reads compares before remembering.
        self._changes = 0
        self._unwritten: dict[tuple[UserId, DeviceId], devices.Seen] = {}
        self._writer: asyncio.Task[None] | None = None
        MEMORY.add_queue(
            "devices seen", self, lambda it: it.unwritten * _SEEN, MAX_UNWRITTEN * _SEEN
        )
        live.on_change(Kind.TOKENS, self._forget)
        live.on_reset(self.forget_all)
        services.on_change(self.forget_all)

    @property
    def unwritten(self) -> int:
        """Of how many devices it is to be written when they were last seen."""
        return len(self._unwritten)

    def start(self) -> None:
        """Begin to note when devices were last seen."""
        self._writer = asyncio.create_task(self._write_seen(), name="devices-seen")

    async def stop(self) -> None:
        """Write what is not written yet, and end."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        with contextlib.suppress(DatabaseError, asyncpg.PostgresError):
            await self.write_seen()

    async def authenticate(
        self,
        ctx: Context,  # noqa: ARG002 - the signature of Authenticators
        request: Request,
        token: str,
    ) -> Requester:
        """The user and device of a token. Raises: M_UNKNOWN_TOKEN.

        Spec: client-server-api#using-access-tokens
        """
        service = self._services.by_token(token)
        if service is not None:
            return await self._masquerade(service, request)
        token_hash = tokens.hash_of(token)
        known = self._known.get(token_hash)
        if known is None:
            if not tokens.is_well_formed(token):
                raise errors.unknown_token()
            known = await self._look_up(token_hash)
        now = self._clock.ms()
        if known.expires_at_ms is not None and now >= known.expires_at_ms:
            raise errors.unknown_token(
                "The access token has run out. Refresh it, or log in again.",
                soft_logout=True,
            )
        if now - known.seen_ms > SEEN_SECONDS * 1000 or known.seen_ip != request.ip:
            self._see(known, now, request.ip)
        return known.requester

    async def _look_up(self, token_hash: bytes) -> _Remembered:
        changes = self._changes
        async with self._db.read() as tx:
            found = await store.known_token(tx, token_hash)
        if found is None or found.is_deactivated:
            raise errors.unknown_token()
        if found.revokes is not None and found.refresh_hash is not None:
            # The first use of a refreshed token ends the refresh token before it.
            async with self._db.transaction() as tx:
                await store.revoke_replaced(tx, found.refresh_hash)
        remembered = _Remembered(
            Requester(
                found.user_id,
                found.device_id,
                token_hash,
                is_admin=found.is_admin,
                is_guest=found.is_guest,
                is_locked=found.is_locked,
                is_suspended=found.is_suspended,
            ),
            int(found.expires_at.timestamp() * 1000) if found.expires_at else None,
        )
        if changes == self._changes:
            self._remember(token_hash, remembered)
        return remembered

    async def _masquerade(self, service: Service, request: Request) -> Requester:
        """The user for whom a service asks. Raises: M_FORBIDDEN, M_UNKNOWN_DEVICE."""
        user_id, device_id = masquerade.asked_for(service, request)
        name = f"{service.registration.as_token}\0{user_id}\0{device_id or ''}"
        key = tokens.hash_of(name)
        known = self._known.get(key)
        if known is None:
            changes = self._changes
            requester = await masquerade.find(self._db, service, user_id, device_id)
            known = _Remembered(requester, None)
            if changes == self._changes:
                self._remember(key, known)
        now = self._clock.ms()
        if now - known.seen_ms > SEEN_SECONDS * 1000:
            self._see(known, now, request.ip)
        return known.requester

    def _remember(self, token_hash: bytes, remembered: _Remembered) -> None:
        self._known.put(token_hash, remembered)
        user_id = remembered.requester.user_id
        # Most users have one or two: a set of them would take four times the memory.
        known = self._by_user.get(user_id, ())
        if token_hash not in known:
            self._by_user[user_id] = (*known, token_hash)

    def _drop(self, token_hash: bytes, remembered: _Remembered) -> None:
        user_id = remembered.requester.user_id
        left = tuple(h for h in self._by_user.get(user_id, ()) if h != token_hash)
        if left:
            self._by_user[user_id] = left
        else:
            self._by_user.pop(user_id, None)

    def _forget(self, _position: int, change: Change) -> None:
        self._changes += 1
        for token_hash in self._by_user.pop(change.user_id or "", ()):
            self._known.pop(token_hash)

    def forget_all(self) -> None:
        """Know nothing any more; everything is read again when it is asked for."""
        self._changes += 1
        self._known.clear()
        self._by_user.clear()

    # ── Devices seen ─────────────────────────────────────────────────────────────────

    def _see(self, known: _Remembered, now: int, ip: str) -> None:
        known.seen_ms, known.seen_ip = now, ip
        requester = known.requester
        if requester.device_id is None:
            return
        key = (requester.user_id, requester.device_id)
        if key in self._unwritten or len(self._unwritten) < MAX_UNWRITTEN:
            self._unwritten[key] = devices.Seen(*key, now, ip)

    async def _write_seen(self) -> None:
        while True:
            await asyncio.sleep(SEEN_SECONDS)
            try:
                await self.write_seen()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("devices seen not noted", reason=str(error))

    async def write_seen(self) -> None:
        """Write when devices were last seen, all in one statement."""
        seen, self._unwritten = self._unwritten, {}
        if not seen:
            return
        async with self._db.transaction() as tx:
            await devices.note_seen(tx, list(seen.values()))
