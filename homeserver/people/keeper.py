"""Keeps the directory up to date: follows memberships and profiles by their positions.

One process at a time does it, some at once, and goes on where the last one stopped.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Final, Self

import asyncpg
import structlog

from federation.ids import UserId, server_of
from homeserver.context import Context
from homeserver.db import leases
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Tx
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room, RoomDelta
from homeserver.people import store
from homeserver.people.store import Entry, Moved, Progress
from homeserver.people.words import MAX_NAME, fold, triples_of, words_of

LEASE: Final = "user-directory"
_LEASE_SECONDS: Final = 6.0
_PAUSE_SECONDS: Final = 0.2
# Also without news: another process may have stopped in the middle.
_LOOK_SECONDS: Final = 3.0  # whether the process that was at it is gone
_LOOKS: Final = 5  # until everybody is looked at again
_AT_ONCE: Final = 200
_MAX_URL: Final = 1000

log = structlog.get_logger(__name__)


class DirectoryKeeper:
    """One process's part; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        self._wake = asyncio.Event()
        self._wake.set()
        # Where everybody may be found: users of ours who have just logged in.
        self._with_all = ctx.config.user_directory.search_all_users
        self._logged_in: set[UserId] = set()
        self._is_time = True
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ctx.live.on_events(self._on_events)
        self._ctx.live.on_change(Kind.PROFILE, self._on_profile)
        if self._with_all:
            self._ctx.live.on_change(Kind.TOKENS, self._on_tokens)
        self._task = asyncio.create_task(self._run(), name="user-directory")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(DatabaseError, asyncpg.PostgresError):
            async with self._ctx.db.transaction() as tx:
                await leases.release(tx, (LEASE,), self._me)

    def _on_events(self, delta: RoomDelta, _room: Room | None) -> None:
        if delta.members:
            self._wake.set()

    def _on_profile(self, _position: int, _change: Change) -> None:
        self._wake.set()

    def _on_tokens(self, _position: int, change: Change) -> None:
        if change.user_id is not None and len(self._logged_in) < _AT_ONCE:
            self._logged_in.add(UserId(change.user_id))
            self._wake.set()

    async def _run(self) -> None:
        looks = 0
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                looks += 1
                self._is_time = self._is_time or looks % _LOOKS == 0
            self._wake.clear()
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                if await self._go_on():
                    self._wake.set()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("the user directory is behind", reason=repr(error))
            except Exception:
                log.exception("the user directory is behind")

    async def _go_on(self) -> bool:
        """Take in what moved next; whether there may be more."""
        async with self._ctx.db.transaction() as tx:
            if not await leases.claim(tx, LEASE, self._me, _LEASE_SECONDS):
                return False
            done = await store.progress(tx)
            members = await store.members_after(tx, done.members, _AT_ONCE)
            profiles = await store.profiles_after(tx, done.profiles, _AT_ONCE)
            accounts, self._logged_in = self._logged_in, set()
            if self._with_all and self._is_time:
                accounts |= set(await store.missing_accounts(tx, _AT_ONCE))
            self._is_time = len(accounts) >= _AT_ONCE
            if not members and not profiles and not accounts:
                return False
            ours = {m.user_id for m in members if m.local} | {u for u, _ in profiles}
            ours |= accounts
            others = [m for m in members if not m.local]
            for start in range(0, len(others), _AT_ONCE):
                await _take_others(tx, others[start : start + _AT_ONCE])
            await _take_ours(tx, list(ours))
            await store.set_progress(
                tx,
                Progress(
                    max((m.position for m in members), default=done.members),
                    max((at for _, at in profiles), default=done.profiles),
                ),
            )
        return max(len(members), len(profiles), len(accounts)) >= _AT_ONCE


async def _take_others(tx: Tx, moved: Sequence[Moved]) -> None:
    """People of other servers are called as they are in the room they came to last."""
    joined = await store.joined(tx, [each.user_id for each in moved])
    contents = await store.contents(tx, [each.event_nid for each in moved])
    entries = {
        each.user_id: entry_of(each.user_id, contents[each.event_nid], local=False)
        for each in moved
        if each.event_nid in contents and each.user_id in joined
    }
    await store.put(tx, list(entries.values()))
    await store.remove(tx, [e.user_id for e in moved if e.user_id not in joined])


async def _take_ours(tx: Tx, user_ids: Sequence[UserId]) -> None:
    active = await store.active_accounts(tx, user_ids)
    names = await store.names(tx, list(active))
    entries = [
        entry_of(UserId(user_id), content, local=True)
        for user_id, content in names.items()
    ]
    await store.put(tx, entries)
    await store.remove(tx, [u for u in user_ids if u not in active])


def entry_of(user_id: UserId, content: dict[str, object], *, local: bool) -> Entry:
    """The entry of a user who says this of themselves."""
    name = _text(content.get("displayname"), MAX_NAME)
    avatar = _text(content.get("avatar_url"), _MAX_URL)
    localpart = user_id[1:].removesuffix(":" + server_of(user_id))
    folded = fold(name or "")
    both = f"{folded} {fold(localpart)}"
    return Entry(
        user_id,
        name,
        avatar if avatar and avatar.startswith("mxc://") else None,
        local,
        folded,
        words_of(both),
        _without_spaces(triples_of(both)),
    )


def _without_spaces(triples: Iterable[str]) -> list[str]:
    return [triple.replace(" ", "_") for triple in triples]


def _text(value: object, most: int) -> str | None:
    return value[:most] if isinstance(value, str) and value else None
