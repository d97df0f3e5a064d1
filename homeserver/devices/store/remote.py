"""The tables `remote_device_lists` and `remote_devices`.

`generation` moves with everything that is told of a list, so that what was fetched
before does not come after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.edu import DeviceListUpdate, SigningKeyUpdate
from federation.ids import UserId
from federation.query_bodies import UserDevices
from homeserver.accounts.store import device_lists
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text
from homeserver.devices.store.query import FoundKeys
from homeserver.live.changes import Positioned, Reach

MAX_DEVICES: Final = 5000  # of one user
_LONGEST_SECONDS: Final = 3600


async def good_keys(tx: Tx, user_ids: Sequence[UserId]) -> FoundKeys:
    """What is known of those users whose lists are followed and not stale."""
    found = FoundKeys()
    rows = await tx.fetch(
        """
        SELECT user_id, master_key, self_signing_key FROM remote_device_lists
         WHERE user_id = ANY($1) AND NOT stale
        """,
        user_ids,
    )
    for user_id, master, self_signing in rows:
        found.devices[user_id] = {}
        if master is not None:
            found.master[user_id] = orjson.loads(master)
        if self_signing is not None:
            found.self_signing[user_id] = orjson.loads(self_signing)
    rows = await tx.fetch(
        """
        SELECT user_id, device_id, keys, display_name FROM remote_devices
         WHERE user_id = ANY($1) ORDER BY user_id, device_id
        """,
        list(found.devices),
    )
    for user_id, device_id, keys, name in rows:
        found.devices[user_id][device_id] = orjson.loads(keys)
        if name is not None:
            found.names[user_id, device_id] = from_text(name)
    return found


async def begin(tx: Tx, user_id: UserId) -> int:
    """Follow a list, stale at first; what has been told of it so far."""
    generation: int = await tx.fetchval(
        """
        INSERT INTO remote_device_lists AS r (user_id, stream_id, stale, retry_at)
        VALUES ($1, 0, true, now() + interval '1 minute')
        ON CONFLICT (user_id) DO UPDATE SET stream_id = r.stream_id
        RETURNING generation
        """,
        user_id,
    )
    return generation


@dataclass(slots=True)
class Fetched:
    """A list as its server gave it; `is_saved` unless more was told meanwhile."""

    devices: UserDevices
    generation: int
    reach: Reach = field(default_factory=Reach)
    is_saved: bool = False


async def save(tx: Tx, fetched: Fetched) -> None:
    """Replace what is known of a list, which then is good."""
    devices = fetched.devices
    done = await tx.fetchval(
        """
        UPDATE remote_device_lists
           SET stream_id = $3, stale = false, failures = 0, master_key = $4,
               self_signing_key = $5
         WHERE user_id = $1 AND generation = $2
        RETURNING true
        """,
        devices.user_id,
        fetched.generation,
        devices.stream_id,
        _json(devices.master_key),
        _json(devices.self_signing_key),
    )
    fetched.is_saved = bool(done)
    if not done:
        return
    await tx.execute("DELETE FROM remote_devices WHERE user_id = $1", devices.user_id)
    await tx.execute(
        """
        INSERT INTO remote_devices (user_id, device_id, keys, display_name)
        SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::text[]) AS u
        ON CONFLICT DO NOTHING
        """,
        devices.user_id,
        [each.device_id for each in devices.devices],
        [_json(each.keys) for each in devices.devices],
        [_name(each.device_display_name) for each in devices.devices],
    )


async def save_and_tell(tx: Tx, batch: Sequence[Positioned[Fetched]]) -> None:
    """Save lists, and tell clients to look at them. For the committer."""
    changes = []
    for each in batch:
        await save(tx, each.item)
        if each.item.is_saved:
            change = (each.item.devices.user_id, each.item.reach)
            changes.append(Positioned(each.position, change))
    await device_lists.note_others(tx, changes)


async def note_failure(tx: Tx, user_id: UserId) -> None:
    """Try again later, each time after twice as long."""
    await tx.execute(
        """
        UPDATE remote_device_lists
           SET failures = least(failures + 1, 30),
               retry_at = now() + make_interval(
                   secs => least($2, power(2, least(failures, 20))))
         WHERE user_id = $1 AND stale
        """,
        user_id,
        _LONGEST_SECONDS,
    )


async def claim_due(tx: Tx, limit: int) -> list[UserId]:
    """Stale lists whose time has come; other processes leave them for a minute."""
    rows = await tx.fetch(
        """
        UPDATE remote_device_lists r SET retry_at = now() + interval '1 minute'
          FROM (SELECT user_id FROM remote_device_lists
                 WHERE stale AND retry_at <= now()
                 ORDER BY retry_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS due
         WHERE r.user_id = due.user_id
        RETURNING r.user_id
        """,
        limit,
    )
    return [UserId(row["user_id"]) for row in rows]


# ── Told by their servers ────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of its user's keys."""

    update: DeviceListUpdate | SigningKeyUpdate
    reach: Reach = field(default_factory=Reach)


async def apply(tx: Tx, batch: Sequence[Positioned[Told]]) -> None:
    """Take updates in their order; a gap makes the list stale. For the committer."""
    changes = []
    for each in batch:
        update = each.item.update
        row = await tx.fetchrow(
            """
            UPDATE remote_device_lists SET generation = generation + 1
             WHERE user_id = $1
            RETURNING stream_id, stale
            """,
            update.user_id,
        )
        if row is not None and not row["stale"]:
            if isinstance(update, SigningKeyUpdate):
                await _set_signing_keys(tx, update)
            elif update.stream_id <= row["stream_id"]:
                continue  # known already
            elif _follows(update, row["stream_id"]) and await _has_room(tx, update):
                await _set_device(tx, update)
            else:
                await _make_stale(tx, update.user_id)
        changes.append(Positioned(each.position, (update.user_id, each.item.reach)))
    await device_lists.note_others(tx, changes)


def _follows(update: DeviceListUpdate, known: int) -> bool:
    """Whether nothing is missing between what is known and the update.

    Spec: server-server-api#device-management
    """
    return bool(update.prev_id) and max(update.prev_id) <= known


async def _make_stale(tx: Tx, user_id: UserId) -> None:
    await tx.execute(
        """
        UPDATE remote_device_lists SET stale = true, retry_at = now()
         WHERE user_id = $1
        """,
        user_id,
    )


async def _has_room(tx: Tx, update: DeviceListUpdate) -> bool:
    count: int = await tx.fetchval(
        "SELECT count(*) FROM remote_devices WHERE user_id = $1", update.user_id
    )
    return count < MAX_DEVICES


async def _set_device(tx: Tx, update: DeviceListUpdate) -> None:
    await tx.execute(
        "UPDATE remote_device_lists SET stream_id = $2 WHERE user_id = $1",
        update.user_id,
        update.stream_id,
    )
    if update.deleted or update.keys is None:
        await tx.execute(
            "DELETE FROM remote_devices WHERE user_id = $1 AND device_id = $2",
            update.user_id,
            update.device_id,
        )
        return
    await tx.execute(
        """
        INSERT INTO remote_devices (user_id, device_id, keys, display_name)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (user_id, device_id) DO UPDATE
           SET keys = EXCLUDED.keys, display_name = EXCLUDED.display_name
        """,
        update.user_id,
        update.device_id,
        _json(update.keys),
        _name(update.device_display_name),
    )


async def _set_signing_keys(tx: Tx, update: SigningKeyUpdate) -> None:
    await tx.execute(
        """
        UPDATE remote_device_lists
           SET master_key = coalesce($2, master_key),
               self_signing_key = coalesce($3, self_signing_key)
         WHERE user_id = $1
        """,
        update.user_id,
        _json(update.master_key),
        _json(update.self_signing_key),
    )


async def forget_unshared(tx: Tx, user_ids: Sequence[str]) -> None:
    """Stop following users who share no room with a user of ours any more."""
    await tx.execute(
        """
        DELETE FROM remote_device_lists r
         WHERE r.user_id = ANY($1) AND NOT EXISTS (
               SELECT FROM memberships m
                 JOIN memberships o ON o.room_nid = m.room_nid AND o.local
                                   AND o.membership = 'join'
                WHERE m.user_id = r.user_id AND m.membership = 'join')
        """,
        user_ids,
    )


def _json(value: JsonObject | None) -> str | None:
    return None if value is None else canonical_json.encode(value).decode()


def _name(value: str | None) -> str | None:
    return None if value is None else to_text(value[:256])
