"""The tables `to_device` and `to_device_seen`, and messages for other servers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.edu import ALL_DEVICES
from federation.ids import DeviceId, ServerName, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, from_text, to_text
from homeserver.live.changes import Positioned, Reach

MAX_WAITING: Final = 50_000  # messages for one device
MAX_PER_SYNC: Final = 100
MAX_BYTES_PER_SYNC: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Message:
    """A message for devices of ours, by user and device ID, and for other servers.

    `seen` is (device, ID): what makes it the same as one that was sent before. Contents
    and EDUs are JSON. `full` are devices that it did not fit into.
    """

    sender: UserId
    type: str
    seen: tuple[str, str]
    contents: Mapping[UserId, Mapping[str, str]]
    edus: Mapping[ServerName, str] = field(default_factory=dict)
    reach: Reach = field(default_factory=Reach)
    full: list[tuple[str, str]] = field(default_factory=list)


async def send(tx: Tx, batch: Sequence[Positioned[Message]]) -> None:
    """Put messages into inboxes and outboxes, each once. For the committer."""
    new = await _unseen(tx, batch)
    await _deliver(tx, new)
    rows = [
        (server, each.position, edu)
        for each in new
        for server, edu in each.item.edus.items()
    ]
    if rows:
        await tx.execute(
            """
            INSERT INTO outgoing_edus (server_name, position, edu)
            SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
            ON CONFLICT DO NOTHING
            """,
            [server for server, _, _ in rows],
            [position for _, position, _ in rows],
            [edu for _, _, edu in rows],
        )
    for each in new:
        each.item.reach.servers.update(each.item.edus)


async def _unseen(
    tx: Tx, batch: Sequence[Positioned[Message]]
) -> list[Positioned[Message]]:
    """Those that have not been sent before."""
    first: dict[tuple[str, str, str], Positioned[Message]] = {}
    for each in batch:
        item = each.item
        item.full.clear()
        key = (item.sender, to_text(item.seen[0]), to_text(item.seen[1]))
        first.setdefault(key, each)
    rows = await tx.fetch(
        """
        INSERT INTO to_device_seen (sender, device_id, id)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
        ON CONFLICT DO NOTHING
        RETURNING sender, device_id, id
        """,
        [sender for sender, _, _ in first],
        [device_id for _, device_id, _ in first],
        [id_ for _, _, id_ in first],
    )
    fresh = {tuple(row) for row in rows}
    return [each for key, each in first.items() if key in fresh]


async def _deliver(tx: Tx, new: Sequence[Positioned[Message]]) -> None:
    rows = [
        (user_id, device_id, each.position, each.item, content)
        for each in new
        for user_id, by_device in each.item.contents.items()
        for device_id, content in by_device.items()
    ]
    if not rows:
        return
    items = {each.position: each.item for each in new}
    found = await tx.fetch(
        """
        WITH message AS (
            SELECT d.user_id, d.device_id, u.position, u.sender, u.type, u.content,
                   EXISTS (SELECT FROM to_device t
                            WHERE t.user_id = d.user_id AND t.device_id = d.device_id
                           OFFSET $8) AS is_full
              FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                          $6::text[])
                   AS u (user_id, device_id, position, sender, type, content)
              JOIN devices d ON d.user_id = u.user_id
                            AND (d.device_id = u.device_id OR u.device_id = $7)
        ), delivered AS (
            INSERT INTO to_device (user_id, device_id, position, sender, type, content)
            SELECT user_id, device_id, position, sender, type, content
              FROM message WHERE NOT is_full
            -- A device may be named, and meant by `*` as well.
            ON CONFLICT (user_id, device_id, position) DO NOTHING
        )
        SELECT user_id, device_id, position, is_full FROM message
        """,
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3].sender for row in rows],
        [to_text(row[3].type) for row in rows],
        [row[4] for row in rows],
        ALL_DEVICES,
        MAX_WAITING - 1,
    )
    for user_id, device_id, position, is_full in found:
        if is_full:
            items[position].full.append((user_id, device_id))
        else:
            items[position].reach.users.add(user_id)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for a device; `content` is JSON."""

    position: int
    sender: UserId
    type: str
    content: str


async def take(
    tx: Tx,
    user_id: UserId,
    device_id: DeviceId,
    acknowledged: int,
    upto: int,
    *,
    delete: bool = True,
) -> list[Waiting]:
    """Delete what the device has got; the next that wait, one more than it may get.

    They come in order, and as many as are not too much at once.
    """
    waiting = await fetch_as(
        tx,
        Waiting,
        """
        WITH gone AS (
            DELETE FROM to_device
             WHERE user_id = $1 AND device_id = $2 AND position <= $3
               AND $7::boolean
        )
        SELECT position, sender, type, content
          FROM (SELECT position, sender, type, content,
                       sum(length(content)) OVER (ORDER BY position)
                           - length(content) AS bytes_before
                  FROM (SELECT * FROM to_device
                         WHERE user_id = $1 AND device_id = $2
                           AND position > $3 AND position <= $4
                         ORDER BY position LIMIT $5) AS next) AS summed
         WHERE bytes_before <= $6
         ORDER BY position
        """,
        user_id,
        device_id,
        acknowledged,
        upto,
        MAX_PER_SYNC + 1,
        MAX_BYTES_PER_SYNC,
        delete,
    )
    return [
        Waiting(each.position, each.sender, from_text(each.type), each.content)
        for each in waiting
    ]


async def forget_seen(tx: Tx, keep: str) -> None:
    """Forget what was sent longer ago than that interval."""
    await tx.execute(
        "DELETE FROM to_device_seen WHERE at < now() - $1::text::interval", keep
    )
