"""The state section of a room: what a client must know beside the timeline."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.ids import UserId
from federation.pdu import StateKey
from homeserver.events.client_format import Sight, Viewer
from homeserver.events.member_texts import read_member_texts
from homeserver.live.room import Room
from homeserver.rooms.kept import kept_sights
from homeserver.rooms.viewing import state_sights
from homeserver.sync.request import Rendered, Sources, SyncRequest
from homeserver.sync.timelines import Timeline, room_state_at

MEMBER = "m.room.member"
_FEW: Final = 20  # members so few are read to be kept


@dataclass(frozen=True, slots=True)
class StateChange:
    """State entries to send, and whether memberships changed since the token.

    `must_have` are members that lazy loading must not leave out.
    """

    nids: dict[StateKey, int]
    members_moved: bool = False
    must_have: frozenset[StateKey] = frozenset()


async def read_change(
    sources: Sources,
    request: SyncRequest,
    room: Room,
    timeline: Timeline,
    since: int | None,
) -> StateChange:
    """What to send; `since` None: everything."""
    live = sources.live
    root = timeline.end_root if request.use_state_after else timeline.start_root
    if since is None:
        nids = await whole_state(sources, room, root)
        nids.update(await _unsaid(sources, timeline, root))
        return StateChange(nids, members_moved=True)
    before = await room_state_at(sources.db, live, room, since)
    if before == root == timeline.end_root:
        return StateChange({})
    gap = await live.states.diff(before, root)
    # Where history forks, what a branch begins with is not what the room came to.
    later = {} if root == timeline.end_root else await _kept(sources, timeline, root)
    nids = {
        key: new
        for key, (_, new) in gap.items()
        if new is not None and key not in later
    }
    moved = any(key[0] == MEMBER for key in gap)
    must_have = frozenset(key for key in nids if key[0] == MEMBER)
    unsaid = await _unsaid(sources, timeline, before)
    nids.update(unsaid)
    moved = moved or any(key[0] == MEMBER for key in unsaid)
    return StateChange(nids, moved, must_have)


async def _kept(
    sources: Sources, timeline: Timeline, root: int
) -> Mapping[StateKey, object]:
    """Entries that the state has otherwise in the end, without a word in the timeline.

    What they are then is told beside it, if the client does not know it.
    """
    said = {sight.event.pdu.key for sight in timeline.sights}
    difference = await sources.live.states.diff(root, timeline.end_root)
    return {key: pair for key, pair in difference.items() if key not in said}


async def _unsaid(
    sources: Sources, timeline: Timeline, before: int
) -> dict[StateKey, int]:
    """What the state became that the timeline's own state events do not say.

    State resolution changes it so, and a gap in the history.
    """
    said = {sight.event.pdu.key for sight in timeline.sights}
    difference = await sources.live.states.diff(before, timeline.end_root)
    return {
        key: new
        for key, (_, new) in difference.items()
        if new is not None and key not in said
    }


async def whole_state(sources: Sources, room: Room, root: int) -> dict[StateKey, int]:
    """All entries of a state; the room's current one is at hand."""
    if root == room.head.state_root:
        return dict(room.state)
    difference = await sources.live.states.diff(room.head.state_root, root)
    if len(difference) > len(room.state):
        return await sources.live.states.items(root)
    state = dict(room.state)
    for key, (_, there) in difference.items():
        if there is None:
            state.pop(key, None)
        else:
            state[key] = there
    return state


async def state_section(
    sources: Sources,
    request: SyncRequest,
    room: Room,
    timeline: Timeline,
    change: StateChange,
    upto: int,
    heroes: Iterable[UserId],
    write: Callable[[Sight], Rendered],
    *,
    whole: bool,
) -> list[Rendered]:
    """The state events to send, after lazy loading and the filter."""
    wanted = request.filter.room.state
    nids = change.nids
    if request.lazy:
        needed = {sight.event.pdu.sender for sight in timeline.sights}
        if whole:
            needed.add(request.viewer.user_id)
            needed.update(heroes)
        nids = await _lazily(sources, request, room, timeline, change, needed, upto)
    if request.is_plain and wanted.keeps_all_alone and wanted.limit is None:
        return await written_state(sources, request.viewer, nids, write)
    sights = await state_sights(sources.live, nids.values())
    kept = await kept_sights(sources.db, wanted, sights)
    if wanted.limit is not None:
        kept = kept[: wanted.limit]
    return [write(sight) for sight in kept]


async def written_state(
    sources: Sources,
    viewer: Viewer,
    nids: Mapping[StateKey, int],
    write: Callable[[Sight], Rendered],
) -> list[Rendered]:
    """State as clients get it; members that are not at hand are not kept for it."""
    live = sources.live
    absent = [
        nid
        for key, nid in nids.items()
        if key[0] == MEMBER and live.events.cached(nid) is None
    ]
    if len(absent) <= _FEW:
        return [write(sight) for sight in await state_sights(live, nids.values())]
    texts = await read_member_texts(sources.db, absent, viewer.user_id)
    others = [nid for nid in nids.values() if nid not in texts]
    written: list[Rendered] = [write(s) for s in await state_sights(live, others)]
    now_ms = sources.clock.ms()
    written += (text.written(now_ms) for text in texts.values())
    return written


async def claimed_members(
    sources: Sources, timeline: Timeline, keys: Iterable[StateKey]
) -> dict[StateKey, int]:
    """Those members that events of the timeline name as auth_events.

    For rooms whose members are on their way still. Spec: MSC3902.
    """
    wanted = set(keys)
    nids = [nid for sight in timeline.sights for nid in sight.event.auth_nids]
    found = await sources.live.events.by_nids(nids)
    return {
        event.pdu.key: nid
        for nid, event in found.items()
        if event.pdu.key is not None
        and event.pdu.key in wanted
        and event.rejected is None
    }


async def _lazily(
    sources: Sources,
    request: SyncRequest,
    room: Room,
    timeline: Timeline,
    change: StateChange,
    needed: set[UserId],
    upto: int,
) -> dict[StateKey, int]:
    """The entries without members that nobody needs or that the device has."""
    keys = {(MEMBER, str(user_id)) for user_id in needed}
    nids = {
        key: nid
        for key, nid in change.nids.items()
        if key[0] != MEMBER or key in keys or key in change.must_have
    }
    missing = [key for key in keys if key not in nids]
    if missing:
        root = timeline.end_root if request.use_state_after else timeline.start_root
        if root == room.head.state_root:
            nids.update((key, room.state[key]) for key in missing if key in room.state)
        else:
            nids.update(await sources.live.states.get(root, missing))
    if room.is_partial:
        nids = await claimed_members(sources, timeline, keys) | nids
    spare = not request.filter.room.state.include_redundant_members
    for key, nid in list(nids.items()):
        if key[0] != MEMBER:
            continue
        has = sources.sent.has(room.nid, key[1], nid)
        if spare and has and key not in change.must_have:
            del nids[key]
        else:
            sources.sent.note(upto, room.nid, key[1], nid)
    return nids
