"""Reading and bulk-writing event rows.

Only outliers, rejected and soft-failed events are written here: what takes no position.
What clients can see goes through the committer.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import asyncpg

from federation import canonical_json
from federation.ids import EventId, RoomId
from federation.pdu import Pdu, stored_pdu
from federation.room_versions import ROOM_VERSIONS
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text
from homeserver.events.relations import relation_of
from homeserver.events.stored import StoredEvent

Record: TypeAlias = "asyncpg.Record"


async def read_events(tx: Tx, nids: Sequence[int]) -> dict[int, StoredEvent]:
    """Those events that exist, with the redactions that were applied to them."""
    rows = await tx.fetch(
        """
        SELECT e.event_nid, e.event_id, e.room_nid, r.room_id, r.version, e.position,
               e.prev_nids, e.auth_nids, e.state_before, e.state_after, e.room_state,
               e.rejected, e.soft_failed, e.redacted_by, e.outgoing, e.txn_device,
               e.txn_id, j.json
          FROM events e
          JOIN event_json j USING (event_nid)
          JOIN rooms r USING (room_nid)
         WHERE e.event_nid = ANY($1)
        """,
        nids,
    )
    events = {row["event_nid"]: _event_of(row) for row in rows}
    redactions = {row["event_nid"]: row["redacted_by"] for row in rows}
    wanted = {nid for nid in redactions.values() if nid is not None}
    if wanted:
        found = (
            await read_events(tx, sorted(wanted - events.keys()))
            if (wanted - events.keys())
            else {}
        )
        for nid, by in redactions.items():
            redaction = events.get(by) or found.get(by)
            if redaction is not None:
                events[nid] = events[nid].redacted_by(redaction)
    return events


def _event_of(row: Record) -> StoredEvent:
    text: str = row["json"]
    return StoredEvent(
        nid=row["event_nid"],
        room_nid=row["room_nid"],
        pdu=stored_pdu(
            canonical_json.parse_object(text),
            ROOM_VERSIONS[row["version"]],
            EventId(row["event_id"]),
            RoomId(row["room_id"]),
            text=text.encode(),
        ),
        position=row["position"],
        prev_nids=tuple(row["prev_nids"]),
        auth_nids=tuple(row["auth_nids"]),
        state_before=row["state_before"],
        state_after=row["state_after"],
        room_state=row["room_state"],
        size=len(text),
        rejected=row["rejected"],
        soft_failed=row["soft_failed"],
        outgoing=row["outgoing"],
        txn_device=row["txn_device"],
        txn_id=row["txn_id"],
    )


async def read_nids(tx: Tx, event_ids: Sequence[str]) -> dict[EventId, int]:
    """The numbers of those events that we have in any form."""
    rows = await tx.fetch(
        "SELECT event_id, event_nid FROM events WHERE event_id = ANY($1)", event_ids
    )
    return {EventId(row["event_id"]): row["event_nid"] for row in rows}


async def read_places(
    tx: Tx, room_nid: int, event_ids: Sequence[str]
) -> dict[int, int]:
    """Of those events the ones that a state can hold, by their state keys' numbers."""
    rows = await tx.fetch(
        """
        SELECT key_nid, event_nid FROM events
         WHERE event_id = ANY($1) AND room_nid = $2 AND key_nid IS NOT NULL
           AND rejected IS NULL
        """,
        event_ids,
        room_nid,
    )
    return {row["key_nid"]: row["event_nid"] for row in rows}


async def read_auth_nids(tx: Tx, nids: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """The auth events of those events, by number."""
    rows = await tx.fetch(
        "SELECT event_nid, auth_nids FROM events WHERE event_nid = ANY($1)", nids
    )
    return {row["event_nid"]: tuple(row["auth_nids"]) for row in rows}


async def read_sent(
    tx: Tx, room_nid: int, sender: str, depth: int, limit: int
) -> list[int]:
    """The newest visible events of a sender above a depth, without memberships."""
    rows = await tx.fetch(
        """
        SELECT event_nid FROM events
         WHERE room_nid = $1 AND sender = $2 AND depth > $3 AND position IS NOT NULL
           AND type <> 'm.room.member' AND redacted_by IS NULL
         ORDER BY depth DESC, position DESC LIMIT $4
        """,
        room_nid,
        sender,
        depth,
        limit,
    )
    return [row["event_nid"] for row in rows]


async def insert_events(
    tx: Tx, events: Sequence[StoredEvent], key_nids: Mapping[int, int]
) -> None:
    """Store events that take no position; those already known stay as they are.

    `key_nids` gives the state key's number of each state event, by event number.
    """
    await tx.execute(
        """
        WITH given AS (
            SELECT * FROM unnest(
                $1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[],
                $6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::text[],
                $11::bigint[], $12::bigint[], $13::text[], $14::boolean[], $15::text[],
                $16::text[], $17::text[]
            ) AS t (event_nid, event_id, room_nid, depth, type, key_nid, sender, ts,
                    prev_nids, auth_nids, state_before, state_after, rejected,
                    soft_failed, json, relates_to, rel_type)
        ), stored AS (
            INSERT INTO events (event_nid, event_id, room_nid, depth, type, key_nid,
                                sender, origin_server_ts, prev_nids, auth_nids,
                                state_before, state_after, rejected, soft_failed,
                                relates_to, rel_type)
            SELECT event_nid, event_id, room_nid, depth, type, key_nid, sender, ts,
                   prev_nids::bigint[], auth_nids::bigint[], state_before, state_after,
                   rejected, soft_failed, relates_to, rel_type
              FROM given
            ON CONFLICT (event_id) DO NOTHING
            RETURNING event_nid
        )
        INSERT INTO event_json (event_nid, json)
        SELECT event_nid, json FROM given JOIN stored USING (event_nid)
        """,
        *columns_of(events, key_nids),
        *relation_columns(events),
    )


def relation_columns(
    events: Sequence[StoredEvent],
) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """What the events relate to, and how."""
    relations = [relation_of(event.pdu) for event in events]
    return (
        [None if r is None else r.event_id for r in relations],
        [None if r is None else to_text(r.rel_type) for r in relations],
    )


def columns_of(
    events: Sequence[StoredEvent], key_nids: Mapping[int, int]
) -> tuple[Sequence[object], ...]:
    """The columns of `insert_events` but for the relations, as arrays."""
    return (
        [e.nid for e in events],
        [e.pdu.event_id for e in events],
        [e.room_nid for e in events],
        [e.pdu.depth for e in events],
        [to_text(e.pdu.type) for e in events],
        [key_nids.get(e.nid) for e in events],
        [e.pdu.sender for e in events],
        [e.pdu.origin_server_ts for e in events],
        [array_text(e.prev_nids) for e in events],
        [array_text(e.auth_nids) for e in events],
        [e.state_before for e in events],
        [e.state_after for e in events],
        [None if e.rejected is None else to_text(e.rejected) for e in events],
        [e.soft_failed for e in events],
        [json_text(e.pdu) for e in events],
    )


def json_text(pdu: Pdu) -> str:
    """The event as it is stored: canonical JSON."""
    return pdu.text.decode()


def array_text(numbers: Iterable[int]) -> str:
    """A bigint[] literal: unnest takes no arrays of arrays of different lengths."""
    return "{" + ",".join(map(str, numbers)) + "}"


async def insert_backward_edges(
    tx: Tx, room_nid: int, edges: Sequence[tuple[str, int]]
) -> None:
    """Note prev_events that we lack: (missing event ID, number of its child)."""
    await tx.execute(
        """
        INSERT INTO backward_edges (room_nid, event_id, child_nid)
        SELECT $1, * FROM unnest($2::text[], $3::bigint[])
        ON CONFLICT DO NOTHING
        """,
        room_nid,
        [event_id for event_id, _ in edges],
        [child for _, child in edges],
    )


async def delete_backward_edges(
    tx: Tx, room_nid: int, event_ids: Sequence[str]
) -> None:
    """Those events have arrived: link their children to them."""
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM backward_edges
             WHERE room_nid = $1 AND event_id = ANY($2)
         RETURNING event_id, child_nid
        ), links AS (
            SELECT g.child_nid, array_agg(e.event_nid) AS nids
              FROM gone g JOIN events e USING (event_id)
             GROUP BY g.child_nid
        )
        UPDATE events SET prev_nids = prev_nids || links.nids
          FROM links WHERE events.event_nid = links.child_nid
        """,
        room_nid,
        event_ids,
    )


async def judge_outlier(tx: Tx, event: StoredEvent) -> None:
    """Write what was decided about an event that was known as an outlier."""
    await tx.execute(
        """
        UPDATE events
           SET state_before = $2, state_after = $3, rejected = $4, soft_failed = $5,
               auth_nids = $6
         WHERE event_nid = $1 AND position IS NULL
        """,
        event.nid,
        event.state_before,
        event.state_after,
        None if event.rejected is None else to_text(event.rejected),
        event.soft_failed,
        event.auth_nids,
    )


async def read_expectations(
    tx: Tx, room_nid: int, event_id: str
) -> tuple[bool, list[int]]:
    """What waits for an event.

    Whether a stored event names it as a lacking prev_event, and the numbers of the
    redactions that came before it.
    """
    row = await tx.fetchrow(
        """
        SELECT EXISTS (SELECT FROM backward_edges
                        WHERE room_nid = $1 AND event_id = $2) AS awaited,
               ARRAY (SELECT event_nid FROM redactions
                       WHERE redacts = $2 AND room_nid = $1) AS redactions
        """,
        room_nid,
        event_id,
    )
    return (row["awaited"], row["redactions"]) if row is not None else (False, [])
