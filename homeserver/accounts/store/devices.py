"""The table `devices`. Names that people give may hold U+0000, so they are escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text
from homeserver.live.changes import Positioned


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
class Removal:
    """Devices of a user that are to go; None: all of them but `keep`."""

    user_id: UserId
    device_ids: tuple[DeviceId, ...] | None
    keep: DeviceId | None = None


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


async def rename(
    tx: Tx, user_id: UserId, device_id: DeviceId, display_name: str | None
) -> bool:
    """Give the device a name; None leaves it. False when there is no such device."""
    found = await tx.fetchval(
        """
        UPDATE devices
           SET display_name = coalesce($3, display_name)
         WHERE user_id = $1 AND device_id = $2
        RETURNING true
        """,
        user_id,
        device_id,
        to_text(display_name) if display_name is not None else None,
    )
    return bool(found)


async def remove(tx: Tx, batch: Sequence[Positioned[Removal]]) -> None:
    """Delete devices; their tokens go with them. For the committer."""
    removals = [
        (each.item.user_id, device_id, each.item.keep)
        for each in batch
        for device_id in _each(each.item.device_ids)
    ]
    await tx.execute(
        """
        DELETE FROM devices d
         USING unnest($1::text[], $2::text[], $3::text[])
               AS r (user_id, device_id, keep)
         WHERE d.user_id = r.user_id
           AND (r.device_id IS NULL OR d.device_id = r.device_id)
           AND d.device_id IS DISTINCT FROM r.keep
        """,
        [user_id for user_id, _, _ in removals],
        [device_id for _, device_id, _ in removals],
        [keep for _, _, keep in removals],
    )


def _each(
    device_ids: tuple[DeviceId, ...] | None,
) -> tuple[DeviceId | None, ...]:
    return (None,) if device_ids is None else device_ids


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
