"""One answer: what is new of the rooms that the request names, and of the rest."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation.ids import EventId, RoomId
from homeserver.events.client_format import Viewer
from homeserver.live.room import Room, User
from homeserver.sync.joined import was_whole
from homeserver.sync.request import Sources
from homeserver.sync.sliding import devices, extensions, profiles, threads
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
    is_all: bool  # who asks the same again has to wait for something new


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
    room_ids = await facts.room_ids(windows.rooms)
    places, maybe = await _places(scene, standing, windows, room_ids)
    places += await _recounted(scene, maybe)
    rooms, events, is_all = await _rooms(scene, places)
    view = InView(windows.rooms, standing, room_ids, events)
    told = await _extensions(scene, request, view, user, standing)
    extensions.leave_behind(scene, view, request.extensions)
    return Answer(
        counts=windows.counts,
        rooms=rooms,
        extensions={name: each.json for name, each in told.items()},
        draft=draft,
        upto=standing.upto,
        has_news=bool(rooms) or any(each.is_news for each in told.values()),
        is_all=is_all and all(each.is_all for each in told.values()),
    )


async def _places(
    scene: Scene,
    standing: Standing,
    windows: Windows,
    room_ids: Mapping[int, RoomId],
) -> tuple[list[Place], list[Place]]:
    """The rooms with news, and those of which the user may have read more."""
    draft = scene.draft
    direct = (await scene.facts.own(scene.viewer.user_id)).direct
    direct_nids = {n for n, id_ in room_ids.items() if id_ in direct} if direct else ()
    due: list[Place] = []
    maybe: list[Place] = []
    for nid, shown in windows.rooms.items():
        sent, member = draft.rooms.get(nid), standing.members[nid]
        moves = standing.moves[nid]
        phase = PHASES.get(member.membership, Phase.GONE)
        if sent is not None and phase is Phase.JOINED:
            at = draft.since(sent.events)
            if not await was_whole(scene.sources, at, member):
                sent = None  # the room's members came later: all of it anew
        since = 0 if sent is None else draft.since(sent.events)
        is_dm = nid in direct_nids
        is_due = sent is None or sent.phase is not phase or moves.events > since
        if sent is not None and phase is Phase.JOINED:
            has_more = draft.lacks(sent, shown.config.marks)
            more_events = shown.config.timeline_limit > sent.shown
            is_due = is_due or has_more or more_events or is_dm != sent.is_dm
        if is_due or moves.receipts > since:
            marks = () if sent is None else draft.marks_of(sent)
            place = Place(nid, member, phase, moves, shown, is_dm, sent, marks, since)
            (due if is_due else maybe).append(place)
    return due, maybe


async def _recounted(scene: Scene, places: Sequence[Place]) -> list[Place]:
    """Those of the rooms of which the user has read more."""
    quiet = {place.nid: place for place in places if place.phase is Phase.JOINED}
    if not quiet:
        return []
    rooms = await scene.sources.live.rooms(quiet)
    unread = await scene.sources.counts.of_rooms(
        scene.viewer.user_id,
        {room: quiet[room.nid].member for room in rooms.values()},
        scene.upto,
    )
    return [
        quiet[nid]
        for nid, count in unread.items()
        if count.marks.moved > quiet[nid].since
    ]


async def _rooms(
    scene: Scene, due: Sequence[Place]
) -> tuple[dict[str, object], dict[int, Sequence[EventId]], bool]:
    """The rooms' sections by room ID, and their timelines by number.

    Also whether these are all: some may have to be left out.
    """
    is_all = True
    sections: dict[str, object] = {}
    events: dict[int, Sequence[EventId]] = {}
    size = 0
    for start in range(0, len(due), _ROOMS_AT_ONCE):
        batch = due[start : start + _ROOMS_AT_ONCE]
        if start >= _MAX_ROOMS or size > _MAX_SIZE:
            is_all = False
            break
        rooms = await scene.sources.live.rooms(place.nid for place in batch)
        async for room, section in _sections(scene, batch, rooms):
            sections[room.room_id] = section.json
            events[room.nid] = section.event_ids
            scene.draft.put(room.nid, section.sent)
            size += section.size
        await scene.unwritten.write(scene.sources, scene.write)
    return sections, events, is_all


async def _sections(
    scene: Scene, places: Sequence[Place], rooms: Mapping[int, Room]
) -> AsyncIterator[tuple[Room, Section]]:
    here = [place for place in places if _is_to_show(place, rooms.get(place.nid))]
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


def _is_to_show(place: Place, room: Room | None) -> bool:
    """Whether the room is there, with all members for who does not load them lazily."""
    if room is None:
        return False
    return not (room.is_partial and place.shown.config.wants_all_members)


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
            scene, asked, view
        )
    if (asked := wanted.get(extensions.RECEIPTS)) is not None:
        found[extensions.RECEIPTS] = await extensions.read_receipts(scene, asked, view)
    if (asked := wanted.get(extensions.TYPING)) is not None:
        found[extensions.TYPING] = await extensions.read_typing(scene, asked, view)
    if (asked := wanted.get(extensions.PROFILES)) is not None:
        found[extensions.PROFILES] = await profiles.read_profiles(scene, asked, view)
    if (asked := wanted.get(extensions.THREADS)) is not None:
        found[extensions.THREADS] = await threads.read_threads(scene, asked, view)
    if extensions.STICKY in wanted:
        found[extensions.STICKY] = await extensions.read_sticky_events(scene, view)
    told.update({name: Told(json) for name, json in found.items() if json is not None})
    return told
