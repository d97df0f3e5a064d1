"""Extensions about rooms and the user's own data: account data, receipts, typing.

Each reads what moved since the client's place in that stream, of the rooms that are
shown; for a room that is shown for the first time, all that matters there.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from federation.canonical_json import JsonObject
from federation.ids import EventId, RoomId
from homeserver.receipts.content import contents_of
from homeserver.receipts.store import Receipt, receipts_at, receipts_between
from homeserver.sync import own
from homeserver.sync.joined import was_joined
from homeserver.sync.sliding.connection import LIVE, NEVER, Phase
from homeserver.sync.sliding.devices import E2EE
from homeserver.sync.sliding.lists import Moves, Shown, Standing
from homeserver.sync.sliding.request import Extension
from homeserver.sync.sliding.scene import Scene
from homeserver.sync.sticky import news_of, read_sticky
from homeserver.typing.store import typing_in

ACCOUNT_DATA: Final = "account_data"
RECEIPTS: Final = "receipts"
TYPING: Final = "typing"
THREADS: Final = "io.element.msc4308.thread_subscriptions"
PROFILES: Final = "org.matrix.msc4262.profiles"
STICKY: Final = "org.matrix.msc4354.sticky_events"

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class InView:
    """The rooms that the request names, and how they stand.

    `events` are the timelines of the rooms that this answer sends, of any phase.
    """

    shown: Mapping[int, Shown]
    standing: Standing
    room_ids: Mapping[int, RoomId]
    events: Mapping[int, Sequence[EventId]] = field(default_factory=dict)

    def covers(self, extension: Extension | None, nid: int) -> bool:
        """Whether the extension is on and speaks of the room."""
        shown = self.shown.get(nid)
        if extension is None or shown is None:
            return False
        return extension.covers(
            self.room_ids[nid], shown.lists, subscribed=shown.is_subscribed
        )


@dataclass(frozen=True, slots=True)
class _Stale:
    """Joined rooms where a stream has to be looked at."""

    fresh: Sequence[int]  # never told before
    moved: Mapping[int, int]  # with the position from which on it moved


def _stale(
    scene: Scene,
    extension: Extension,
    view: InView,
    stream: str,
    last_of: Callable[[Moves], int],
) -> _Stale:
    """The rooms in view where the client is not up to date; by this answer it is."""
    draft, moves = scene.draft, view.standing.moves
    fresh: list[int] = []
    moved: dict[int, int] = {}
    for nid in view.shown:
        sent = draft.rooms.get(nid)
        if sent is None or sent.phase is not Phase.JOINED:
            continue
        place: int = getattr(sent, stream)
        if place != NEVER and last_of(moves[nid]) <= draft.since(place):
            continue
        if not view.covers(extension, nid):
            continue
        if place == NEVER:
            fresh.append(nid)
        else:
            moved[nid] = draft.since(place)
        draft.put(nid, msgspec.structs.replace(sent, **{stream: LIVE}))
    return _Stale(fresh, moved)


# ── Account data ─────────────────────────────────────────────────────────────────────


async def read_account_data(
    scene: Scene, extension: Extension, view: InView
) -> Json | None:
    """What the user set, for no room and for the rooms in view."""
    draft, user_id = scene.draft, scene.viewer.user_id
    place = draft.own.get(ACCOUNT_DATA, NEVER)
    since = 0 if place == NEVER else draft.since(place)
    moved_own = view.standing.moved_own
    stale = _stale(scene, extension, view, ACCOUNT_DATA, lambda _: moved_own)
    known, fresh = stale.moved, stale.fresh
    moved = place == NEVER or moved_own > since or bool(known)
    draft.put_own(ACCOUNT_DATA, LIVE)
    if not moved and not fresh:
        return None
    changed: list[own.Set] = []
    async with scene.sources.db.read() as tx:
        if moved:
            oldest = min((since, *known.values()))
            extras = scene.sources.counts.extras
            for each in await own.account_data_between(
                tx, user_id, oldest, scene.upto, extras
            ):
                nid = each.room_nid
                start = known.get(nid, scene.upto) if nid else since
                if each.position > start:
                    changed.append(each)
        if fresh:
            changed += await own.account_data_of(tx, user_id, fresh)
    found: defaultdict[int, list[JsonObject]] = defaultdict(list)
    for each in changed:
        found[each.room_nid].append(each.event)
    of_none = found.pop(0, None)
    answer: Json = {}
    if of_none or place == NEVER:
        answer["global"] = of_none or []
    if found:
        answer["rooms"] = {view.room_ids[nid]: events for nid, events in found.items()}
    return answer or None


# ── Receipts ─────────────────────────────────────────────────────────────────────────


async def read_receipts(
    scene: Scene, extension: Extension, view: InView
) -> Json | None:
    """Receipts that moved; of a new room the user's own and those of its timeline."""
    user_id = scene.viewer.user_id
    stale = _stale(scene, extension, view, RECEIPTS, lambda moves: moves.receipts)
    moved = stale.moved
    fresh = [nid for nid in stale.fresh if view.standing.moves[nid].receipts]
    if not moved and not fresh:
        return None
    found: defaultdict[int, list[Receipt]] = defaultdict(list)
    by_since: defaultdict[int, list[int]] = defaultdict(list)
    for nid, since in moved.items():
        by_since[since].append(nid)
    ignored = await scene.sources.live.ignored.by(user_id)
    async with scene.sources.db.read() as tx:
        for since, nids in by_since.items():
            for each in await receipts_between(tx, nids, user_id, since, scene.upto):
                if each.user_id not in ignored:
                    found[each.room_nid].append(each)
        if fresh:
            at = [event_id for nid in fresh for event_id in view.events.get(nid, ())]
            for each in await receipts_at(tx, fresh, user_id, at):
                if each.user_id not in ignored:
                    found[each.room_nid].append(each)
    if not found:
        return None
    return {
        "rooms": {
            view.room_ids[nid]: {"type": "m.receipt", "content": _content(of_room)}
            for nid, of_room in found.items()
        }
    }


def _content(receipts: Iterable[Receipt]) -> JsonObject:
    """All receipts of a room in one event, as the format wants it here.

    It has one place for each event, type and user: the unthreaded one says most.
    """
    ordered = sorted(receipts, key=lambda receipt: receipt.thread_id is not None)
    return contents_of(ordered)[0]


# ── Typing ───────────────────────────────────────────────────────────────────────────


async def read_typing(scene: Scene, extension: Extension, view: InView) -> Json | None:
    """Who types, where that changed."""
    stale = _stale(scene, extension, view, TYPING, lambda moves: moves.typing)
    fresh = [nid for nid in stale.fresh if view.standing.moves[nid].typing]
    moved = [*stale.moved, *fresh]
    if not moved:
        return None
    ignored = await scene.sources.live.ignored.by(scene.viewer.user_id)
    async with scene.sources.db.read() as tx:
        typing = await typing_in(tx, moved)
    found = {n: [u for u in users if u not in ignored] for n, users in typing.items()}
    shown = {
        view.room_ids[nid]: {"type": "m.typing", "content": {"user_ids": users}}
        for nid, users in found.items()
        if users or nid not in fresh
    }
    return {"rooms": shown} if shown else None


# ── Sticky events ────────────────────────────────────────────────────────────────────


async def read_sticky_events(scene: Scene, view: InView) -> Json | None:
    """Sticky events of all rooms that the user is in; of new rooms, all. MSC4354."""
    draft, upto, user_id = scene.draft, scene.upto, scene.viewer.user_id
    place = draft.own.get(STICKY, NEVER)
    since = None if place == NEVER else draft.since(place)
    draft.put_own(STICKY, LIVE)
    members = {
        nid: member
        for nid, member in view.standing.members.items()
        if member.membership == "join"
    }
    found = await read_sticky(scene.sources, user_id, members, upto)
    shown = {}
    for nid, delivered in found.items():
        room = await scene.sources.live.view.room(nid)
        if room is None:
            continue
        known = await was_joined(scene.sources, room, user_id, since, members[nid])
        start = since if known and since is not None else 0
        sights = news_of(delivered, start, view.events.get(nid, ()))
        if sights:
            shown[room.room_id] = {"events": [scene.write(sight) for sight in sights]}
    return {"rooms": shown} if shown else None


# ── Places ───────────────────────────────────────────────────────────────────────────


def leave_behind(
    scene: Scene, view: InView, extensions: Mapping[str, Extension]
) -> None:
    """Note where the client is left behind: what moved and was not told now."""
    draft, position, standing = scene.draft, scene.draft.position, view.standing
    for stream, last in (
        (ACCOUNT_DATA, standing.moved_own),
        (E2EE, standing.moved),
        (STICKY, standing.moved),
        (THREADS, standing.moved_own),
        (PROFILES, standing.moved_people),
    ):
        had = stream in extensions or draft.own.get(stream, NEVER) != LIVE
        if last > position and not had:
            draft.put_own(stream, position)
    for nid, sent in list(draft.rooms.items()):
        moves = standing.moves.get(nid)
        if moves is None or max(*moves, standing.moved_own) <= position:
            continue
        moved = {
            # Of a room that is not looked at, what the user read counts as well.
            "events": moves.events if nid in view.shown else moves.last,
            RECEIPTS: moves.receipts,
            TYPING: moves.typing,
            ACCOUNT_DATA: standing.moved_own,
        }
        behind = {
            stream: position
            for stream, last in moved.items()
            if last > position
            and getattr(sent, stream) == LIVE
            and not _is_told(view, extensions, stream, nid)
        }
        if behind:
            draft.put(nid, msgspec.structs.replace(sent, **behind))


def _is_told(
    view: InView, extensions: Mapping[str, Extension], stream: str, nid: int
) -> bool:
    if stream == "events":
        return nid in view.events
    return view.covers(extensions.get(stream), nid)
