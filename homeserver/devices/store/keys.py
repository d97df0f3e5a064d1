"""The tables `device_keys`, `one_time_keys` and `fallback_keys`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from federation.ids import DeviceId, UserId
from homeserver.accounts.store import device_lists
from homeserver.accounts.store.device_lists import ListChange
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.devices.checks import NewKey
from homeserver.live.changes import Positioned, Reach

MAX_ONE_TIME_KEYS: Final = 5000  # of one device


@dataclass(slots=True)
class Upload:
    """What a device uploads; `refused` and `counts` tell what came of it."""

    user_id: UserId
    device_id: DeviceId
    device_keys: str | None = None
    one_time_keys: Sequence[NewKey] = ()
    fallback_keys: Sequence[NewKey] = ()
    reach: Reach = field(default_factory=Reach)
    is_gone: bool = False
    is_full: bool = False
    refused: NewKey | None = None
    counts: dict[str, int] = field(default_factory=dict)


async def upload(tx: Tx, batch: Sequence[Positioned[Upload]]) -> None:
    """Store keys: of each upload all or, when a key is refused, none."""
    changes = []
    for each in batch:
        if await store_one(tx, each.position, each.item):
            item = each.item
            change = ListChange(item.user_id, item.device_id, item.reach)
            changes.append(Positioned(each.position, change))
    await device_lists.note(tx, changes)


async def store_one(tx: Tx, position: int, item: Upload) -> bool:
    """Store one upload; whether the identity keys are others than before."""
    known = await tx.fetchval(
        """
        SELECT 1 FROM devices WHERE user_id = $1 AND device_id = $2 FOR NO KEY UPDATE
        """,
        item.user_id,
        item.device_id,
    )
    item.is_gone = known is None
    if item.is_gone or not await _check_one_time_keys(tx, item):
        return False
    if item.one_time_keys or item.fallback_keys:
        await _insert(tx, position, item)
    item.counts = await one_time_key_counts(tx, item.user_id, item.device_id)
    if item.device_keys is None:
        return False
    changed = await tx.fetchval(
        """
        INSERT INTO device_keys AS d (user_id, device_id, keys) VALUES ($1, $2, $3)
        ON CONFLICT (user_id, device_id) DO UPDATE SET keys = EXCLUDED.keys
         WHERE d.keys <> EXCLUDED.keys
        RETURNING true
        """,
        item.user_id,
        item.device_id,
        item.device_keys,
    )
    return bool(changed)


async def _check_one_time_keys(tx: Tx, item: Upload) -> bool:
    """Leave out what is there already; False when another key has such a name."""
    if not item.one_time_keys:
        return True
    rows = await tx.fetch(
        """
        SELECT algorithm, key_id, key, claimed_at IS NOT NULL AS claimed
          FROM one_time_keys
         WHERE user_id = $1 AND device_id = $2 AND (algorithm, key_id) IN (
               SELECT * FROM unnest($3::text[], $4::text[]))
        """,
        item.user_id,
        item.device_id,
        [to_text(key.algorithm) for key in item.one_time_keys],
        [to_text(key.key_id) for key in item.one_time_keys],
    )
    there = {(row["algorithm"], row["key_id"]): row for row in rows}
    new = []
    for key in item.one_time_keys:
        row = there.get((to_text(key.algorithm), to_text(key.key_id)))
        if row is None:
            new.append(key)
        elif _public(row["key"]) != _public(key.key):
            if not row["claimed"]:
                item.refused = key
                return False
            new.append(key)
    count = sum((await one_time_key_counts(tx, item.user_id, item.device_id)).values())
    item.one_time_keys = new
    item.is_full = count + len(new) > MAX_ONE_TIME_KEYS
    return not item.is_full


def _public(key: str) -> object:
    """The public key within a key's JSON; signatures do not make another key of it."""
    value = orjson.loads(key)
    return value["key"] if isinstance(value, dict) else value


async def _insert(tx: Tx, position: int, item: Upload) -> None:
    one_time, fallback = item.one_time_keys, item.fallback_keys
    await tx.execute(
        """
        WITH one_time AS (
            INSERT INTO one_time_keys
                   (user_id, device_id, algorithm, key_id, position, key)
            SELECT $1, $2, algorithm, key_id, $3, key
              FROM unnest($4::text[], $5::text[], $6::text[])
                   AS u (algorithm, key_id, key)
            ON CONFLICT (user_id, device_id, algorithm, key_id) DO UPDATE
               SET key = EXCLUDED.key, position = EXCLUDED.position, claimed_at = NULL
        ), fallback AS (
            INSERT INTO fallback_keys AS f (user_id, device_id, algorithm, key_id, key)
            SELECT $1, $2, algorithm, key_id, key
              FROM unnest($7::text[], $8::text[], $9::text[])
                   AS u (algorithm, key_id, key)
            ON CONFLICT (user_id, device_id, algorithm) DO UPDATE
               SET key_id = EXCLUDED.key_id, key = EXCLUDED.key,
                   used = f.used AND f.key_id = EXCLUDED.key_id
                          AND f.key = EXCLUDED.key
        )
        UPDATE devices SET keys_position = $3 WHERE user_id = $1 AND device_id = $2
        """,
        item.user_id,
        item.device_id,
        position,
        [to_text(key.algorithm) for key in one_time],
        [to_text(key.key_id) for key in one_time],
        [key.key for key in one_time],
        [to_text(key.algorithm) for key in fallback],
        [to_text(key.key_id) for key in fallback],
        [key.key for key in fallback],
    )


async def one_time_key_counts(
    tx: Tx, user_id: UserId, device_id: DeviceId
) -> dict[str, int]:
    """How many one-time keys a device has left, by algorithm."""
    rows = await tx.fetch(
        """
        SELECT algorithm, count(*) FROM one_time_keys
         WHERE user_id = $1 AND device_id = $2 AND claimed_at IS NULL
         GROUP BY algorithm
        """,
        user_id,
        device_id,
    )
    return dict(map(tuple, rows))


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """What a device is told of its keys in every sync, and when that moved last."""

    one_time_keys: dict[str, int] = field(default_factory=dict)
    unused_fallback_keys: tuple[str, ...] = ()
    position: int = 0


async def device_counts(tx: Tx, user_id: UserId, device_id: DeviceId) -> DeviceCounts:
    """The counts of one device; the caller's transaction is a snapshot."""
    counts = await one_time_key_counts(tx, user_id, device_id)
    row = await tx.fetchrow(
        """
        SELECT keys_position,
               ARRAY(SELECT algorithm FROM fallback_keys f
                      WHERE f.user_id = d.user_id AND f.device_id = d.device_id
                        AND NOT f.used
                      ORDER BY algorithm) AS unused
          FROM devices d WHERE user_id = $1 AND device_id = $2
        """,
        user_id,
        device_id,
    )
    if row is None:
        return DeviceCounts()
    return DeviceCounts(counts, tuple(row["unused"]), row["keys_position"])


# ── Claiming ─────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Claim:
    """One user's devices of which a key is wanted, and what was found of each.

    `found`: by device ID, the key's name and its JSON.
    """

    user_id: UserId
    algorithms: dict[DeviceId, str]
    found: dict[DeviceId, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Wanted:
    claim: Claim
    position: int
    device_id: DeviceId
    algorithm: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.claim.user_id, self.device_id, self.algorithm

    def give(self, key_id: str, key: str) -> None:
        """Take the key that was found."""
        self.claim.found[self.device_id] = (f"{self.algorithm}:{key_id}", key)


async def claim(tx: Tx, batch: Sequence[Positioned[Claim]]) -> None:
    """Give out the oldest one-time key of each device, else its fallback key."""
    wanted = [
        _Wanted(each.item, each.position, device_id, to_text(algorithm))
        for each in batch
        for device_id, algorithm in each.item.algorithms.items()
        if "\0" not in device_id  # no device has such an ID
    ]
    for each in batch:
        each.item.found.clear()
    keys = await _take_one_time_keys(tx, Counter(one.key for one in wanted))
    without = []
    for one in wanted:
        left = keys.get(one.key)
        if left:
            one.give(*left.pop(0))
        else:
            without.append(one)
    fallback = await _use_fallback_keys(tx, without) if without else {}
    for one in without:
        if one.key in fallback:
            one.give(*fallback[one.key])
    moved = {
        one.key[:2]: one.position for one in wanted if one.device_id in one.claim.found
    }
    await tx.execute(
        """
        UPDATE devices d SET keys_position = u.position
          FROM unnest($1::text[], $2::text[], $3::bigint[])
               AS u (user_id, device_id, position)
         WHERE d.user_id = u.user_id AND d.device_id = u.device_id
        """,
        [user_id for user_id, _ in moved],
        [device_id for _, device_id in moved],
        list(moved.values()),
    )


async def _take_one_time_keys(
    tx: Tx, wanted: Counter[tuple[str, str, str]]
) -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """As many keys of each device and algorithm as are wanted, the oldest first."""
    rows = await tx.fetch(
        """
        WITH oldest AS (
            SELECT k.user_id, k.device_id, k.algorithm, k.key_id
              FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
                   AS w (user_id, device_id, algorithm, count)
             CROSS JOIN LATERAL (
                    SELECT * FROM one_time_keys o
                     WHERE o.user_id = w.user_id AND o.device_id = w.device_id
                       AND o.algorithm = w.algorithm AND o.claimed_at IS NULL
                     ORDER BY o.position, o.key_id LIMIT w.count
                       FOR UPDATE SKIP LOCKED
                   ) AS k
        ), claimed AS (
            UPDATE one_time_keys o SET claimed_at = now()
              FROM oldest
             WHERE o.user_id = oldest.user_id AND o.device_id = oldest.device_id
               AND o.algorithm = oldest.algorithm AND o.key_id = oldest.key_id
               AND o.claimed_at IS NULL
            RETURNING o.user_id, o.device_id, o.algorithm, o.key_id, o.key, o.position
        )
        SELECT user_id, device_id, algorithm, key_id, key
          FROM claimed ORDER BY position, key_id
        """,
        [user_id for user_id, _, _ in wanted],
        [device_id for _, device_id, _ in wanted],
        [algorithm for _, _, algorithm in wanted],
        list(wanted.values()),
    )
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for user_id, device_id, algorithm, key_id, key in rows:
        found.setdefault((user_id, device_id, algorithm), []).append((key_id, key))
    return found


async def _use_fallback_keys(
    tx: Tx, wanted: Sequence[_Wanted]
) -> dict[tuple[str, str, str], tuple[str, str]]:
    rows = await tx.fetch(
        """
        UPDATE fallback_keys f SET used = true
          FROM unnest($1::text[], $2::text[], $3::text[])
               AS w (user_id, device_id, algorithm)
         WHERE f.user_id = w.user_id AND f.device_id = w.device_id
           AND f.algorithm = w.algorithm
        RETURNING f.user_id, f.device_id, f.algorithm, f.key_id, f.key
        """,
        [each.key[0] for each in wanted],
        [each.key[1] for each in wanted],
        [each.key[2] for each in wanted],
    )
    return {
        (user_id, device_id, algorithm): (key_id, key)
        for user_id, device_id, algorithm, key_id, key in rows
    }


async def forget_claimed(tx: Tx, keep: str) -> None:
    """Forget keys that were claimed longer ago than that interval."""
    await tx.execute(
        "DELETE FROM one_time_keys WHERE claimed_at < now() - $1::text::interval", keep
    )
