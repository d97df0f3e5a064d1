"""What events come with: their latest edits, their threads, what refers to them.

Asked for all events of an answer at once, and only for those that may have children
(homeserver/rooms/related.py), so mostly not at all. What counts is what the reader may
see: nothing from users whom they ignore, nothing from times that are closed to them.

Spec: client-server-api#aggregations-of-child-events
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from federation.ids import EventId, UserId
from homeserver.db.pool import Database, Tx
from homeserver.db.rows import fetch_as, to_text
from homeserver.events.client_format import Bundle, Sight, Thread
from homeserver.events.relations import (
    REFERENCE,
    REPLACE,
    THREAD,
    is_editable,
    is_valid_edit,
)
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.rooms.related import related
from homeserver.rooms.viewing import Reader, last_joined, open_states, visible

_NEVER: Final = 2**62
# Of a text's edits, how many are looked at for one that is valid. They are all its
# sender's.
_EDITS: Final = 20
# References are told one by one; the newest, when there are more.
_REFERENCES: Final = 250
# Roots of `state_before`: the reader was joined by then; the state is not known.
_OPEN: Final = -1
_UNKNOWN: Final = -2


@dataclass(frozen=True, slots=True)
class View:
    """Events of one room before their reader."""

    reader: Reader
    sights: Sequence[Sight]


@dataclass(frozen=True, slots=True)
class _Group:
    """Children of one parent that are of one kind, sender and state."""

    parent: int
    rel_type: str
    sender: str
    root: int
    joined_later: bool
    count: int
    latest: Sequence[int] | None  # of a thread: depth, position, number
    edits: Sequence[int] | None  # the newest first
    references: Sequence[str] | None  # the newest first


@dataclass(slots=True)
class _Children:
    """What a reader may see of one event's children."""

    edits: list[int] = field(default_factory=list)
    references: list[EventId] = field(default_factory=list)
    count: int = 0
    latest: Sequence[int] = ()
    has_taken_part: bool = False


async def bundled(
    db: Database, live: Live, reader: Reader, sights: Sequence[Sight]
) -> list[Sight]:
    """The same events of one room, each with what its children come to."""
    return (await bundled_all(db, live, (View(reader, sights),)))[0]


async def bundled_all(
    db: Database, live: Live, views: Sequence[View]
) -> list[list[Sight]]:
    """The same for several rooms, with one query for all."""
    everything = [sight.event for view in views for sight in view.sights]
    parents = await related(db, live).parents_among(everything)
    if not parents:
        return [list(view.sights) for view in views]
    asked = [
        View(v.reader, [s for s in v.sights if s.event.nid in parents]) for v in views
    ]
    children = await _read(db, live, asked)
    bundles = [
        await _bundles(db, live, view, found)
        for view, found in zip(asked, children, strict=True)
    ]
    return [
        [_with(sight, found.get(sight.event.nid)) for sight in view.sights]
        for view, found in zip(views, bundles, strict=True)
    ]


def _with(sight: Sight, bundle: Bundle | None) -> Sight:
    return sight if bundle is None else replace(sight, bundle=bundle)


async def _read(
    db: Database, live: Live, views: Sequence[View]
) -> list[dict[int, _Children]]:
    """The children of each view's events, by the parents' numbers."""
    asked = [(view.reader, sight.event) for view in views for sight in view.sights]
    until = [await last_joined(live, view.reader) for view in views]
    untils = [t for t, view in zip(until, views, strict=True) for _ in view.sights]
    async with db.read() as tx:
        groups = await _read_groups(tx, asked, untils)
    by_parent: defaultdict[int, list[_Group]] = defaultdict(list)
    for group in groups:
        by_parent[group.parent].append(group)
    found: list[dict[int, _Children]] = []
    for view in views:
        mine = {s.event.nid: by_parent.get(s.event.nid, []) for s in view.sights}
        found.append(await _visible_children(live, view.reader, mine))
    return found


async def _read_groups(
    tx: Tx, asked: Sequence[tuple[Reader, StoredEvent]], untils: Sequence[int]
) -> list[_Group]:
    """`untils`: up to where the events' readers were joined at any time after."""
    return await fetch_as(
        tx,
        _Group,
        """
        WITH parent AS (
            SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[],
                                 $5::text[], $6::bigint[], $7::bigint[])
                AS p (event_nid, event_id, room_nid, sender, type, since, until)
        )
        SELECT p.event_nid AS parent, c.rel_type, c.sender,
               CASE WHEN c.position > p.since THEN -1
                    ELSE coalesce(c.state_before, -2) END AS root,
               c.position < p.until AS joined_later,
               count(*) AS count,
               max(ARRAY[c.depth, c.position, c.event_nid]) AS latest,
               NULL::bigint[] AS edits, NULL::text[] AS "references"
          FROM parent p
          JOIN events c
            ON c.room_nid = p.room_nid AND c.relates_to = p.event_id
           AND c.rel_type = 'm.thread'
           AND c.position IS NOT NULL AND c.redacted_by IS NULL
         GROUP BY 1, 2, 3, 4, 5
         UNION ALL
        SELECT p.event_nid, c.rel_type, c.sender,
               CASE WHEN c.position > p.since THEN -1
                    ELSE coalesce(c.state_before, -2) END,
               c.position < p.until,
               count(*),
               NULL,
               (array_agg(c.event_nid ORDER BY c.origin_server_ts DESC, c.event_id DESC)
                   FILTER (WHERE c.rel_type = 'm.replace'))[1:$8],
               (array_agg(c.event_id ORDER BY c.depth DESC, c.position DESC)
                   FILTER (WHERE c.rel_type = 'm.reference'))[1:$9]
          FROM parent p
          JOIN events c
            ON c.room_nid = p.room_nid AND c.relates_to = p.event_id
           AND c.rel_type IN ('m.replace', 'm.reference')
           AND c.position IS NOT NULL AND c.redacted_by IS NULL
         WHERE c.rel_type <> 'm.replace'
            OR (c.sender = p.sender AND c.type = p.type AND c.key_nid IS NULL)
         GROUP BY 1, 2, 3, 4, 5
        """,
        [event.nid for _, event in asked],
        [event.event_id for _, event in asked],
        [event.room_nid for _, event in asked],
        [event.pdu.sender for _, event in asked],
        [to_text(event.pdu.type) for _, event in asked],
        [_joined_since(reader) for reader, _ in asked],
        [min(until, _NEVER) for until in untils],
        _EDITS,
        _REFERENCES,
    )


def _joined_since(reader: Reader) -> int:
    return reader.member.position if reader.member and reader.is_joined else _NEVER


async def _visible_children(
    live: Live, reader: Reader, groups: dict[int, list[_Group]]
) -> dict[int, _Children]:
    ignored = await live.ignored.by(reader.user_id)
    states = {
        (group.root, group.joined_later)
        for of_parent in groups.values()
        for group in of_parent
        if group.root >= 0
    }
    seen = await open_states(live, reader, states)
    found: dict[int, _Children] = {}
    for parent, of_parent in groups.items():
        children = _Children()
        for group in of_parent:
            is_seen = (group.root, group.joined_later) in seen or group.root == _OPEN
            if is_seen and UserId(group.sender) not in ignored:
                _add(children, group, reader.user_id)
        found[parent] = children
    return found


def _add(children: _Children, group: _Group, user_id: UserId) -> None:
    if group.rel_type == REPLACE:
        children.edits += group.edits or ()
    elif group.rel_type == REFERENCE:
        children.references += map(EventId, reversed(group.references or ()))
    elif group.rel_type == THREAD:
        children.count += group.count
        children.latest = max(children.latest, group.latest or (), key=tuple)
        children.has_taken_part |= group.sender == user_id


async def _bundles(
    db: Database, live: Live, view: View, found: dict[int, _Children]
) -> dict[int, Bundle]:
    """What to tell of one view's events; those without children are left out."""
    wanted: set[int] = set()
    for each in found.values():
        wanted.update(each.edits, each.latest[2:])
    events = await live.events.by_nids(wanted)
    sights = {
        sight.event.nid: sight
        for sight in await visible(live, view.reader, list(events.values()))
        if sight.event.redaction is None
    }
    latest = await _with_own_children(db, live, view.reader, found, sights)
    bundles: dict[int, Bundle] = {}
    for parent in view.sights:
        children = found.get(parent.event.nid)
        if children is None:
            continue
        bundle = Bundle(
            edit=_edit(parent.event, children, sights),
            thread=_thread(parent.event, children, latest, view.reader),
            references=tuple(children.references[-_REFERENCES:]),
        )
        if bundle != Bundle():
            bundles[parent.event.nid] = bundle
    return bundles


async def _with_own_children(
    db: Database,
    live: Live,
    reader: Reader,
    found: dict[int, _Children],
    sights: dict[int, Sight],
) -> dict[int, Sight]:
    """The latest events of the threads, with edits of their own.

    It ends there: what is in a thread has no thread.
    """
    latest = [
        sights[children.latest[2]]
        for children in found.values()
        if children.latest and children.latest[2] in sights
    ]
    if not latest:
        return {}
    parents = await related(db, live).parents_among(sight.event for sight in latest)
    asked = [sight for sight in latest if sight.event.nid in parents]
    bundles: dict[int, Bundle] = {}
    if asked:
        view = View(reader, asked)
        (own,) = await _read(db, live, (view,))
        for children in own.values():
            children.latest, children.count = (), 0
        bundles = await _bundles(db, live, view, own)
    return {s.event.nid: _with(s, bundles.get(s.event.nid)) for s in latest}


def _edit(
    original: StoredEvent, children: _Children, sights: dict[int, Sight]
) -> Sight | None:
    """The most recent valid edit; of a redacted event none is told."""
    if original.redaction is not None or not is_editable(original.pdu):
        return None
    edits = [sights[nid] for nid in children.edits if nid in sights]
    valid = [s for s in edits if is_valid_edit(s.event.pdu, original.pdu)]
    return max(
        valid,
        key=lambda s: (s.event.pdu.origin_server_ts, s.event.event_id),
        default=None,
    )


def _thread(
    root: StoredEvent, children: _Children, latest: dict[int, Sight], reader: Reader
) -> Thread | None:
    if not children.latest or children.latest[2] not in latest:
        return None
    has_taken_part = children.has_taken_part or root.pdu.sender == reader.user_id
    return Thread(latest[children.latest[2]], children.count, has_taken_part)
