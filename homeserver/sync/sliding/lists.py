"""Which rooms a request names: the user's rooms by recency, filtered, in ranges."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from federation.ids import RoomId
from homeserver.live.live import Live
from homeserver.live.room import Member, User
from homeserver.sync import invites
from homeserver.sync.sliding.connection import Phase, State
from homeserver.sync.sliding.facts import Facts, Own, RoomFacts
from homeserver.sync.sliding.request import Filters, ListConfig, SlidingRequest
from homeserver.sync.sliding.required import RoomConfig, combined

_OUT = frozenset(("leave", "ban"))


class Moves(NamedTuple):
    """The last positions at which a room moved for its user."""

    events: int
    receipts: int = 0
    typing: int = 0

    @property
    def last(self) -> int:
        """The last position at which events or receipts moved."""
        return max(self.events, self.receipts)


@dataclass(frozen=True, slots=True)
class Standing:
    """A user's rooms as they stand at `upto`, those that moved last first."""

    upto: int
    moved: int  # the last position at which anything of the user moved
    moved_own: int  # the same, but for what moved in rooms
    moved_people: int  # presence or profile of somebody
    members: Mapping[int, Member]
    moves: Mapping[int, Moves]


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """How rooms are shown that the same lists and subscription name."""

    config: RoomConfig
    lists: frozenset[str] = frozenset()
    is_subscribed: bool = False


@dataclass(frozen=True, slots=True)
class Windows:
    """What the request names: lists' lengths, and rooms in order of recency."""

    counts: Mapping[str, int] = field(default_factory=dict)
    rooms: Mapping[int, Shown] = field(default_factory=dict)


async def standing_of(live: Live, facts: Facts, user: User, state: State) -> Standing:
    """The user's rooms now, as far as this connection may know of them.

    Those that they have left themselves only when the client has had them.
    """
    out = {
        nid: member
        for nid, member in user.rooms.items()
        if member.membership in _OUT and nid not in state.rooms and not member.forgotten
    }
    removed = await facts.removed(out) if out else ()
    hidden = await invites.hidden(live, user.user_id, user.rooms)
    pulses = await live.pulses(
        [nid for nid, m in user.rooms.items() if m.membership == "join"]
    )
    # From here on nothing is awaited: all of it stands at one position.
    upto = live.position
    moves: dict[int, Moves] = {}
    for nid, member in user.rooms.items():
        if nid in hidden and member.membership == "invite":
            continue
        pulse = pulses.get(nid)
        if pulse is not None and member.membership == "join":
            events = max(pulse.events, member.position)
            moves[nid] = Moves(events, pulse.receipts, pulse.typing)
        elif (
            member.membership not in _OUT or nid in removed or _had(state, nid, member)
        ):
            moves[nid] = Moves(member.position)
    order = sorted(moves, key=lambda nid: moves[nid].events, reverse=True)
    return Standing(
        upto=upto,
        moved_own=user.moved,
        moved_people=max(user.people, *(p.people for p in pulses.values()), 0),
        moved=max(user.moved, *(p.last for p in pulses.values()), 0),
        members={nid: user.rooms[nid] for nid in order},
        moves=moves,
    )


def _had(state: State, nid: int, member: Member) -> bool:
    """Whether the client has had the room, and is not to forget it."""
    sent = state.rooms.get(nid)
    return sent is not None and not (member.forgotten and sent.phase is Phase.GONE)


async def find_windows(
    live: Live,
    facts: Facts,
    user: User,
    standing: Standing,
    request: SlidingRequest,
) -> Windows:
    """The rooms that the request names."""
    by_list: dict[int, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    filtering = _Filtering(live, facts, user, standing)
    for name, wanted in request.lists.items():
        nids = await filtering.keep(wanted.filters)
        counts[name] = len(nids)
        for nid in _in_ranges(nids, wanted):
            by_list[nid] = (*by_list.get(nid, ()), name)
    subscribed = await filtering.named(request.subscriptions)
    # Most rooms are named by the same rules, and share what comes of them.
    known: dict[tuple[tuple[str, ...], RoomConfig | None], Shown] = {}
    rooms: dict[int, Shown] = {}
    for nid in standing.members:
        names, own = by_list.get(nid, ()), subscribed.get(nid)
        if not names and own is None:
            continue
        shown = known.get((names, own))
        if shown is None:
            configs = [request.lists[name].config for name in names]
            configs += () if own is None else (own,)
            shown = Shown(combined(configs), frozenset(names), own is not None)
            known[names, own] = shown
        rooms[nid] = shown
    return Windows(counts, rooms)


def _in_ranges(nids: list[int], wanted: ListConfig) -> Iterable[int]:
    if wanted.ranges is None:
        return nids
    if len(wanted.ranges) == 1:
        ((first, last),) = wanted.ranges
        return nids[first : last + 1]
    return {nid for first, last in wanted.ranges for nid in nids[first : last + 1]}


class _Filtering:
    """Applies filters to a user's rooms; what they ask about is read once."""

    def __init__(
        self, live: Live, facts: Facts, user: User, standing: Standing
    ) -> None:
        self._live = live
        self._facts = facts
        self._user = user
        self._standing = standing
        self._room_ids: Mapping[int, RoomId] = {}
        self._own: Own | None = None
        self._kept: dict[Filters, list[int]] = {}

    async def keep(self, filters: Filters) -> list[int]:
        """The rooms that pass, in order."""
        kept = self._kept.get(filters)
        if kept is None:
            kept = await self._keep(filters)
            self._kept[filters] = kept
        return kept

    async def named(
        self, subscriptions: Mapping[str, RoomConfig]
    ) -> dict[int, RoomConfig]:
        """The subscriptions to rooms of the user; others count as not there."""
        if not subscriptions:
            return {}
        room_ids = await self._ids()
        return {
            nid: subscriptions[room_id]
            for nid, room_id in room_ids.items()
            if room_id in subscriptions
        }

    async def _keep(self, filters: Filters) -> list[int]:
        members = self._standing.members
        nids = list(members)
        if filters.is_invite is not None:
            nids = [
                nid
                for nid in nids
                if (members[nid].membership == "invite") == filters.is_invite
            ]
        if filters.needs_facts:
            known = await self._facts.of_rooms(
                self._user.user_id, members, named=filters.room_name_like is not None
            )
            nids = [
                n for n in nids if _passes_facts(filters, known.get(n, RoomFacts()))
            ]
        if filters.room_name_like is not None:
            # What the room is called now is not for those who are out of it.
            nids = [nid for nid in nids if members[nid].membership not in _OUT]
        if filters.needs_own:
            nids = await self._keep_own(filters, nids)
        if filters.spaces is not None:
            children = await self._children(filters.spaces)
            room_ids = await self._ids()
            nids = [nid for nid in nids if room_ids.get(nid) in children]
        return nids

    async def _keep_own(self, filters: Filters, nids: list[int]) -> list[int]:
        if self._own is None:
            self._own = await self._facts.own(self._user.user_id)
        own = self._own
        if filters.is_dm is not None:
            room_ids = await self._ids()
            nids = [
                nid
                for nid in nids
                if (room_ids.get(nid) in own.direct) == filters.is_dm
            ]
        if filters.tags is not None:
            wanted = filters.tags
            nids = [n for n in nids if not wanted.isdisjoint(own.tags.get(n, ()))]
        return [
            nid for nid in nids if filters.not_tags.isdisjoint(own.tags.get(nid, ()))
        ]

    async def _ids(self) -> Mapping[int, RoomId]:
        if not self._room_ids:
            self._room_ids = await self._facts.room_ids(self._standing.members)
        return self._room_ids

    async def _children(self, spaces: Container[str]) -> set[str]:
        """The rooms that these spaces name, as far as the user is in the spaces."""
        members = self._standing.members
        wanted = [
            nid
            for nid, room_id in (await self._ids()).items()
            if room_id in spaces and members[nid].membership == "join"
        ]
        nids: set[int] = set()
        for space in (await self._live.rooms(wanted)).values():
            entries = space.state.items()
            nids.update(nid for key, nid in entries if key[0] == "m.space.child")
        events = await self._live.events.by_nids(nids)
        return {
            event.pdu.state_key or ""
            for event in events.values()
            if isinstance(event.shown.content.get("via"), list)
        }


def _passes_facts(filters: Filters, facts: RoomFacts) -> bool:
    if filters.is_encrypted not in {None, facts.is_encrypted}:
        return False
    if filters.room_types is not None and facts.room_type not in filters.room_types:
        return False
    if facts.room_type in filters.not_room_types:
        return False
    if filters.room_name_like is None:
        return True
    name = (facts.name or "").casefold()
    return filters.room_name_like.casefold() in name
