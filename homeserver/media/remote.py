"""Files of other servers: fetched once, however many ask, and read while they arrive.

A fetch goes on when those who asked for it have left, since its file is kept. Two
processes that are asked at the same moment both fetch; the file is stored once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from federation.wire import calls_media
from federation.wire.calls_media import RemoteFile, Wanted
from federation.wire.client import WireClient
from federation.wire.errors import RemoteError, WireError
from homeserver import errors
from homeserver.bounded import MIB, LruCache, Worth
from homeserver.config.media import Media as MediaConfig
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database
from homeserver.errors import MatrixError
from homeserver.http.files import in_thread
from homeserver.media import headers, store
from homeserver.media.disk import open_raw, read_exactly
from homeserver.media.files import Files
from homeserver.media.receiving import TooBig, drafting, receive
from homeserver.media.scan import Scanner
from homeserver.media.store import Content, Mxc

# A file may take long, but not for ever.
MOST_SECONDS: Final = 3600.0
MOST_AT_ONCE: Final = 100
# So long nobody asks again for what could not be had.
FAILED_SECONDS: Final = 30.0
_FAILED_BYTES: Final = 8 * MIB
_FAILED_COST: Final = 1500
_PIECE: Final = 256 * 1024

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Fetch:
    """A file on its way to us."""

    mxc: Mxc
    # What its server says of it, once it has begun to arrive.
    content_type: str = headers.OCTETS
    filename: str | None = None
    path: Path | None = None
    written: int = 0
    # Once it is stored.
    content: Content | None = None
    error: MatrixError | None = None
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def pulse(self) -> None:
        """Wake those who wait for the fetch to go on."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self) -> None:
        """Wait until there is more of it, or it has ended."""
        await self._moved.wait()

    async def begun(self) -> None:
        """Wait until its head is known. Raises: MatrixError, when it cannot be had."""
        while self.path is None and self.content is None and self.error is None:
            await self.moved()
        if self.error is not None:
            raise self.error

    async def stored(self) -> Content:
        """Wait until all of it is stored. Raises: MatrixError."""
        while self.content is None and self.error is None:
            await self.moved()
        if self.content is None:
            raise self.error or errors.bad_gateway("The file did not come.")
        return self.content


class Fetches:
    """The fetches of one process."""

    def __init__(
        self,
        db: Database,
        wire: WireClient,
        files: Files,
        scanner: Scanner,
        config: MediaConfig,
        now: Callable[[], float],
    ) -> None:
        self._db = db
        self._wire = wire
        self._files = files
        self._scanner = scanner
        self._config = config
        self._now = now
        self._fetches: dict[Mxc, Fetch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: LruCache[Mxc, tuple[float, MatrixError]] = LruCache(
            "files not to be had", _FAILED_BYTES, _FAILED_COST, Worth.NEEDED
        )

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_under_way(self, mxc: Mxc) -> bool:
        """Whether the file is being fetched already."""
        return mxc in self._fetches

    def fetch(self, mxc: Mxc, timeout_ms: int) -> Fetch:
        """Fetch a file, or join who does already. Raises: MatrixError."""
        fetch = self._fetches.get(mxc)
        if fetch is not None:
            return fetch
        failed = self._failed.get(mxc)
        if failed is not None and failed[0] > self._now():
            raise failed[1]
        if len(self._fetches) >= MOST_AT_ONCE:
            raise errors.overloaded()
        fetch = self._fetches[mxc] = Fetch(mxc)
        task = asyncio.create_task(self._run(fetch, timeout_ms), name=f"fetch {mxc}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return fetch

    async def _run(self, fetch: Fetch, timeout_ms: int) -> None:
        mxc = fetch.mxc
        try:
            async with asyncio.timeout(MOST_SECONDS):
                fetch.content = await self._take(fetch, timeout_ms)
        except asyncio.CancelledError:
            fetch.error = errors.unavailable()
            raise
        except (WireError, TooBig, TimeoutError, MatrixError) as error:
            fetch.error = as_matrix_error(error)
            log.info("file not fetched", mxc=str(mxc), reason=repr(error))
        except (OSError, DatabaseError):
            fetch.error = errors.unavailable()
            log.exception("file not stored", mxc=str(mxc))
        except BaseException:
            fetch.error = errors.internal()
            raise
        finally:
            if fetch.error is not None and not _passes_soon(fetch.error):
                until = self._now() + FAILED_SECONDS
                self._failed.put(mxc, (until, fetch.error))
            self._fetches.pop(mxc, None)
            fetch.pulse()

    async def _take(self, fetch: Fetch, timeout_ms: int) -> Content:
        """Receive the file and store it. Raises: WireError, TooBig, MatrixError."""
        most = self._config.remote_bytes
        wanted = Wanted(fetch.mxc.origin, fetch.mxc.media_id, timeout_ms)
        async with (
            calls_media.get_content(self._wire, wanted) as file,
            drafting(self._files.spool()) as draft,
        ):
            if file.size is not None and file.size > most:
                raise TooBig
            fetch.content_type = headers.content_type(file.content_type)
            fetch.filename = _name_of(file)
            await draft.add(())
            if not self._scanner.is_on:
                # Nobody gets any of it before it has been looked at.
                fetch.path = draft.path
                fetch.pulse()

            def on_written() -> None:
                fetch.written = draft.size
                fetch.pulse()

            await receive(draft, file.chunks, most, on_written)
            await self._check(draft.path)
            content = Content(
                draft.sha256,
                draft.size,
                fetch.content_type,
                fetch.filename,
                await draft.keep(),
            )
            kept = await keep_copy(self._db, self._files, fetch.mxc, content)
            if kept is None:
                raise errors.not_found("This file has been removed.")
        return kept

    async def _check(self, path: Path) -> None:
        try:
            await self._scanner.check(path)
        except MatrixError as error:
            if error.errcode != "M_FORBIDDEN":
                raise
            raise errors.not_found("This file has been removed.") from None

    async def read(self, fetch: Fetch) -> AsyncIterator[bytes]:
        """The file while it arrives. Raises: MatrixError, when it breaks off."""
        file = await self._open(fetch)
        if isinstance(file, Content):
            part = await self._files.open(file, 0, file.size)
            try:
                async for piece in part.chunks():
                    yield piece
            finally:
                part.close()
            return
        offset = 0
        try:
            while True:
                while offset < fetch.written:
                    size = min(_PIECE, fetch.written - offset)
                    piece = await in_thread(read_exactly, file, offset, size)
                    offset += len(piece)
                    yield piece
                if fetch.content is not None and offset >= fetch.content.size:
                    return
                if fetch.error is not None:
                    raise fetch.error
                await fetch.moved()
        finally:
            await asyncio.shield(in_thread(file.close))

    async def _open(self, fetch: Fetch) -> BinaryIO | Content:
        """The file where it is just now. Raises: MatrixError."""
        if fetch.content is None and fetch.path is not None:
            try:
                return await in_thread(open_raw, fetch.path)
            except FileNotFoundError:
                pass  # on its way to its place, or given up
        return await fetch.stored()


async def keep_copy(
    db: Database, files: Files, mxc: Mxc, content: Content
) -> Content | None:
    """Note a file that has been stored, for a URI that is no upload; where it is.

    None: its content is blocked.
    """
    async with db.transaction() as tx:
        place = await store.add_file(tx, content.sha256, content.size, content.place)
        if place is not None:
            await store.add(tx, mxc, None, content)
    if place != content.place:
        await files.delete(content.place)
    return None if place is None else replace(content, place=place)


def _name_of(file: RemoteFile) -> str | None:
    return None if file.filename is None else file.filename[: headers.MAX_NAME]


def _passes_soon(error: MatrixError) -> bool:
    """Whether asking again at once may help."""
    return error.status in (429, 503) or error.errcode == "M_NOT_YET_UPLOADED"


def as_matrix_error(error: Exception) -> MatrixError:
    """What a client is told about a file that another server did not give us."""
    if isinstance(error, MatrixError):
        return error
    if isinstance(error, TooBig):
        return too_large_elsewhere()
    if not isinstance(error, RemoteError):
        return errors.bad_gateway("The file's server did not give it to us.")
    match error.errcode, error.status:
        case ("M_NOT_YET_UPLOADED", _):
            return not_yet_uploaded()
        case ("M_TOO_LARGE", _) | (_, 413):
            return too_large_elsewhere()
        case ("M_LIMIT_EXCEEDED", _) | (_, 429):
            return errors.limit_exceeded(min(error.retry_after_ms or 1000, 60_000))
        case (_, 401 | 403 | 404 | 410):
            return errors.not_found(
                "The file's server says that there is no such file."
            )
        case _:
            return errors.bad_gateway("The file's server did not give it to us.")


def not_yet_uploaded() -> MatrixError:
    """The file may come later."""
    return MatrixError(
        504,
        "M_NOT_YET_UPLOADED",
        "The file has not been uploaded yet. Try again later.",
    )


def too_large_elsewhere() -> MatrixError:
    """Another server's file is larger than we take."""
    return MatrixError(502, "M_TOO_LARGE", "The file is too large to be fetched.")
