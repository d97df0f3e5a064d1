"""Reading parts of the view from one snapshot of the database.

Each function takes a connection whose transaction is REPEATABLE READ; `position_of`
gives the position that the snapshot stands at.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import RoomId, ServerName, UserId
from federation.room_versions import ROOM_VERSIONS
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text
from homeserver.events.keys import StateKeys
from homeserver.live.changes import Reach
from homeserver.live.room import RECENT_EVENTS, Head, Member, Pulse, Room, User


async def position_of(tx: Tx) -> int:
    """The position of the newest change that the snapshot shows."""
    position: int = await tx.fetchval("SELECT position FROM sequencer")
    return position


async def room_nid_of(tx: Tx, room_id: str) -> int | None:
    """The number of a room that has anything here."""
    nid: int | None = await tx.fetchval(
        "SELECT room_nid FROM rooms WHERE room_id = $1", room_id
    )
    return nid


@dataclass(frozen=True, slots=True)
class RoomRow:
    """What `rooms` says of one room."""

    nid: int
    room_id: RoomId
    version: str
    head: Head
    last_position: int


async def read_room_rows(tx: Tx, nids: Sequence[int]) -> list[RoomRow]:
    """The rows of those rooms."""
    rows = await tx.fetch(
        """
        SELECT r.room_nid, r.room_id, r.version, r.guard, r.last_position, r.depth,
               r.state_root, r.extremities, p.servers AS partial
          FROM rooms r LEFT JOIN partial_rooms p USING (room_nid)
         WHERE r.room_nid = ANY($1)
        """,
        nids,
    )
    return [
        RoomRow(
            nid=row["room_nid"],
            room_id=RoomId(row["room_id"]),
            version=row["version"],
            head=Head(
                guard=row["guard"],
                extremities=tuple(row["extremities"]),
                state_root=row["state_root"],
                depth=row["depth"],
                partial=(
                    None
                    if row["partial"] is None
                    else frozenset(map(ServerName, row["partial"]))
                ),
            ),
            last_position=row["last_position"],
        )
        for row in rows
    ]


async def read_rooms(
    tx: Tx, nids: Sequence[int], position: int, keys: StateKeys, our_name: ServerName
) -> list[Room]:
    """Those rooms, whole, as of the snapshot's position."""
    state = await _read_state(tx, nids, keys)
    members = await _read_members(tx, nids)
    recent = await _read_recent(tx, nids)
    return [
        Room(
            nid=row.nid,
            room_id=row.room_id,
            version=ROOM_VERSIONS[row.version],
            position=position,
            head=row.head,
            state=state[row.nid],
            members=members[row.nid],
            our_name=our_name,
            recent=recent[row.nid],
            # As many as we asked for: there may be older ones.
            recent_from=(
                recent[row.nid][0][0] - 1
                if len(recent[row.nid]) == RECENT_EVENTS
                else 0
            ),
        )
        for row in await read_room_rows(tx, nids)
    ]


async def _read_state(
    tx: Tx, nids: Sequence[int], keys: StateKeys
) -> dict[int, dict[tuple[str, str], int]]:
    rows = await tx.fetch(
        """
        SELECT c.room_nid, c.event_nid, c.key_nid, k.type, k.state_key
          FROM current_state c JOIN state_keys k USING (key_nid)
         WHERE c.room_nid = ANY($1)
        """,
        nids,
    )
    state: dict[int, dict[tuple[str, str], int]] = defaultdict(dict)
    for room_nid, event_nid, key_nid, event_type, state_key in rows:
        key = (from_text(event_type), from_text(state_key))
        keys.remember(key_nid, key)
        state[room_nid][key] = event_nid
    return state


async def _read_members(tx: Tx, nids: Sequence[int]) -> dict[int, dict[UserId, Member]]:
    rows = await tx.fetch(
        """
        SELECT room_nid, user_id, membership, event_nid, position, forgotten
          FROM memberships
         WHERE room_nid = ANY($1) AND membership IN ('join', 'invite', 'knock')
        """,
        nids,
    )
    members: dict[int, dict[UserId, Member]] = defaultdict(dict)
    for room_nid, user_id, membership, event_nid, position, forgotten in rows:
        members[room_nid][UserId(user_id)] = Member(
            membership, event_nid, position, forgotten
        )
    return members


async def _read_recent(
    tx: Tx, nids: Sequence[int]
) -> dict[int, "deque[tuple[int, int]]"]:
    rows = await tx.fetch(
        """
        SELECT wanted.room_nid, e.position, e.event_nid
          FROM unnest($1::bigint[]) AS wanted (room_nid)
         CROSS JOIN LATERAL (
                SELECT position, event_nid FROM events
                 WHERE room_nid = wanted.room_nid AND position > 0
                 ORDER BY position DESC LIMIT $2
               ) AS e
         ORDER BY e.position
        """,
        nids,
        RECENT_EVENTS,
    )
    recent: dict[int, deque[tuple[int, int]]] = defaultdict(deque)
    for room_nid, position, event_nid in rows:
        recent[room_nid].append((position, event_nid))
    return recent


async def read_pulses(tx: Tx, nids: Sequence[int], position: int) -> dict[int, Pulse]:
    """When those rooms moved last, as of the snapshot's position.

    Typing keeps no position: where somebody types it moved just now, elsewhere never.
    `devices` and `people` err to the late side: it would take a look at every member.
    """
    rows = await tx.fetch(
        """
        SELECT r.room_nid, r.last_position,
               (SELECT max(position) FROM receipts WHERE room_nid = r.room_nid),
               (SELECT max(position) FROM memberships WHERE room_nid = r.room_nid),
               (SELECT max(position) FROM device_lists),
               EXISTS (SELECT FROM typing WHERE room_nid = r.room_nid)
          FROM rooms r WHERE r.room_nid = ANY($1)
        """,
        nids,
    )
    return {
        nid: Pulse(
            events=events,
            receipts=receipts or 0,
            members=members or 0,
            devices=devices or 0,
            typing=position if types else 0,
            people=position,
        )
        for nid, events, receipts, members, devices, types in rows
    }


async def read_user(tx: Tx, user_id: UserId, position: int) -> User:
    """A local user's memberships; `moved` and `people` err to the late side."""
    rows = await tx.fetch(
        """
        SELECT room_nid, membership, event_nid, position, forgotten
          FROM memberships WHERE user_id = $1 AND local
        """,
        user_id,
    )
    to_device: int | None = await tx.fetchval(
        "SELECT max(position) FROM to_device WHERE user_id = $1", user_id
    )
    return User(
        user_id=user_id,
        position=position,
        rooms={
            nid: Member(membership, event_nid, at, forgotten)
            for nid, membership, event_nid, at, forgotten in rows
        },
        moved=position,
        to_device=to_device or 0,
        people=position,
    )


async def read_reaches(tx: Tx, positions: Sequence[int]) -> dict[int, Reach]:
    """Whom changes at those positions concern, about devices and people."""
    found: dict[int, Reach] = {position: Reach() for position in positions}
    rows = await tx.fetch(
        """
        SELECT DISTINCT position, user_id, NULL::bigint AS room_nid, NULL AS server_name
          FROM to_device WHERE position = ANY($1)
         UNION ALL
        SELECT d.position, NULL, m.room_nid, NULL
          FROM (SELECT position, user_id FROM device_lists
                 UNION ALL SELECT position, user_id FROM presence
                 UNION ALL SELECT position, user_id FROM profiles
                            WHERE position > 0) AS d
          JOIN memberships m ON m.user_id = d.user_id AND m.membership = 'join'
         WHERE d.position = ANY($1)
         UNION ALL
        SELECT position, NULL, NULL, server_name
          FROM outgoing_edus WHERE position = ANY($1)
        """,
        positions,
    )
    for position, user_id, room_nid, server_name in rows:
        reach = found[position]
        if user_id is not None:
            reach.users.add(user_id)
        elif room_nid is not None:
            reach.rooms.add(room_nid)
        else:
            reach.servers.add(server_name)
    return found


async def read_members_since(
    tx: Tx, nids: Sequence[int], since: int
) -> dict[int, dict[UserId, Member]]:
    """Memberships of those rooms that changed after a position."""
    rows = await tx.fetch(
        """
        SELECT room_nid, user_id, membership, event_nid, position, forgotten
          FROM memberships WHERE room_nid = ANY($1) AND position > $2
        """,
        nids,
        since,
    )
    members: dict[int, dict[UserId, Member]] = defaultdict(dict)
    for room_nid, user_id, membership, event_nid, position, forgotten in rows:
        members[room_nid][UserId(user_id)] = Member(
            membership, event_nid, position, forgotten
        )
    return members


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One row of `changes`."""

    position: int
    kind: int
    room_nid: int | None
    user_id: str | None
    ref: int | None


async def read_changes(tx: Tx, after: int) -> list[ChangeRow]:
    """What happened after a position, in order."""
    rows = await tx.fetch(
        """
        SELECT position, kind, room_nid, user_id, ref FROM changes
         WHERE position > $1 ORDER BY position
        """,
        after,
    )
    return [ChangeRow(*row) for row in rows]
