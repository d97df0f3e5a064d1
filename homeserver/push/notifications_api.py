"""The endpoint that lists what the user was notified of.

Nothing is kept of notifications: events are judged again, by the rules of their time.

Spec: client-server-api#listing-notifications
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.events.client_format import Sight, Viewer, render
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.room import Member, Room, User
from homeserver.push.counts import Judge, UnreadCounts, unread_counts
from homeserver.push.evaluation import Outcome
from homeserver.push.marks import Marks, joined_since, read_marks

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
_AT_ONCE: Final = 100  # events that are judged in one go
_GOES: Final = 20  # of these for one page; a page may hold less than was asked for


@dataclass(frozen=True, slots=True)
class _Found:
    event: StoredEvent
    outcome: Outcome


@route("GET", "/_matrix/client/v3/notifications", auth=by_access_token)
async def get_notifications(ctx: Context, request: ClientRequest) -> Answer:
    """A page of what the user was notified of, the newest first.

    Raises: M_INVALID_PARAM.

    Spec: client-server-api#get_matrixclientv3notifications
    """
    before = _position(request.query_str("from"), ctx.live.position + 1)
    limit = request.query_int("limit", DEFAULT_LIMIT, minimum=1, at_most=MAX_LIMIT)
    only_highlights = request.query_str("only") == "highlight"
    user = await ctx.live.user(request.user_id)
    way = _Way(ctx, user, unread_counts(ctx.db, ctx.live))
    found: list[_Found] = []
    async for each in way.back(before):
        if each.outcome.highlights or not only_highlights:
            found.append(each)
        if len(found) == limit:
            break
    reply: JsonObject = {"notifications": list(await _shown(ctx, request, found, way))}
    if len(found) == limit:
        reply["next_token"] = str(found[-1].event.position)
    elif way.before > 1:
        reply["next_token"] = str(way.before)
    return reply


def _position(token: str | None, newest: int) -> int:
    if token is None:
        return newest
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise errors.invalid_param("from: this is not a token of this server.")
    return min(int(token), newest)


@dataclass(slots=True)
class _Way:
    """The way back through the events of all rooms that the user is in.

    `before` is how far it has come; 0: to its end.
    """

    ctx: Context
    user: User
    counts: UnreadCounts
    before: int = 0
    since: dict[int, int] = field(default_factory=dict)  # when each room was joined
    judges: dict[int, Judge] = field(default_factory=dict)

    async def back(self, before: int) -> AsyncIterator[_Found]:
        """What notified the user, the newest first; ends when it has gone far."""
        self.before = before
        joined = {n: m for n, m in self.user.rooms.items() if m.membership == "join"}
        for _ in range(_GOES):
            async with self.ctx.db.read() as tx:
                nids = await read_newest(tx, list(joined), self.before, _AT_ONCE)
            events = list((await self.ctx.live.events.by_nids(nids)).values())
            rooms = await self.ctx.live.rooms({event.room_nid for event in events})
            for event in events:
                member, room = joined[event.room_nid], rooms.get(event.room_nid)
                outcome = None
                if room is not None and event.pdu.sender != self.user.user_id:
                    outcome = await self._outcome(event, room, member)
                self.before = event.position or 0
                if outcome is not None and outcome.notifies:
                    yield _Found(event, outcome)
            if len(nids) < _AT_ONCE:
                self.before = 0
                return

    async def _outcome(
        self, event: StoredEvent, room: Room, member: Member
    ) -> Outcome | None:
        nid, user_id = room.nid, self.user.user_id
        retention = self.ctx.live.retention
        horizon = None if retention is None else await retention.horizon(nid)
        if horizon is not None and horizon.hides(event):
            return None
        if nid not in self.since:
            self.since[nid] = await joined_since(self.ctx.live, member, user_id, 0)
            history = await self.counts.rules.of(user_id)
            self.judges[nid] = Judge(self.ctx.live, room, history)
        if (event.position or 0) <= self.since[nid]:
            return None
        return await self.judges[nid].outcome(event)


async def _shown(
    ctx: Context, request: ClientRequest, found: Sequence[_Found], way: _Way
) -> list[JsonObject]:
    viewer = Viewer(request.user_id, request.device_id)
    events = [each.event for each in found]
    async with ctx.db.read() as tx:
        marks = await read_marks(
            tx, request.user_id, list({event.room_nid for event in events})
        )
    digests = await way.counts.digests.of_events(events)
    threads = {digest.position: digest.thread for digest in digests}
    return [
        {
            "actions": list(each.outcome.actions),
            "event": render(
                Sight(each.event, "join"), viewer, ctx.clock.ms(), with_room_id=False
            ),  # type: ignore[dict-item]
            "read": _is_read(each.event, threads, marks),
            "room_id": each.event.pdu.room_id,
            "ts": each.event.pdu.origin_server_ts,
        }
        for each in found
    ]


def _is_read(
    event: StoredEvent, threads: Mapping[int, str], marks: Mapping[int, Marks]
) -> bool:
    mark, position = marks[event.room_nid], event.position or 0
    return position <= max(mark.start, mark.threads.get(threads[position], 0))


async def read_newest(
    tx: Tx, room_nids: Sequence[int], before: int, limit: int
) -> list[int]:
    """The numbers of the newest events of those rooms before a position."""
    rows = await tx.fetch(
        """
        SELECT e.event_nid
          FROM unnest($1::bigint[]) AS r (room_nid)
         CROSS JOIN LATERAL (
                SELECT event_nid, position FROM events
                 WHERE room_nid = r.room_nid AND position > 0 AND position < $2
                 ORDER BY position DESC LIMIT $3
               ) AS e
         ORDER BY e.position DESC LIMIT $3
        """,
        room_nids,
        before,
        limit,
    )
    return [row[0] for row in rows]
