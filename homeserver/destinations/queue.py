"""What must happen with stored events, so that every server gets what it should.

It runs inside the transaction that stores them. In the steady state there is nothing to
do: who gets an event follows from `room_servers` and the cursors. Only when a server
comes into a room or leaves it, something has to be noted.
"""

from collections.abc import Sequence
from typing import Final

from federation.errors import Malformed
from federation.ids import ServerName, parse_user_id, server_of
from homeserver.db.pool import Tx
from homeserver.events.stored import StoredEvent
from homeserver.live.steps import Consequence, Step

# Fewer than one transaction holds, so that one has all of a position.
MAX_HEADS: Final = 20
_GOES: Final = frozenset({"leave", "ban"})


def _is_due(step: Step) -> bool:
    our_name = step.room.our_name
    return any(by and server != our_name for server, by in step.servers.items()) or any(
        event.outgoing and event.pdu.membership in _GOES for event in step.events
    )


async def _run(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    for first, step in steps:
        our_name = step.room.our_name
        changed = [(s, by) for s, by in step.servers.items() if by and s != our_name]
        await _add_destinations(tx, [s for s, by in changed if by > 0], first - 1)
        gone = [server for server, by in changed if by < 0]
        if gone:
            await _keep_backlog(tx, step.room.nid, gone, first)
        await _add_other_heads(tx, step, first, [s for s, by in changed if by > 0])
        await _add_farewells(tx, step, first, gone)


async def _add_destinations(
    tx: Tx, servers: Sequence[ServerName], position: int
) -> None:
    """Servers that we may never have sent anything to begin at the present."""
    if servers:
        await tx.execute(
            """
            INSERT INTO destinations (server_name, position)
            SELECT server_name, $2 FROM unnest($1::text[]) AS u (server_name)
            ON CONFLICT DO NOTHING
            """,
            servers,
            position,
        )


async def _add_other_heads(
    tx: Tx, step: Step, position: int, servers: Sequence[ServerName]
) -> None:
    """For servers that come in: what the state before their join does not reach.

    Between the template of a join and the join others may have written. They did not
    send it to a server that was not there yet, and nothing would lead it there.
    """
    new = {event.nid for event in step.events}
    heads = [nid for nid in step.head.extremities if nid not in new][-MAX_HEADS:]
    if not heads or not servers:
        return
    await tx.execute(
        """
        INSERT INTO outgoing_events (server_name, position, event_nid)
        SELECT u.server_name, $2, e.event_nid
          FROM unnest($1::text[]) AS u (server_name)
          JOIN events e ON e.event_nid = ANY($3)
                       AND substr(e.sender, strpos(e.sender, ':') + 1) <> u.server_name
        ON CONFLICT DO NOTHING
        """,
        servers,
        position,
        heads,
    )


async def _keep_backlog(
    tx: Tx, room_nid: int, servers: Sequence[ServerName], before: int
) -> None:
    """Of servers that have just left: note what they have not got of the room yet."""
    await tx.execute(
        """
        INSERT INTO outgoing_events (server_name, position, event_nid)
        SELECT s.server_name, e.position, e.event_nid
          FROM room_servers s
          JOIN destinations d USING (server_name)
          JOIN events e ON e.room_nid = s.room_nid AND e.outgoing
                       AND e.position > greatest(d.position, s.since)
                       AND e.position < $3
         WHERE s.room_nid = $1 AND s.server_name = ANY($2) AND s.joined <= 0
           AND substr(e.sender, strpos(e.sender, ':') + 1) <> s.server_name
        ON CONFLICT DO NOTHING
        """,
        room_nid,
        servers,
        before,
    )


async def _add_farewells(
    tx: Tx, step: Step, first: int, gone: Sequence[ServerName]
) -> None:
    """Events of ours for servers that are not in the room after them.

    Those tell a server that its last user was sent away, or that an invite of a user
    of its was taken back.
    """
    pairs: list[tuple[ServerName, int, int]] = []
    for position, event in enumerate(step.events, first):
        if not event.outgoing:
            continue
        servers = {*gone, *target_server(event)} - {
            step.room.our_name,
            server_of(event.pdu.sender),
        }
        pairs += [(server, position, event.nid) for server in servers]
    if not pairs:
        return
    servers_told = [server for server, _, _ in pairs]
    await _add_destinations(tx, servers_told, first - 1)
    await tx.execute(
        """
        INSERT INTO outgoing_events (server_name, position, event_nid)
        SELECT server_name, position, event_nid
          FROM unnest($1::text[], $2::bigint[], $3::bigint[])
                 AS u (server_name, position, event_nid)
         WHERE NOT EXISTS (
               SELECT FROM room_servers s
                WHERE s.room_nid = $4 AND s.server_name = u.server_name
                  AND s.joined > 0)
        ON CONFLICT DO NOTHING
        """,
        servers_told,
        [position for _, position, _ in pairs],
        [nid for _, _, nid in pairs],
        step.room.nid,
    )


def target_server(event: StoredEvent) -> tuple[ServerName, ...]:
    """The server of the user whom a leave or a ban sends away, if it is one."""
    if event.pdu.membership not in _GOES or event.pdu.state_key is None:
        return ()
    try:
        return (server_of(parse_user_id(event.pdu.state_key)),)
    except Malformed:
        return ()


QUEUE_EVENTS: Final = Consequence(_is_due, _run)
