"""One LISTEN on a connection of its own, which comes back when it is lost."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import asyncpg
import structlog

from homeserver.db.errors import DatabaseUnavailable
from homeserver.db.sessions import notice_silence

OnNotification = Callable[[str | None], None]

CONNECT_SECONDS: Final = 10.0
# A connection that died without a word is noticed by asking it something.
PROBE_SECONDS: Final = 20.0
MAX_PAUSE_SECONDS: Final = 5.0

_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)

log = structlog.get_logger(__name__)


class Listener:
    """Calls back with each payload, and with None when some may have been missed."""

    def __init__(self, dsn: str, channel: str, callback: OnNotification) -> None:
        self._dsn = dsn
        self._channel = channel
        self._callback = callback
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen from now on. Raises: DatabaseUnavailable when that fails."""
        try:
            connection = await self._connect()
        except _ERRORS as error:
            raise DatabaseUnavailable(
                f"the database cannot be reached: {error}"
            ) from error
        self._task = asyncio.create_task(self._run(connection))

    async def stop(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": "hearth listen"},
        )
        notice_silence(connection)
        try:
            await connection.add_listener(self._channel, self._on_payload)
        except BaseException:
            connection.terminate()
            raise
        self._callback(None)
        return connection

    def _on_payload(
        self, _connection: object, _pid: int, _channel: str, payload: object
    ) -> None:
        self._callback(str(payload))

    async def _run(self, connection: asyncpg.Connection) -> None:
        pause = 0.05
        while True:
            try:
                await self._until_lost(connection)
            finally:
                connection.terminate()
            log.warning("listening connection lost", channel=self._channel)
            while True:
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE_SECONDS, pause * 2)
                with contextlib.suppress(*_ERRORS):
                    connection = await self._connect()
                    break
            log.info("listening again", channel=self._channel)
            pause = 0.05

    async def _until_lost(self, connection: asyncpg.Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not connection.is_closed():
            try:
                await asyncio.wait_for(lost.wait(), PROBE_SECONDS)
            except TimeoutError:
                try:
                    await connection.execute("SELECT 1", timeout=CONNECT_SECONDS)
                except _ERRORS:
                    return
