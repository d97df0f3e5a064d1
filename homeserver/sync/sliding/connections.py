"""The states of connections: from memory where one is at hand, else the database."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from homeserver import errors
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.sync.sliding import store
from homeserver.sync.sliding.connection import (
    MAX_BYTES,
    Draft,
    Pos,
    State,
    decode,
    encode,
)
from homeserver.sync.sliding.store import Key

MAX_CONNECTIONS: Final = 16  # of one device
_STATES: Final = 96 * MIB
_STATE_COST: Final = 2000  # bytes of a state, roughly; and of each room
_ROOM_COST: Final = 250
_QUIET: Final = 16 * MIB
_QUIET_COST: Final = 900
_TOUCH_SECONDS: Final = 6 * 3600.0


@dataclass(slots=True)
class _Cached:
    state: State
    touched: float


@dataclass(frozen=True, slots=True)
class Quiet:
    """Up to a position there is nothing for a request (`asked`, hashed).

    `pos` and `counts` are what it is answered with until then.
    """

    asked: bytes
    upto: int
    pos: Pos
    counts: Mapping[str, int]


class Connections:
    """The states that this process has at hand, and the way to keep new ones."""

    def __init__(self, db: Database, monotonic: Callable[[], float]) -> None:
        self._db = db
        self._monotonic = monotonic
        # States never change, so one at hand is right for as long as its name is used.
        self._states: LruCache[tuple[Key, str], _Cached] = LruCache(
            "sliding states",
            _STATES,
            lambda cached: _STATE_COST + _ROOM_COST * len(cached.state.rooms),
        )
        self._quiet: LruCache[tuple[Key, str], Quiet] = LruCache(
            "sliding quiet", _QUIET, _QUIET_COST
        )

    async def find(self, key: Key, pos: Pos) -> State:
        """The state that a token names. Raises: M_UNKNOWN_POS."""
        cached = self._states.get((key, pos.name))
        now = self._monotonic()
        if cached is None:
            async with self._db.read() as tx:
                data = await store.read_state(tx, key, pos.name)
                state = None if data is None else decode(data)
                if state is None:
                    raise errors.unknown_pos()
                await store.touch(tx, key)
            cached = _Cached(state, now)
            self._states.put((key, pos.name), cached)
        elif now - cached.touched > _TOUCH_SECONDS:
            cached.touched = now
            async with self._db.read() as tx:
                await store.touch(tx, key)
        return cached.state

    async def keep(self, key: Key, base: Pos | None, draft: Draft, upto: int) -> Pos:
        """Keep a new state; `base` is the token that the client came with.

        Raises: M_UNKNOWN_POS when the connection is gone, or its state too large.
        """
        state = draft.finish(upto)
        name = secrets.token_hex(6)
        data = encode(state)
        if len(data) > MAX_BYTES:
            raise errors.unknown_pos()
        if base is None:
            async with self._db.transaction() as tx:
                await store.begin(tx, key, name, data, MAX_CONNECTIONS)
        else:
            async with self._db.read() as tx:
                if not await store.follow(tx, key, base.name, name, data):
                    raise errors.unknown_pos()
        self._states.put((key, name), _Cached(state, self._monotonic()))
        return Pos(upto, name)

    def quiet(self, key: Key, pos: Pos | None, asked: bytes) -> Quiet | None:
        """How long there is nothing for who comes with that token and request."""
        found = None if pos is None else self._quiet.get((key, str(pos)))
        return found if found is not None and found.asked == asked else None

    def note_quiet(self, key: Key, pos: Pos, quiet: Quiet) -> None:
        """Who comes with that token, and the same request, has everything so far."""
        self._quiet.put((key, str(pos)), quiet)
