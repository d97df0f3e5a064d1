"""Writes the index a moment after things happened: one process at a time."""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import orjson
import structlog

from federation.canonical_json import JsonObject, JsonValue
from homeserver.context import Context
from homeserver.db import leases
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Database, Tx
from homeserver.live.room import Room, RoomDelta
from homeserver.search import store
from homeserver.search.store import KEYS, Cursor, Entry, Source
from homeserver.search.words import words_of

_LEASE: Final = "search-index"
_LEASE_SECONDS: Final = 6.0
_LOOK_SECONDS: Final = 3.0
# Several messages cost one transaction, and who sends does not feel it.
_PAUSE_SECONDS: Final = 0.1
_LOOK_AGAIN_SECONDS: Final = 0.05
_BATCH: Final = 200

log = structlog.get_logger(__name__)


class SearchIndexer:
    """One process's task; `async with` runs it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ctx.live.on_events(self._on_events)
        self._task = asyncio.create_task(self._run(), name="search-indexer")
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
            with contextlib.suppress(DatabaseError):
                async with self._ctx.db.transaction() as tx:
                    await leases.release(tx, (_LEASE,), self._me)

    def _on_events(self, _delta: RoomDelta, _room: Room | None) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            mine = False
            try:
                mine = await self._index_all()
            except DatabaseError as error:
                log.warning("search index waits for the database", reason=str(error))
            except Exception:  # the next round may do better
                log.exception("cannot write the search index")
            if mine:
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _index_all(self) -> bool:
        """Index all there is; False: another process is at it."""
        while True:
            async with self._ctx.db.transaction() as tx:
                if not await leases.claim(tx, _LEASE, self._me, _LEASE_SECONDS):
                    return False
                if not await index_some(tx):
                    return True
            await asyncio.sleep(0)


async def index_some(tx: Tx) -> bool:
    """Index the next batch; False: there is nothing more for now."""
    cursor = await store.take_cursor(tx)
    if cursor.scan_nid is not None:
        nids = await store.scan(tx, cursor.scan_nid, _BATCH)
        await _index(tx, nids, ())
        following = nids[-1] if nids else None
        await store.move_cursor(tx, Cursor(cursor.position, following))
        return True
    happened, upto = await store.changes_after(tx, cursor.position, _BATCH)
    if upto == cursor.position:
        return False
    await _index(
        tx,
        [each.event_nid for each in happened if each.event_nid is not None],
        [each.room_nid for each in happened if each.event_nid is None],
    )
    await store.move_cursor(tx, Cursor(upto, None))
    return len(happened) == _BATCH


async def _index(tx: Tx, nids: Sequence[int], history_of: Sequence[int]) -> None:
    if not nids and not history_of:
        return
    found = await store.sources(tx, nids, history_of)
    entries = [entry for each in found if (entry := entry_of(each)) is not None]
    kept = {entry.event_nid for entry in entries}
    gone = [nid for nid in nids if nid not in kept]
    if gone:
        await store.remove(tx, gone)
    if entries:
        await store.put(tx, entries)


def entry_of(source: Source) -> Entry | None:
    """What goes into the index of an event; None: it has no text."""
    content = orjson.loads(source.json).get("content")
    words = words_of(text_of(source.type, content)) if content else []
    if not words:
        return None
    return Entry(
        source.event_nid,
        source.room_nid,
        source.position,
        KEYS[source.type][1],
        source.sender,
        words,
    )


def text_of(event_type: str, content: JsonObject) -> str:
    """What of an event is searched in.

    Spec: client-server-api#room_events
    """
    name = KEYS[event_type][0].removeprefix("content.")
    texts = [content.get(name)]
    if event_type == "m.room.topic":
        texts += _plain_topics(content.get("m.topic"))
    return "\n".join(text for text in texts if isinstance(text, str))


def _plain_topics(topic: JsonValue) -> list[JsonValue]:
    several = topic.get("m.text") if isinstance(topic, dict) else None
    if not isinstance(several, list):
        return []
    return [
        each.get("body")
        for each in several
        if isinstance(each, dict) and each.get("mimetype", "text/plain") == "text/plain"
    ]


async def wait_for_index(db: Database, seconds: float) -> None:
    """Give the index a short time to reach what has happened by now, anywhere."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    position: int | None = None
    while True:
        async with db.read() as tx:
            is_there, position = await store.is_at(tx, position)
        if is_there or loop.time() > deadline:
            return
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
