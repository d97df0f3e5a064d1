"""The table `devices`. Names that people give may hold U+0000, so they are escaped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from federation.ids import DeviceId, UserId
from homeserver.accounts.store import device_lists
from homeserver.accounts.store.device_lists import ListChange
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text
from homeserver.live.changes import Positioned, Reach


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a user, and when and whence it was last seen."""

    device_id: DeviceId
    display_name: str | None
    last_seen_ms: int | None
    last_seen_ip: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A device was seen."""

    user_id: UserId
    device_id: DeviceId
    at_ms: int
    ip: str


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device that an application service makes."""

    user_id: UserId
    device_id: DeviceId
    display_name: str | None


@dataclass(frozen=True, slots=True)
class Removal:
    """Devices of a user that are to go; None: all of them but `keep`."""

    user_id: UserId
    device_ids: tuple[DeviceId, ...] | None
    keep: DeviceId | None = None
    reach: Reach = field(default_factory=Reach)


@dataclass(frozen=True, slots=True)
class Rename:
    """A new name for a device."""

    user_id: UserId
    device_id: DeviceId
    display_name: str
    reach: Reach = field(default_factory=Reach)


def _device(row: Sequence[object]) -> Device:
    device_id, name, seen_at, seen_ip = row
    return Device(
        DeviceId(str(device_id)),
        from_text(name) if isinstance(name, str) else None,
        int(seen_at.timestamp() * 1000) if isinstance(seen_at, datetime) else None,
        seen_ip if isinstance(seen_ip, str) else None,
    )


async def devices(tx: Tx, user_id: UserId) -> list[Device]:
    """All devices of a user, in order of their IDs."""
    rows = await tx.fetch(
        """
        SELECT device_id, display_name, last_seen_at, last_seen_ip
          FROM devices
         WHERE user_id = $1
         ORDER BY device_id
        """,
        user_id,
    )
    return [_device(tuple(row)) for row in rows]


async def device(tx: Tx, user_id: UserId, device_id: DeviceId) -> Device | None:
    """One device of a user."""
    row = await tx.fetchrow(
        """
        SELECT device_id, display_name, last_seen_at, last_seen_ip
          FROM devices
         WHERE user_id = $1 AND device_id = $2
        """,
        user_id,
        device_id,
    )
    return _device(tuple(row)) if row else None


async def create(tx: Tx, batch: Sequence[Positioned[NewDevice]]) -> None:
    """Make devices without tokens, unless they are there. For the committer."""
    await tx.execute(
        """
        INSERT INTO devices (user_id, device_id, display_name)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
        ON CONFLICT (user_id, device_id) DO NOTHING
        """,
        [each.item.user_id for each in batch],
        [each.item.device_id for each in batch],
        [
            None if each.item.display_name is None else to_text(each.item.display_name)
            for each in batch
        ],
    )


async def rename(tx: Tx, batch: Sequence[Positioned[Rename]]) -> None:
    """Give devices names. For the committer.

    The names of devices with keys are told to others, as part of the device lists.
    """
    changes = []
    for each in batch:
        item = each.item
        row = await tx.fetchrow(
            """
            UPDATE devices d SET display_name = $3
              FROM devices old
             WHERE d.user_id = $1 AND d.device_id = $2
               AND old.user_id = d.user_id AND old.device_id = d.device_id
            RETURNING old.display_name IS DISTINCT FROM $3 AND EXISTS (
                      SELECT FROM device_keys k
                       WHERE k.user_id = d.user_id AND k.device_id = d.device_id)
                      AS matters
            """,
            item.user_id,
            item.device_id,
            to_text(item.display_name),
        )
        if row is not None and row["matters"]:
            change = ListChange(item.user_id, item.device_id, item.reach)
            changes.append(Positioned(each.position, change))
    await device_lists.note(tx, changes)


async def remove(tx: Tx, batch: Sequence[Positioned[Removal]]) -> None:
    """Delete devices; their tokens and keys go with them. For the committer."""
    removals = [
        (each.item.user_id, device_id, each.item.keep, index)
        for index, each in enumerate(batch)
        for device_id in _each(each.item.device_ids)
    ]
    gone = await tx.fetch(
        """
        WITH gone AS (
            DELETE FROM devices d
             USING unnest($1::text[], $2::text[], $3::text[], $4::integer[])
                   AS r (user_id, device_id, keep, index)
             WHERE d.user_id = r.user_id
               AND (r.device_id IS NULL OR d.device_id = r.device_id)
               AND d.device_id IS DISTINCT FROM r.keep
            RETURNING d.user_id, d.device_id, r.index
        ), signature AS (
            DELETE FROM key_signatures s USING gone
             WHERE s.user_id = gone.user_id AND s.key_id = gone.device_id
        )
        SELECT gone.device_id, gone.index
          FROM gone JOIN device_keys k USING (user_id, device_id)
         ORDER BY gone.device_id
        """,
        [user_id for user_id, _, _, _ in removals],
        [device_id for _, device_id, _, _ in removals],
        [keep for _, _, keep, _ in removals],
        [index for _, _, _, index in removals],
    )
    changes = []
    for index, each in enumerate(batch):
        keyed = [row["device_id"] for row in gone if row["index"] == index]
        if keyed:
            user_id, reach = each.item.user_id, each.item.reach
            change = ListChange(
                user_id, keyed[0], reach, deleted=True, count=len(keyed)
            )
            changes.append(Positioned(each.position, change))
    await device_lists.note(tx, changes)


def _each(
    device_ids: tuple[DeviceId, ...] | None,
) -> tuple[DeviceId | None, ...]:
    return (None,) if device_ids is None else device_ids


async def was_seen_at(tx: Tx, user_id: str, ip: str) -> bool:
    """Whether one of the user's devices was last seen at this address."""
    return bool(
        await tx.fetchval(
            """
            SELECT EXISTS (SELECT FROM devices
                            WHERE user_id = $1 AND last_seen_ip = $2)
            """,
            user_id,
            ip,
        )
    )


async def note_seen(tx: Tx, seen: Sequence[Seen]) -> None:
    """Say when and whence devices were last seen; what is older changes nothing."""
    await tx.execute(
        """
        UPDATE devices d
           SET last_seen_at = u.at, last_seen_ip = u.ip
          FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
               AS u (user_id, device_id, at, ip)
         WHERE d.user_id = u.user_id AND d.device_id = u.device_id
           AND (d.last_seen_at IS NULL OR d.last_seen_at < u.at)
        """,
        [each.user_id for each in seen],
        [each.device_id for each in seen],
        [datetime.fromtimestamp(each.at_ms / 1000, UTC) for each in seen],
        [each.ip for each in seen],
    )
