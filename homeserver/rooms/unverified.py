"""Pushed events that nobody can check yet, for want of a key.

Who pushed them takes them for received and does not come again. So they are kept, a
bounded number of them for some days, and are judged once the key is to be had: after
growing pauses, or as soon as the server whose key it is gives a sign of life.

Table: unverified_events.

Spec: server-server-api#retrieving-server-keys
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog

from federation import canonical_json
from federation.errors import BadSignature, ProtocolError
from federation.ids import EventId, ServerName, server_of
from federation.pdu import Pdu, parse_pdu
from homeserver.claimed import Claimed
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as
from homeserver.live.committer import Overloaded
from homeserver.live.room import Room
from homeserver.live.steps import Conflict
from homeserver.rooms import acl
from homeserver.rooms.missing import Source, Unfetchable, accept_with_what_it_needs
from homeserver.server_keys.verify import KeyUnknown, Verified, verify_all

MOST_OF_ROOM: Final = 100
MOST_OF_ORIGIN: Final = 500
_KEEP_DAYS: Final = 3
_FIRST_PAUSE_S: Final = 30
_MAX_PAUSE_S: Final = 3600
_AT_ONCE: Final = 50
_ACCEPT_S: Final = 30.0
_MAX_AWAITED: Final = 10_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """One event that waits."""

    room_nid: int
    event_id: EventId
    origin: ServerName
    server: ServerName
    json: str
    tries: int


async def keep(
    ctx: Context, room: Room, origin: ServerName, pdu: Pdu, server: ServerName
) -> None:
    """Keep a pushed event until the server's key is to be had, if there is room.

    Only of servers in the room: nobody else has anything to say there.
    """
    sender = server_of(pdu.sender)
    if room.servers.get(sender, 0) <= 0:
        await ctx.live.follower.pull()  # another process may be a moment ahead
        room = await ctx.live.room(room.room_id) or room
        if room.servers.get(sender, 0) <= 0:
            return
    async with ctx.db.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO unverified_events
                   (room_nid, event_id, origin, server, json, due_at)
            SELECT $1, $2, $3, $4, $5, now() + $6 * interval '1 second'
             WHERE $7 > (SELECT count(*) FROM unverified_events WHERE room_nid = $1)
               AND $8 > (SELECT count(*) FROM unverified_events WHERE origin = $3)
            ON CONFLICT DO NOTHING
            """,
            room.nid,
            pdu.event_id,
            origin,
            server,
            pdu.text.decode(),
            _FIRST_PAUSE_S,
            MOST_OF_ROOM,
            MOST_OF_ORIGIN,
        )
    log.info("event waits for a key", event_id=pdu.event_id, server=server)


def lacking_key(dropped: Iterable[BadSignature]) -> ServerName | None:
    """The server whose key is to blame, when the lack of one may pass."""
    return next((e.server for e in dropped if isinstance(e, KeyUnknown)), None)


class Retrier:
    """Takes up events that wait, while the block lasts."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._awaited: set[ServerName] = set()
        self._alive: set[ServerName] = set()
        self._work = Claimed(
            ctx.db,
            "unverified-events",
            claim=self._claim,
            renew=_renew,
            work=lambda kept: _retry(ctx, kept),
            at_once=1,
        )

    async def __aenter__(self) -> Self:
        self._ctx.on_sign_of_life.append(self._on_sign_of_life)
        await self._work.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ctx.on_sign_of_life.remove(self._on_sign_of_life)
        await self._work.__aexit__(kind, error, trace)

    def _on_sign_of_life(self, server: ServerName) -> None:
        if server in self._awaited:
            self._alive.add(server)
            self._work.wake()

    async def _claim(self, tx: Tx, seconds: float, _most: int) -> list[Sequence[Kept]]:
        alive, self._alive = self._alive, set()
        self._awaited = await _look_round(tx, list(alive))
        kept = await _claim(tx, seconds)
        return [kept] if kept else []


async def _look_round(tx: Tx, alive: Sequence[ServerName]) -> set[ServerName]:
    """Forget what is too old, make due what may be checked; the servers awaited."""
    await tx.execute(
        """
        DELETE FROM unverified_events
         WHERE received_at < now() - $1 * interval '1 day'
        """,
        _KEEP_DAYS,
    )
    if alive:
        await tx.execute(
            "UPDATE unverified_events SET due_at = now() WHERE server = ANY($1)", alive
        )
    rows = await tx.fetch(
        "SELECT DISTINCT server FROM unverified_events LIMIT $1", _MAX_AWAITED
    )
    return {ServerName(row["server"]) for row in rows}


async def _claim(tx: Tx, seconds: float) -> list[Kept]:
    """Events that wait for one server, the first first; ours for a while."""
    kept = await fetch_as(
        tx,
        Kept,
        """
        WITH due AS (
            SELECT room_nid, event_id FROM unverified_events
             WHERE due_at <= now()
               AND server = (SELECT server FROM unverified_events
                              WHERE due_at <= now() ORDER BY due_at LIMIT 1)
             ORDER BY received_at LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        UPDATE unverified_events AS u
           SET due_at = now() + $2 * interval '1 second', tries = tries + 1
          FROM due
         WHERE u.room_nid = due.room_nid AND u.event_id = due.event_id
     RETURNING u.room_nid, u.event_id, u.origin, u.server, u.json, u.tries
        """,
        _AT_ONCE,
        seconds,
    )
    return sorted(kept, key=lambda each: each.tries)


async def _renew(tx: Tx, several: Sequence[Sequence[Kept]], seconds: float) -> None:
    """Have them ours for so long from now on."""
    kept = [each for of_server in several for each in of_server]
    await tx.execute(
        """
        UPDATE unverified_events AS e SET due_at = now() + $3 * interval '1 second'
          FROM unnest($1::bigint[], $2::text[]) AS u (room_nid, event_id)
         WHERE e.room_nid = u.room_nid AND e.event_id = u.event_id
        """,
        [each.room_nid for each in kept],
        [each.event_id for each in kept],
        seconds,
    )


async def _retry(ctx: Context, kept: Sequence[Kept]) -> None:
    """Judge those that can be judged now, and leave the others for later."""
    done: list[Kept] = []
    by_room: defaultdict[int, list[Kept]] = defaultdict(list)
    for each in kept:
        by_room[each.room_nid].append(each)
    for room_nid, of_room in by_room.items():
        room = await ctx.live.view.room(room_nid)
        if room is None or not room.is_resident:
            done += of_room
            continue
        try:
            done += await _retry_in_room(ctx, room, of_room)
        except DatabaseError:
            raise
        except Exception:
            # A slip of ours must not keep the other events from their turn.
            log.exception("events not retried", room_nid=room_nid)
    async with ctx.db.transaction() as tx:
        await _delete(tx, done)
        if len(done) < len(kept):
            tries = max(each.tries for each in kept)
            pause = min(_FIRST_PAUSE_S * 2 ** min(tries, 20), _MAX_PAUSE_S)
            await _put_off(tx, kept[0].server, pause)


async def _retry_in_room(
    ctx: Context, room: Room, kept: Sequence[Kept]
) -> Sequence[Kept]:
    """Those that need not be kept any longer."""
    pdus: dict[EventId, Pdu] = {}
    for each in kept:
        try:
            raw = canonical_json.parse_object(each.json.encode())
            pdus[each.event_id] = parse_pdu(raw, room.version)
        except ProtocolError as error:
            log.info("event dropped", event_id=each.event_id, reason=str(error))
    verdicts = await verify_all(ctx, list(pdus.values()))
    by_id = dict(zip(pdus, verdicts, strict=True))
    in_order = sorted(
        kept, key=lambda each: pdus[each.event_id].depth if each.event_id in pdus else 0
    )
    done = []
    for each in in_order:
        verdict = by_id.get(each.event_id)
        if isinstance(verdict, KeyUnknown):
            continue
        if not isinstance(verdict, Verified) or await _accept(
            ctx, room, each.origin, verdict
        ):
            done.append(each)
    return done


async def _accept(
    ctx: Context, room: Room, origin: ServerName, event: Verified
) -> bool:
    """Whether the event was judged, or need not be."""
    if not await acl.is_allowed(ctx.live, room, origin):
        return True
    servers = dict.fromkeys((origin, server_of(event.pdu.sender)))
    others = [server for server in servers if server != ctx.server_name]
    source = Source(ctx, room, others, ctx.clock.monotonic() + _ACCEPT_S)
    try:
        outcome, _ = await accept_with_what_it_needs(source, event)
    except (Unfetchable, Conflict, Overloaded) as error:
        log.info(
            "event goes on waiting", event_id=event.pdu.event_id, reason=str(error)
        )
        return False
    log.info("event taken up", event_id=event.pdu.event_id, outcome=outcome.value)
    return True


async def _delete(tx: Tx, done: Sequence[Kept]) -> None:
    await tx.execute(
        """
        DELETE FROM unverified_events AS e
         USING unnest($1::bigint[], $2::text[]) AS u (room_nid, event_id)
         WHERE e.room_nid = u.room_nid AND e.event_id = u.event_id
        """,
        [each.room_nid for each in done],
        [each.event_id for each in done],
    )


async def _put_off(tx: Tx, server: ServerName, pause_s: int) -> None:
    await tx.execute(
        """
        UPDATE unverified_events SET due_at = now() + $2 * interval '1 second'
         WHERE server = $1
        """,
        server,
        pause_s,
    )
