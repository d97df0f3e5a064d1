"""Extensions about rooms and the user's own data: account data, receipts, typing.

Each reads what moved since the client's place in that stream, of the rooms that are
shown; for a room that is shown for the first time, all that matters there.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from federation.canonical_json import JsonObject
from federation.ids import EventId, RoomId
from homeserver.receipts.content import contents_of
from homeserver.receipts.store import Receipt, receipts_at, receipts_between
from homeserver.sync import own
from homeserver.sync.sliding.connection import LIVE, NEVER, Phase
from homeserver.sync.sliding.devices import E2EE
from homeserver.sync.sliding.lists import Standing
from homeserver.sync.sliding.request import Extension
from homeserver.sync.sliding.scene import Place, Scene
from homeserver.typing.store import typing_in

ACCOUNT_DATA: Final = "account_data"
RECEIPTS: Final = "receipts"
TYPING: Final = "typing"

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class InView:
    """The rooms that the request names and that the client has been sent by now.

    `shown` are all that it names; `events` are the timelines of the rooms that this
    answer sends, of any phase.
    """

    shown: Container[int]
    places: Mapping[int, Place]
    room_ids: Mapping[int, RoomId]
    events: Mapping[int, Sequence[EventId]] = field(default_factory=dict)

    def covered(self, extension: Extension) -> Iterable[int]:
        """Those that the extension speaks of."""
        for nid, place in self.places.items():
            shown = place.shown
            if place.phase is Phase.JOINED and extension.covers(
                self.room_ids[nid], shown.lists, subscribed=shown.is_subscribed
            ):
                yield nid


# ── Account data ─────────────────────────────────────────────────────────────────────


async def read_account_data(
    scene: Scene, extension: Extension, view: InView, user_moved: int
) -> Json | None:
    """What the user set, for no room and for the rooms in view."""
    draft, user_id = scene.draft, scene.viewer.user_id
    place = draft.own.get(ACCOUNT_DATA, NEVER)
    since = 0 if place == NEVER else draft.since(place)
    rooms = {nid: draft.rooms[nid].account_data for nid in view.covered(extension)}
    fresh = [nid for nid, at in rooms.items() if at == NEVER]
    known = {nid: draft.since(at) for nid, at in rooms.items() if at != NEVER}
    moved = place == NEVER or user_moved > min((since, *known.values()))
    draft.put_own(ACCOUNT_DATA, LIVE)
    _go_live(scene, rooms, "account_data")
    if not moved and not fresh:
        return None
    changed: list[own.Set] = []
    async with scene.sources.db.read() as tx:
        if moved:
            oldest = min((since, *known.values()))
            for each in await own.account_data_between(tx, user_id, oldest, scene.upto):
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
    draft, user_id = scene.draft, scene.viewer.user_id
    rooms = {nid: draft.rooms[nid].receipts for nid in view.covered(extension)}
    moved = {
        nid: since
        for nid, at in rooms.items()
        if at != NEVER and view.places[nid].moves.receipts > (since := draft.since(at))
    }
    fresh = [
        nid
        for nid, at in rooms.items()
        if at == NEVER and view.places[nid].moves.receipts
    ]
    _go_live(scene, rooms, "receipts")
    if not moved and not fresh:
        return None
    found: defaultdict[int, list[Receipt]] = defaultdict(list)
    by_since: defaultdict[int, list[int]] = defaultdict(list)
    for nid, since in moved.items():
        by_since[since].append(nid)
    async with scene.sources.db.read() as tx:
        for since, nids in by_since.items():
            for each in await receipts_between(tx, nids, user_id, since, scene.upto):
                found[each.room_nid].append(each)
        if fresh:
            at = [event_id for nid in fresh for event_id in view.events.get(nid, ())]
            for each in await receipts_at(tx, fresh, user_id, at):
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
    draft = scene.draft
    rooms = {nid: draft.rooms[nid].typing for nid in view.covered(extension)}
    fresh = {nid for nid, at in rooms.items() if at == NEVER}
    moved = [
        nid
        for nid, at in rooms.items()
        if view.places[nid].moves.typing > (0 if nid in fresh else draft.since(at))
    ]
    _go_live(scene, rooms, "typing")
    if not moved:
        return None
    async with scene.sources.db.read() as tx:
        found = await typing_in(tx, moved)
    shown = {
        view.room_ids[nid]: {"type": "m.typing", "content": {"user_ids": list(users)}}
        for nid, users in found.items()
        if users or nid not in fresh
    }
    return {"rooms": shown} if shown else None


# ── Places ───────────────────────────────────────────────────────────────────────────


def _go_live(scene: Scene, rooms: Iterable[int], stream: str) -> None:
    """The client is up to date in a stream of these rooms."""
    for nid in rooms:
        sent = scene.draft.rooms[nid]
        if getattr(sent, stream) != LIVE:
            changed = msgspec.structs.replace(sent, **{stream: LIVE})
            scene.draft.put(nid, changed)


def leave_behind(
    scene: Scene,
    view: InView,
    extensions: Mapping[str, Extension],
    standing: Standing,
) -> None:
    """Note where the client is left behind: what moved and was not asked for now."""
    draft, position = scene.draft, scene.draft.position
    covered: dict[str, Container[int]] = {"events": view.events}
    for stream in (ACCOUNT_DATA, RECEIPTS, TYPING):
        asked = extensions.get(stream)
        covered[stream] = () if asked is None else frozenset(view.covered(asked))
    for stream, last in ((ACCOUNT_DATA, standing.moved_own), (E2EE, standing.moved)):
        had = stream in extensions or draft.own.get(stream, NEVER) != LIVE
        if last > position and not had:
            draft.put_own(stream, position)
    for nid, sent in list(draft.rooms.items()):
        moves = standing.moves.get(nid)
        if moves is None:
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
            and nid not in covered[stream]
        }
        if behind:
            draft.put(nid, msgspec.structs.replace(sent, **behind))
