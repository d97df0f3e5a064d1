"""Interned state keys: (type, state_key) to number and back. They never change."""

from collections.abc import Iterable
from typing import Any, Final

from federation.pdu import StateKey
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.db.rows import from_text, to_text
from homeserver.events.numbers import Numbers

# Bytes; the second shares its texts with the first.
_NUMBERS_BYTES: Final = 48 * MIB
_NUMBER_COST: Final = 220
_KEYS_BYTES: Final = 24 * MIB
_KEY_COST: Final = 40
_BATCH: Final = 1000


class StateKeys:
    """The numbers of state keys, cached both ways."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._numbers = Numbers(db, "key_nids")
        self._nid_of: LruCache[StateKey, int] = LruCache(
            "numbers of state keys", _NUMBERS_BYTES, _NUMBER_COST
        )
        self._key_of: LruCache[int, StateKey] = LruCache(
            "state keys", _KEYS_BYTES, _KEY_COST
        )

    def remember(self, nid: int, key: StateKey) -> None:
        """Keep a pair that some query brought along."""
        if nid not in self._key_of:
            self._nid_of.put(key, nid)
            self._key_of.put(nid, key)

    def cached_nid(self, key: StateKey) -> int | None:
        """The key's number when it is at hand."""
        return self._nid_of.get(key)

    async def nids(self, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        """The numbers of those keys that have one."""
        found: dict[StateKey, int] = {}
        missing: list[StateKey] = []
        for key in keys:
            nid = self._nid_of.get(key)
            if nid is None:
                missing.append(key)
            else:
                found[key] = nid
        for start in range(0, len(missing), _BATCH):
            found.update(await self._read(missing[start : start + _BATCH]))
        return found

    async def intern(self, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        """The numbers of the keys, given out now to those that have none."""
        found: dict[StateKey, int] = {}
        missing: list[StateKey] = []
        for key in set(keys):
            nid = self._nid_of.get(key)
            if nid is None:
                missing.append(key)
            else:
                found[key] = nid
        while missing:
            for start in range(0, len(missing), _BATCH):
                part = missing[start : start + _BATCH]
                found.update(await self._find_or_insert(sorted(part)))
            # Given out by another process at this moment: there next time.
            missing = [key for key in missing if key not in found]
        return found

    async def _find_or_insert(self, keys: list[StateKey]) -> dict[StateKey, int]:
        """One round trip, without waiting for the disk (see Database.preparation)."""
        await self._numbers.reserve(len(keys))
        nids = [self._numbers.next() for _ in keys]
        async with self._db.read() as tx:
            rows = await tx.fetch(
                """
                WITH hurry AS MATERIALIZED (
                    SELECT set_config('synchronous_commit', 'off', true)
                ), given AS (
                    SELECT g.* FROM hurry, unnest($1::bigint[], $2::text[], $3::text[])
                        AS g (key_nid, type, state_key)
                ), inserted AS (
                    INSERT INTO state_keys (key_nid, type, state_key)
                    SELECT key_nid, type, state_key FROM given
                    ON CONFLICT (type, state_key) DO NOTHING
                    RETURNING key_nid, type, state_key
                )
                SELECT key_nid, type, state_key FROM inserted
                UNION ALL
                SELECT k.key_nid, k.type, k.state_key
                  FROM given JOIN state_keys k USING (type, state_key)
                """,
                nids,
                [to_text(key[0]) for key in keys],
                [to_text(key[1]) for key in keys],
            )
        return {key: nid for nid, key in self._remember_rows(rows)}

    async def _read(self, keys: list[StateKey]) -> dict[StateKey, int]:
        async with self._db.read() as tx:
            rows = await tx.fetch(
                """
                SELECT k.key_nid, k.type, k.state_key
                  FROM unnest($1::text[], $2::text[]) AS wanted (type, state_key)
                  JOIN state_keys k USING (type, state_key)
                """,
                [to_text(key[0]) for key in keys],
                [to_text(key[1]) for key in keys],
            )
        return {key: nid for nid, key in self._remember_rows(rows)}

    async def keys(self, nids: Iterable[int]) -> dict[int, StateKey]:
        """The keys of those numbers."""
        found: dict[int, StateKey] = {}
        missing: list[int] = []
        for nid in nids:
            key = self._key_of.get(nid)
            if key is None:
                missing.append(nid)
            else:
                found[nid] = key
        for start in range(0, len(missing), _BATCH):
            async with self._db.read() as tx:
                rows = await tx.fetch(
                    """
                    SELECT key_nid, type, state_key FROM state_keys
                     WHERE key_nid = ANY($1)
                    """,
                    missing[start : start + _BATCH],
                )
            found.update(self._remember_rows(rows))
        return found

    def _remember_rows(
        self, rows: Iterable[Iterable[Any]]
    ) -> list[tuple[int, StateKey]]:
        pairs = []
        for nid, event_type, state_key in rows:
            key = (from_text(event_type), from_text(state_key))
            self.remember(nid, key)
            pairs.append((nid, key))
        return pairs
