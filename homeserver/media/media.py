"""The files of one process: where they are, which are on their way, who waits."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from homeserver.context import Context
from homeserver.media import store
from homeserver.media.files import files_of
from homeserver.media.limits import Transfers
from homeserver.media.remote import Fetches
from homeserver.media.scan import Scanner
from homeserver.media.store import Mxc
from homeserver.media.workers import Workers

_MOST_TRANSFERS: Final = 1_000
_MOST_TRANSFERS_EACH: Final = 100
_MOST_UPLOADS: Final = 300
_MOST_UPLOADS_EACH: Final = 30
_MOST_USED: Final = 20_000

log = structlog.get_logger(__name__)


class Media:
    """Made by `app.py`; `async with` stops what is under way at the end."""

    def __init__(self, ctx: Context) -> None:
        config = ctx.config.media
        self.files = files_of(ctx.config, ctx.db)
        self.scanner = Scanner(config.scan_command)
        self.fetches = Fetches(
            ctx.db, ctx.wire, self.files, self.scanner, config, ctx.clock.monotonic
        )
        self.workers = Workers(config.thumbnail_workers, config.max_image_pixels)
        self.downloads = Transfers(_MOST_TRANSFERS, _MOST_TRANSFERS_EACH)
        self.uploads = Transfers(_MOST_UPLOADS, _MOST_UPLOADS_EACH)
        self.arrivals = Arrivals()
        # How long a leftover is looked at before it is deleted.
        self.settle_s = 30.0
        self._used: set[Mxc] = set()
        self._shelves: dict[str, str] = {}
        ctx.parts.put(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.fetches.stop()
        await self.workers.stop()
        await self.files.stop()

    def note_use(self, mxc: Mxc) -> None:
        """Remember that somebody asked for it, until `write_uses` writes that down."""
        if len(self._used) < _MOST_USED:
            self._used.add(mxc)

    async def write_uses(self, ctx: Context) -> None:
        """Write down what was asked for since the last time."""
        used, self._used = sorted(self._used, key=str), set()
        if used:
            async with ctx.db.transaction() as tx:
                await store.touch(tx, used)

    def next_shelves(self, store: str, shelves: Sequence[str], count: int) -> list[str]:
        """The shelves of a store whose turn it is, of all there are in order."""
        last = self._shelves.get(store, "")
        later = [shelf for shelf in shelves if shelf > last][:count]
        self._shelves[store] = later[-1] if len(later) == count else ""
        return later


class Arrivals:
    """Who waits for files that are to be uploaded."""

    def __init__(self) -> None:
        self._events: dict[Mxc, tuple[asyncio.Event, int]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def has_come(self, mxc: Mxc) -> None:
        """Wake those who wait for it in this process."""
        if mxc in self._events:
            self._events[mxc][0].set()

    def watch(self, mxc: Mxc) -> tuple[asyncio.Event, Callable[[], None]]:
        """An event that is set when it comes, and what to call in the end."""
        event, watchers = self._events.get(mxc, (asyncio.Event(), 0))
        self._events[mxc] = event, watchers + 1

        def leave() -> None:
            _, left = self._events[mxc]
            if left > 1:
                self._events[mxc] = event, left - 1
            else:
                del self._events[mxc]

        return event, leave
