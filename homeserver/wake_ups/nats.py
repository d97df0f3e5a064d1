"""Wake-ups by NATS, where NOTIFY is outgrown.

Subjects begin with a digest of the server's name, so that several servers can share one
NATS. The connection is looked for in the background and comes back when it was lost;
until then the processes find each other's work by looking at the database.
"""

import asyncio
import contextlib
import hashlib
import ssl
from typing import Any, Final

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from federation.ids import ServerName
from homeserver.config import Config
from homeserver.config.wake_ups import WakeUps as Settings
from homeserver.db.pool import Database
from homeserver.wake_ups.base import OnWakeUp, check_size

_CONNECT_SECONDS: Final = 5
_RETRY_SECONDS: Final = 0.5
_PING_SECONDS: Final = 10
_PENDING_BYTES: Final = 256 * 1024  # of ours, while the connection is away
_PENDING_MESSAGES: Final = 10_000  # of others, that were not taken yet
_PENDING_SIZE: Final = 8 * 1024 * 1024
_CLOSE_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class NatsWakeUps:
    """One process's connection to NATS."""

    def __init__(self, config: Config, db: Database) -> None:
        self._db = db
        self._settings = config.wake_ups
        self._prefix = _prefix(config.server_name)
        self._client = Client()
        self._listeners: list[tuple[str, OnWakeUp]] = []
        self._connecting: asyncio.Task[None] | None = None

    async def listen(self, subject: str, callback: OnWakeUp) -> None:
        """Call back with every payload from now on, and with None at the start."""
        self._listeners.append((subject, callback))
        if self._connecting is None:
            # A database that was lost, and is perhaps another one now, has to be told.
            await self._db.listen("hearth_watch", self._on_database)
            self._connecting = asyncio.create_task(self._connect(), name="nats")
        elif self._client.is_connected:
            await self._subscribe(subject, callback)
        callback(None)

    async def tell(self, subject: str, payload: str) -> bool:
        """Send a payload to all who listen; False: NATS is not there."""
        encoded = check_size(payload)
        if not self._client.is_connected:
            return False
        try:
            await self._client.publish(f"{self._prefix}.{subject}", encoded)
        except (nats.errors.Error, OSError) as error:
            log.warning("nats takes nothing", reason=repr(error))
            return False
        return True

    async def close(self) -> None:
        """Listen and tell no longer."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.close()

    async def _connect(self) -> None:
        """Connect, however long it takes; from then on the client reconnects."""
        told = False
        while True:
            try:
                await self._client.connect(
                    **_options(self._settings),
                    reconnected_cb=self._on_reconnected,
                    disconnected_cb=_on_disconnected,
                    error_cb=self._on_error,
                )
                for subject, callback in self._listeners:
                    await self._subscribe(subject, callback)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if not told:
                    log.warning("nats cannot be reached", reason=repr(error))
                told = True
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                log.info("nats is connected")
                self._may_have_missed()
                return

    async def _subscribe(self, subject: str, callback: OnWakeUp) -> None:
        async def take(message: Msg) -> None:
            callback(message.data.decode(errors="replace"))

        await self._client.subscribe(
            f"{self._prefix}.{subject}",
            cb=take,
            pending_msgs_limit=_PENDING_MESSAGES,
            pending_bytes_limit=_PENDING_SIZE,
        )
        # Known to the server before anybody relies on it.
        await self._client.flush(_CONNECT_SECONDS)

    def _may_have_missed(self) -> None:
        for _, callback in self._listeners:
            callback(None)

    def _on_database(self, payload: str | None) -> None:
        if payload is None:
            self._may_have_missed()

    async def _on_reconnected(self) -> None:
        log.info("nats is connected again")
        self._may_have_missed()

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self._may_have_missed()
        elif self._client.is_connected:
            log.warning("nats", reason=repr(error))


async def _on_disconnected() -> None:
    log.warning("nats was lost; looking at the database meanwhile")


def _prefix(name: ServerName) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"hearth.{digest[:16]}"


def _options(settings: Settings) -> dict[str, Any]:
    """How to connect."""
    options: dict[str, Any] = {
        "servers": list(settings.nats_urls),
        "name": "hearth",
        "connect_timeout": _CONNECT_SECONDS,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RETRY_SECONDS,
        "ping_interval": _PING_SECONDS,
        "max_outstanding_pings": 2,
        "pending_size": _PENDING_BYTES,
    }
    if settings.nats_user:
        options |= {"user": settings.nats_user, "password": settings.nats_password}
    if settings.nats_credentials_file:
        options["user_credentials"] = settings.nats_credentials_file
    if any(url.startswith("tls:") for url in settings.nats_urls):
        options["tls"] = _tls(settings)
    return options


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.nats_ca_file or None)
    if settings.nats_tls_certificate:
        context.load_cert_chain(settings.nats_tls_certificate, settings.nats_tls_key)
    return context
