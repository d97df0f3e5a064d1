"""One answer: what is new of the rooms that the request names, and of the rest."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from federation.ids import EventId
from homeserver.events.client_format import Viewer
from homeserver.live.room import Room, User
from homeserver.sync.request import Sources
from homeserver.sync.sliding import devices, extensions
from homeserver.sync.sliding.connection import PHASES, Draft, Phase
from homeserver.sync.sliding.extensions import InView
from homeserver.sync.sliding.facts import Facts
from homeserver.sync.sliding.lists import (
    Standing,
    Windows,
    find_windows,
    standing_of,
)
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.rooms import (
    gone_section,
    joined_section,
    pending_section,
)
from homeserver.sync.sliding.scene import Place, Scene, Section, Told

_ROOMS_AT_ONCE: Final = 50
# What is over this comes in the next answer, which is given at once.
_MAX_ROOMS: Final = 500
_MAX_SIZE: Final = 20_000  # events and entries of state
_NAMING: Final = (
    ("m.room.name", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer without its token; `draft` is what the client has with it."""

    counts: Mapping[str, int]
    rooms: Mapping[str, object]
    extensions: Mapping[str, object]
    draft: Draft
    upto: int
    has_news: bool  # it is worth giving at once
    is_cut: bool  # there is more that the request asks for


async def make_answer(
    sources: Sources,
    facts: Facts,
    viewer: Viewer,
    request: SlidingRequest,
    user: User,
    draft: Draft,
) -> Answer:
    """What is new after `draft.position`, and note in `draft` that the client has it.

    A draft of a new connection has no position yet: it gets the present one.
    """
    standing = await standing_of(sources.live, facts, user, draft.old)
    windows = await find_windows(sources.live, facts, user, standing, request)
    if request.pos is None:
        draft.position = standing.upto
    scene = Scene(
        sources=sources,
        facts=facts,
        viewer=viewer,
        draft=draft,
        upto=standing.upto,
        now_ms=sources.clock.ms(),
        is_newer=request.is_newer,
    )
    sources.sent.pending.pop(standing.upto, None)
    places = await _places(scene, standing, windows)
    rooms, events, is_cut = await _rooms(scene, places)
    room_ids = await facts.room_ids(windows.rooms)
    view = InView(
        shown=windows.rooms,
        places={nid: p for nid, p in places.items() if nid in draft.rooms},
        room_ids=room_ids,
        events=events,
    )
    told = await _extensions(scene, request, view, user, standing)
    extensions.leave_behind(scene, view, request.extensions, standing)
    return Answer(
        counts=windows.counts,
        rooms=rooms,
        extensions={name: each.json for name, each in told.items()},
        draft=draft,
        upto=standing.upto,
        has_news=bool(rooms) or any(each.is_news for each in told.values()),
        is_cut=is_cut or any(each.is_cut for each in told.values()),
    )


async def _places(
    scene: Scene, standing: Standing, windows: Windows
) -> dict[int, Place]:
    draft = scene.draft
    own = await scene.facts.own(scene.viewer.user_id)
    room_ids = await scene.facts.room_ids(windows.rooms) if own.direct else {}
    places = {}
    for nid, shown in windows.rooms.items():
        member = standing.members[nid]
        sent = draft.rooms.get(nid)
        places[nid] = Place(
            nid=nid,
            member=member,
            phase=PHASES.get(member.membership, Phase.GONE),
            moves=standing.moves[nid],
            shown=shown,
            is_dm=room_ids.get(nid) in own.direct,
            sent=sent,
            marks=() if sent is None else draft.marks_of(sent),
            since=0 if sent is None else draft.since(sent.events),
        )
    return places


async def _rooms(
    scene: Scene, places: Mapping[int, Place]
) -> tuple[dict[str, object], dict[int, Sequence[EventId]], bool]:
    """The sections of rooms with news by room ID, and their timelines by number.

    Also whether some had to be left out.
    """
    recounted = await _recounted(scene, places.values())
    due = [p for p in places.values() if p.has_news or p.nid in recounted]
    is_cut = False
    sections: dict[str, object] = {}
    events: dict[int, Sequence[EventId]] = {}
    size = 0
    for start in range(0, len(due), _ROOMS_AT_ONCE):
        batch = due[start : start + _ROOMS_AT_ONCE]
        if start >= _MAX_ROOMS or size > _MAX_SIZE:
            is_cut = True
            break
        rooms = await scene.sources.live.rooms(place.nid for place in batch)
        async for room, section in _sections(scene, batch, rooms):
            sections[room.room_id] = section.json
            events[room.nid] = section.event_ids
            scene.draft.put(room.nid, section.sent)
            size += section.size
    _note_smaller(scene, places.values())
    return sections, events, is_cut


async def _recounted(scene: Scene, places: Iterable[Place]) -> frozenset[int]:
    """Rooms of which the user has read more, and that have no other news."""
    quiet = {
        place.nid: place
        for place in places
        if place.phase is Phase.JOINED
        and not place.has_news
        and place.moves.receipts > place.since
    }
    if not quiet:
        return frozenset()
    rooms = await scene.sources.live.rooms(quiet)
    unread = await scene.sources.counts.of_rooms(
        scene.viewer.user_id,
        {room: quiet[room.nid].member for room in rooms.values()},
        scene.upto,
    )
    return frozenset(
        nid for nid, count in unread.items() if count.marks.moved > quiet[nid].since
    )


async def _sections(
    scene: Scene, places: Sequence[Place], rooms: Mapping[int, Room]
) -> AsyncIterator[tuple[Room, Section]]:
    here = [place for place in places if place.nid in rooms]
    await _prefetch(scene, here, rooms)
    pending = {p.nid: p.member for p in here if p.phase is Phase.PENDING}
    stripped = await scene.facts.pending(scene.viewer.user_id, pending, rooms)
    joined = {rooms[p.nid]: p.member for p in here if p.phase is Phase.JOINED}
    bumps = await scene.facts.bumps(room.nid for room in joined)
    unread = await scene.sources.counts.of_rooms(
        scene.viewer.user_id, joined, scene.upto
    )
    for place in here:
        room = rooms[place.nid]
        match place.phase:
            case Phase.PENDING:
                section = pending_section(scene, place, stripped.get(place.nid, ()))
            case Phase.JOINED:
                bump = bumps.get(place.nid, place.member.position)
                section = await joined_section(
                    scene, room, place, bump, unread[room.nid]
                )
            case _:
                section = await gone_section(scene, room, place)
        yield room, section


async def _prefetch(
    scene: Scene, places: Iterable[Place], rooms: Mapping[int, Room]
) -> None:
    """Read the events that the sections will want in one query."""
    nids: set[int] = set()
    for place in places:
        room, config = rooms[place.nid], place.shown.config
        if place.phase is Phase.PENDING:
            continue
        tail = config.timeline_limit + 1
        if not (place.is_fresh or place.is_expanded):
            tail = sum(at > place.since for at, _ in room.recent)
        nids.update(nid for _, nid in list(room.recent)[-tail:])
        if place.is_fresh:
            nids.update(config.choose(room.state).values())
            nids.update(room.state[key] for key in _NAMING if key in room.state)
    await scene.sources.live.events.by_nids(nids)


def _note_smaller(scene: Scene, places: Iterable[Place]) -> None:
    """Where less is asked for than before, what was left out is no longer had."""
    for place in places:
        marks = place.shown.config.marks
        if place.sent is not None and not place.has_news and marks != place.marks:
            combo = scene.draft.combo(marks)
            scene.draft.put(place.nid, replace(place.sent, combo=combo))


async def _extensions(
    scene: Scene,
    request: SlidingRequest,
    view: InView,
    user: User,
    standing: Standing,
) -> dict[str, Told]:
    wanted = request.extensions
    told: dict[str, Told] = {}
    if (asked := wanted.get(devices.TO_DEVICE)) is not None:
        told[devices.TO_DEVICE] = await devices.read_to_device(scene, asked, user)
    if devices.E2EE in wanted:
        told[devices.E2EE] = await devices.read_e2ee(scene, user, standing)
    found: dict[str, Mapping[str, object] | None] = {}
    if (asked := wanted.get(extensions.ACCOUNT_DATA)) is not None:
        found[extensions.ACCOUNT_DATA] = await extensions.read_account_data(
            scene, asked, view, standing.moved_own
        )
    if (asked := wanted.get(extensions.RECEIPTS)) is not None:
        found[extensions.RECEIPTS] = await extensions.read_receipts(scene, asked, view)
    if (asked := wanted.get(extensions.TYPING)) is not None:
        found[extensions.TYPING] = await extensions.read_typing(scene, asked, view)
    told.update({name: Told(json) for name, json in found.items() if json is not None})
    return told
