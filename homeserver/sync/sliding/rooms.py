"""The section of one room.

Spec: MSC4186
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from federation.ids import UserId
from federation.pdu import StateKey
from homeserver.events.client_format import Sight, stripped
from homeserver.events.filters import RoomEventFilter
from homeserver.live.room import Room
from homeserver.push.counts import Unread
from homeserver.rooms.viewing import Reader
from homeserver.sync.left import read_farewell
from homeserver.sync.sliding.connection import LIVE, Phase, Sent
from homeserver.sync.sliding.request import MAX_TIMELINE
from homeserver.sync.sliding.required import MEMBER, RoomConfig
from homeserver.sync.sliding.scene import Place, Scene, Section
from homeserver.sync.states import claimed_members, whole_state, written_state
from homeserver.sync.summary import read_heroes
from homeserver.sync.timelines import Timeline, read_timeline, room_state_at

_NAME: Final = ("m.room.name", "")
_AVATAR: Final = ("m.room.avatar", "")
_ALIAS: Final = ("m.room.canonical_alias", "")

Json = dict[str, object]


@dataclass(slots=True)
class _StateChange:
    """Entries to send, entries that are gone, and which keys moved at all."""

    nids: dict[StateKey, int] = field(default_factory=dict)
    gone: list[StateKey] = field(default_factory=list)
    moved: set[StateKey] = field(default_factory=set)
    members_moved: bool = False


# ── Invited and knocking ─────────────────────────────────────────────────────────────


def pending_section(
    scene: Scene, place: Place, stripped_state: Sequence[object]
) -> Section:
    """A room that the user is invited to or knocks on."""
    name = "stripped_state" if scene.is_newer else "invite_state"
    section = _common(place, place.member.position)
    section.update({"initial": True, name: list(stripped_state)})
    return Section(section, len(stripped_state), _sent(scene, place, 0))


# ── Left, kicked, banned ─────────────────────────────────────────────────────────────


async def gone_section(scene: Scene, room: Room, place: Place) -> Section:
    """A room that the user is no longer in, up to where they left it.

    Clients read from `required_state` how the user stands to the room, so the user's
    own entry is always in it.
    """
    member, live = place.member, scene.sources.live
    was_in = place.sent is not None and place.sent.phase is not Phase.PENDING
    fresh = not was_in
    limit = place.shown.config.timeline_limit
    timeline, sights = await read_farewell(
        scene.sources,
        room,
        Reader(scene.viewer.user_id, member),
        None if fresh else place.since,
        RoomEventFilter(limit=limit),
    )
    change = _StateChange()
    if timeline.sights:
        before = None if fresh else place.since
        change = await _state_change(scene, room, place, timeline, before)
    own = (MEMBER, str(scene.viewer.user_id))
    change.nids[own] = member.event_nid
    section = _common(place, member.position)
    section["initial"] = fresh
    await _put_state(scene, section, change)
    _put_timeline(scene, section, place, sights, timeline)
    if scene.is_newer and place.sent is not None and fresh:
        farewell = await live.events.by_nid(member.event_nid)
        section["stripped_state"] = [] if farewell is None else [stripped(farewell)]
    size = len(sights) + len(change.nids)
    return Section(section, size, _sent(scene, place, limit))


# ── Joined ───────────────────────────────────────────────────────────────────────────


async def joined_section(
    scene: Scene, room: Room, place: Place, bump: int, unread: Unread
) -> Section:
    """A room that the user is in: all of it, or what is new."""
    sources, config = scene.sources, place.shown.config
    since = None if place.is_fresh else place.since
    timeline = await read_timeline(
        sources.db,
        sources.live,
        room,
        Reader(scene.viewer.user_id, place.member),
        None if place.is_expanded else since,
        scene.upto,
        RoomEventFilter(limit=config.timeline_limit),
    )
    change = await _state_change(scene, room, place, timeline, since)
    section = _common(place, bump)
    if place.is_fresh:
        section["initial"] = True
    if place.is_expanded:
        name = "expanded_timeline" if scene.is_newer else "unstable_expanded_timeline"
        section[name] = True
    had = place.sent is not None and not place.is_fresh and place.sent.is_dm
    if place.is_dm != had:
        section["is_dm"] = place.is_dm
    await _put_names(scene, section, room, change, fresh=place.is_fresh)
    await _put_state(scene, section, change)
    if place.is_fresh or timeline.sights or timeline.limited:
        _put_timeline(scene, section, place, timeline.sights, timeline)
    notifications, highlights = unread.total()
    section["notification_count"] = notifications
    section["highlight_count"] = highlights
    size = len(timeline.sights) + len(change.nids)
    return Section(
        json=section,
        size=size,
        sent=_sent(scene, place, _shown(place, timeline)),
        event_ids=[sight.event.event_id for sight in timeline.sights],
    )


def _shown(place: Place, timeline: Timeline) -> int:
    """How many of the newest events the client then has without a gap."""
    if not timeline.limited:
        if place.is_fresh or place.is_expanded or place.sent is None:
            return MAX_TIMELINE  # there are no more
        return place.sent.shown
    return place.shown.config.timeline_limit


def _common(place: Place, bump: int) -> Json:
    section: Json = {"bump_stamp": bump, "membership": place.member.membership}
    if place.shown.lists:
        section["lists"] = sorted(place.shown.lists)
    return section


def _sent(scene: Scene, place: Place, shown: int) -> Sent:
    """What the client has once it has the section."""
    config = place.shown.config
    combo = scene.draft.combo(config.marks)
    old = scene.draft.rooms.get(place.nid)
    if old is None or old.phase is not place.phase:
        return Sent(place.phase, shown, combo, place.is_dm)
    return msgspec.structs.replace(
        old,
        shown=shown,
        combo=combo,
        is_dm=place.is_dm,
        events=LIVE,
    )


def _put_timeline(
    scene: Scene,
    section: Json,
    place: Place,
    shown: Sequence[Sight],
    timeline: Timeline,
) -> None:
    live = [s for s in shown if (s.event.position or 0) > scene.draft.position]
    if place.is_fresh or place.is_expanded or timeline.limited:
        reader = Reader(scene.viewer.user_id, place.member)
        section["timeline"] = scene.unwritten.add(reader, shown)
    else:
        section["timeline"] = [scene.write(sight) for sight in shown]
    section["limited"] = timeline.limited
    section["prev_batch"] = str(timeline.prev_batch)
    section["num_live"] = len(live)


# ── State ────────────────────────────────────────────────────────────────────────────


async def _state_change(
    scene: Scene, room: Room, place: Place, timeline: Timeline, since: int | None
) -> _StateChange:
    """What of the state to send; `since` None: everything that is wanted."""
    sources, config = scene.sources, place.shown.config
    root = timeline.end_root
    change = _StateChange()
    state: Mapping[StateKey, int] | None = None
    if since is None or not set(config.marks).issubset(place.marks):
        state = room.state
        if root != room.head.state_root:
            state = await whole_state(sources, room, root)
    if since is None:
        change.nids = config.choose(state or {})
        change.members_moved = True
    else:
        before = await room_state_at(sources.db, sources.live, room, since)
        if before != root:
            gap = await sources.live.states.diff(before, root)
            lazily = config.is_lazy and not _has_gap(timeline, since)
            _note_gap(change, config, gap, all_members=lazily)
        if state is not None:
            change.nids.update(config.choose(state, place.marks))
    if config.is_lazy:
        await _add_needed(scene, room, config, timeline, change)
    return change


def _has_gap(timeline: Timeline, since: int) -> bool:
    """Whether events after `since` are left out."""
    if not timeline.limited:
        return False
    sights = timeline.sights
    return not sights or (sights[0].event.position or 0) > since


def _note_gap(
    change: _StateChange,
    config: RoomConfig,
    gap: Mapping[StateKey, tuple[int | None, int | None]],
    *,
    all_members: bool,
) -> None:
    for key, (_, new) in gap.items():
        is_member = key[0] == MEMBER
        change.moved.add(key)
        change.members_moved = change.members_moved or is_member
        if config.wants(key) or (all_members and is_member):
            if new is None:
                change.gone.append(key)
            else:
                change.nids[key] = new


async def _add_needed(
    scene: Scene,
    room: Room,
    config: RoomConfig,
    timeline: Timeline,
    change: _StateChange,
) -> None:
    """Add the members that the timeline speaks of and that the client has not got."""
    needed: set[str] = set()
    for sight in timeline.sights:
        pdu = sight.event.pdu
        needed.add(pdu.sender)
        if pdu.type == MEMBER and pdu.state_key is not None:
            needed.add(pdu.state_key)
    # What is wanted anyway was sent when it changed.
    keys = [
        key
        for user in needed
        if (key := (MEMBER, user)) not in change.nids and not config.wants(key)
    ]
    if timeline.end_root == room.head.state_root:
        found = {key: room.state[key] for key in keys if key in room.state}
    else:
        found = await scene.sources.live.states.get(timeline.end_root, keys)
    if room.is_partial:
        found = await claimed_members(scene.sources, timeline, keys) | found
    sent = scene.sources.sent
    for key, nid in found.items():
        if not sent.has(room.nid, key[1], nid):
            change.nids[key] = nid
    for key, nid in change.nids.items():
        if key[0] == MEMBER:
            sent.note(scene.upto, room.nid, key[1], nid)


async def _put_state(scene: Scene, section: Json, change: _StateChange) -> None:
    written: list[object] = list(
        await written_state(scene.sources, scene.viewer, change.nids, scene.write)
    )
    if scene.is_newer:  # others take every entry for an event
        written += [{"type": t, "state_key": key} for t, key in change.gone]
    section["required_state"] = written


# ── Names ────────────────────────────────────────────────────────────────────────────


async def _put_names(
    scene: Scene, section: Json, room: Room, change: _StateChange, *, fresh: bool
) -> None:
    """The room's name, avatar, heroes and counts, as far as they are new."""
    for key, field_name, shown in (
        (_NAME, "name", "name"),
        (_AVATAR, "url", "avatar"),
    ):
        if fresh or key in change.moved:
            value = await _text_of(scene, room, key, field_name)
            if value is not None or not fresh:
                section[shown] = value
    if not (change.members_moved or {_NAME, _ALIAS} & change.moved):
        return
    heroes = await read_heroes(scene.sources.live, room, scene.viewer.user_id)
    if heroes:
        section["heroes"] = await _heroes(scene, room, heroes)
    if change.members_moved:
        invited = sum(m.membership == "invite" for m in room.members.values())
        section["joined_count"] = room.joined
        section["invited_count"] = invited


async def _text_of(
    scene: Scene, room: Room, key: StateKey, field_name: str
) -> str | None:
    nid = room.state.get(key)
    event = None if nid is None else await scene.sources.live.events.by_nid(nid)
    value = None if event is None else event.shown.content.get(field_name)
    return value if isinstance(value, str) and value else None


async def _heroes(scene: Scene, room: Room, heroes: Iterable[UserId]) -> list[Json]:
    shown: list[Json] = []
    for user_id in heroes:
        hero: Json = {"user_id": user_id}
        nid = room.state.get((MEMBER, str(user_id)))
        event = None if nid is None else await scene.sources.live.events.by_nid(nid)
        content = {} if event is None else event.shown.content
        for name in ("displayname", "avatar_url"):
            if isinstance(content.get(name), str):
                hero[name] = content[name]
        shown.append(hero)
    return shown
