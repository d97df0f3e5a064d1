"""The application services that a process knows, the same in every process.

Laws. The table is what counts. Files are read at the start, and again when one changes
or the process gets SIGHUP; what differs from the table is written to it, and with that
every process learns of it. A file that cannot be used changes nothing while the server
runs, and stops its start.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import asyncpg
import orjson
import structlog
import yaml

from federation.canonical_json import JsonObject
from federation.ids import RoomAlias, ServerName, UserId
from homeserver import errors
from homeserver.appservices import store
from homeserver.appservices.calls import Calls
from homeserver.appservices.registration import (
    Service,
    UnusableRegistration,
    check_together,
    read_registration,
)
from homeserver.config import Config, ConfigError, Problem
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database, Tx
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live

_LOOK_SECONDS: Final = 2.0
_MAX_BYTES: Final = 1024 * 1024

log = structlog.get_logger(__name__)


class Registry:
    """What is in the table beside what files say: added, replaced, taken out."""

    def __init__(self, db: Database, live: Live, server_name: ServerName) -> None:
        self._db = db
        self._live = live
        self._server_name = server_name

    async def all(self) -> tuple[list[Service], dict[str, store.Told]]:
        """Those that hold, also from files, and how it stands with each by ID."""
        async with self._db.read() as tx:
            services = await stored_services(tx, self._server_name)
            return services, await store.overview(tx)

    async def put(self, value: JsonObject) -> str:
        """Add a registration, or replace one that was added; its ID.

        Raises: UnusableRegistration.
        """
        service = Service(read_registration(value), self._server_name)
        services, told = await self.all()
        found = told.get(service.service_id)
        if found is not None and not found.by_admin:
            raise UnusableRegistration("id: it comes from a file, which is to change")
        others = [s for s in services if s.service_id != service.service_id]
        check_together([*others, service])
        await self._commit(store.Added(service.service_id, _canonical(value)))
        return service.service_id

    async def remove(self, service_id: str) -> bool:
        """Take a registration out that was added; False: there is none."""
        _, told = await self.all()
        if service_id not in told or not told[service_id].by_admin:
            return False
        await self._commit(store.Added(service_id, None))
        return True

    async def _commit(self, added: store.Added) -> None:
        await self._live.commit(store.take_added, added, Change(Kind.APPSERVICES))


_Stamp = tuple[tuple[str, int, int], ...]


class Services:
    """All application services; `async with` loads them and keeps them current."""

    def __init__(self, config: Config, db: Database, live: Live) -> None:
        self.server_name: ServerName = config.server_name
        self.calls = Calls(config)
        self._db = db
        self._live = live
        self._registry = Registry(db, live, config.server_name)
        self._files = [Path(each) for each in config.appservices.registrations]
        self._services: dict[str, Service] = {}
        self._by_token: dict[str, Service] = {}
        self._stamp: _Stamp = ()
        self._look = asyncio.Event()
        self._is_stale = False
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []

    # ── Questions ────────────────────────────────────────────────────────────────

    @property
    def all(self) -> Sequence[Service]:
        """All of them, in order of their IDs."""
        return list(self._services.values())

    def get(self, service_id: str) -> Service | None:
        """The service of that ID."""
        return self._services.get(service_id)

    def by_token(self, token: str) -> Service | None:
        """The service whose `as_token` this is."""
        return self._by_token.get(token)

    def check_user(self, user_id: UserId, asking: Service | None = None) -> None:
        """Refuse a name that is reserved for another. Raises: M_EXCLUSIVE.

        A service gets only names within its own namespace.

        Spec: application-service-api#server-admin-style-permissions
        """
        if asking is not None and not asking.is_user(user_id):
            raise errors.exclusive("This name is not in the service's namespace.")
        if any(s.owns_user(user_id) for s in self._services.values() if s != asking):
            raise errors.exclusive("This name is reserved for an application service.")

    def check_alias(self, alias: RoomAlias, asking: Service | None = None) -> None:
        """Refuse an alias that is reserved for another. Raises: M_EXCLUSIVE.

        Spec: application-service-api#server-admin-style-permissions
        """
        if asking is not None and not asking.is_alias(alias):
            raise errors.exclusive("This alias is not in the service's namespace.")
        if any(s.owns_alias(alias) for s in self._services.values() if s != asking):
            raise errors.exclusive("This alias is reserved for an application service.")

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener()` whenever they are others than before."""
        self._listeners.append(listener)

    # ── Life ─────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Raises: ConfigError, when a registration file cannot be used."""
        self._live.on_change(Kind.APPSERVICES, self._on_change)
        self._live.on_reset(self._on_reset)
        self._stamp = self._stamp_now()
        try:
            found = await asyncio.to_thread(self._read_files)
        except UnusableRegistration as error:
            raise ConfigError("appservices", [Problem(None, str(error))]) from None
        await self._take(found)
        await self._load()
        await self.calls.__aenter__()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            # Not where the process has no signals of its own, such as in a thread.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reread)
        self._task = asyncio.create_task(self._run(), name="appservices")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.calls.__aexit__()

    def _on_change(self, _position: int, _change: Change) -> None:
        self._is_stale = True
        self._look.set()

    def _on_reset(self) -> None:
        self._is_stale = True
        self._look.set()

    def _reread(self) -> None:
        self._stamp = ()
        self._look.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._keep_current()
            except UnusableRegistration as error:
                log.warning("registrations stay as they were", reason=str(error))
            except (DatabaseError, asyncpg.PostgresError) as error:
                self._is_stale = True
                log.warning("registrations wait for the database", reason=str(error))
                await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_current(self) -> None:
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._stamp = stamp
            await self._take(await asyncio.to_thread(self._read_files))
        if self._is_stale:
            await self._load()

    # ── What administrators do ───────────────────────────────────────────────────

    async def put(self, value: JsonObject) -> None:
        """Add a registration, or replace one. Raises: UnusableRegistration."""
        await self._registry.put(value)
        await self._load()

    async def remove(self, service_id: str) -> bool:
        """Take a registration out that was added; False: there is none."""
        is_removed = await self._registry.remove(service_id)
        await self._load()
        return is_removed

    async def reload(self) -> None:
        """Read the files again. Raises: UnusableRegistration."""
        self._stamp = self._stamp_now()
        await self._take(await asyncio.to_thread(self._read_files))
        await self._load()

    # ── Files and table ──────────────────────────────────────────────────────────

    def _stamp_now(self) -> _Stamp:
        """What tells that a file has changed."""
        stamp = []
        for path in self._files:
            try:
                found = path.stat()
            except OSError:
                stamp.append((str(path), 0, 0))
            else:
                stamp.append((str(path), found.st_mtime_ns, found.st_size))
        return tuple(stamp)

    def _read_files(self) -> dict[str, str]:
        """Registrations as JSON, by ID. Raises: UnusableRegistration."""
        services = []
        found: dict[str, str] = {}
        for path in self._files:
            try:
                value = parse_file(path)
                service = Service(read_registration(value), self.server_name)
            except UnusableRegistration as error:
                raise UnusableRegistration(f"{path}: {error}") from None
            services.append(service)
            found[service.service_id] = _canonical(value)
        check_together(services)
        return found

    async def _take(self, found: dict[str, str]) -> None:
        """Write to the table what differs."""
        async with self._db.read() as tx:
            known = await store.of_files(tx)
            every = await stored_services(tx, self.server_name)
        mine = [
            Service(read_registration(orjson.loads(text)), self.server_name)
            for text in found.values()
        ]
        check_together([*mine, *(s for s in every if s.service_id not in found)])
        if sorted(known) != sorted(found.values()):
            change = Change(Kind.APPSERVICES)
            await self._live.commit(store.take_files, store.Files(found), change)

    async def _load(self) -> None:
        """Know what the table says."""
        self._is_stale = False
        async with self._db.read() as tx:
            services = await stored_services(tx, self.server_name)
        old = {each.service_id: each for each in self._services.values()}
        # Who has not changed stays the same object, with what it remembers.
        self._services = {
            new.service_id: old[new.service_id]
            if new.service_id in old
            and old[new.service_id].registration == new.registration
            else new
            for new in services
        }
        self._by_token = {
            each.registration.as_token: each for each in self._services.values()
        }
        for listener in self._listeners:
            listener()


async def stored_services(tx: Tx, server_name: ServerName) -> list[Service]:
    """The services that hold, as the table has them."""
    services = []
    for text in await store.registrations(tx):
        try:
            registration = read_registration(orjson.loads(text))
            services.append(Service(registration, server_name))
        except UnusableRegistration as error:
            log.warning("a registration in the database is unusable", reason=error)
    return services


def parse_file(path: Path) -> JsonObject:
    """The YAML of a file. Raises: UnusableRegistration."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UnusableRegistration("the file is too large")
        value = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise UnusableRegistration(f"it cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        # The text around the mistake may be a token.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise UnusableRegistration(f"it is not YAML{line}") from None
    if not isinstance(value, dict):
        raise UnusableRegistration("it holds no registration")
    return value


def _canonical(value: JsonObject) -> str:
    """The same registration always gives the same text."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError as error:
        raise UnusableRegistration(f"it holds what JSON cannot: {error}") from None
