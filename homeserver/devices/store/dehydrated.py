"""The table `dehydrated_devices`."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import DeviceId, UserId
from homeserver.accounts.store import device_lists
from homeserver.accounts.store.device_lists import ListChange
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as, to_text
from homeserver.devices.store import keys
from homeserver.devices.store.keys import Upload
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Dehydrated:
    """A user's dehydrated device; its data is JSON."""

    device_id: DeviceId
    device_data: str


async def find(tx: Tx, user_id: UserId) -> Dehydrated | None:
    """The user's dehydrated device, if there is one."""
    return await fetch_one_as(
        tx,
        Dehydrated,
        "SELECT device_id, device_data FROM dehydrated_devices WHERE user_id = $1",
        user_id,
    )


@dataclass(slots=True)
class NewDehydrated:
    """A dehydrated device and its keys; `is_taken`: another device has its ID."""

    upload: Upload
    device_data: str
    display_name: str | None
    is_taken: bool = False


async def put(tx: Tx, batch: Sequence[Positioned[NewDehydrated]]) -> None:
    """Store dehydrated devices, each instead of the one before. For the committer."""
    changes = []
    for each in batch:
        count = await _put(tx, each.position, each.item)
        upload = each.item.upload
        if count:
            change = ListChange(
                upload.user_id, upload.device_id, upload.reach, count=count
            )
            changes.append(Positioned(each.position, change))
    await device_lists.note(tx, changes)


async def _put(tx: Tx, position: int, item: NewDehydrated) -> int:
    """Store one; how many devices of the list changed."""
    user_id, device_id = item.upload.user_id, item.upload.device_id
    gone = await tx.fetch(
        """
        DELETE FROM devices d USING dehydrated_devices h
         WHERE d.user_id = $1 AND h.user_id = $1 AND h.device_id = d.device_id
        RETURNING d.device_id
        """,
        user_id,
    )
    await tx.execute(
        "DELETE FROM key_signatures WHERE user_id = $1 AND key_id = ANY($2)",
        user_id,
        [row["device_id"] for row in gone],
    )
    made = await tx.fetchval(
        """
        INSERT INTO devices (user_id, device_id, display_name) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        user_id,
        device_id,
        None if item.display_name is None else to_text(item.display_name),
    )
    item.is_taken = not made
    if item.is_taken:
        return len(gone)
    await keys.store_one(tx, position, item.upload)
    await tx.execute(
        """
        INSERT INTO dehydrated_devices (user_id, device_id, device_data)
        VALUES ($1, $2, $3)
        """,
        user_id,
        device_id,
        item.device_data,
    )
    others = [row for row in gone if row["device_id"] != device_id]
    return 1 + len(others)


async def is_device(tx: Tx, user_id: UserId, device_id: DeviceId) -> bool:
    """Whether the user has a device of that ID."""
    found: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM devices WHERE user_id = $1 AND device_id = $2)",
        user_id,
        device_id,
    )
    return found
