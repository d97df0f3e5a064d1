"""When rooms moved last, and which rooms moved last.

Laws. A room's pulse errs to the late side only. The orders hold every room that moved
after `_from`, newest last, so that a look at what is new costs what is new.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from homeserver.bounded import MEMORY, MIB, LruCache
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Member, Pulse, RoomDelta

_PULSES: Final = 64 * MIB
_PULSE_COST: Final = 300
_ORDERED: Final = 100_000  # rooms in each order
_ORDER_COST: Final = 170  # bytes of each room there, roughly
# More rooms than these beyond the user's own, and it is cheaper to ask each of theirs.
_MARGIN: Final = 16
OF_PEOPLE: Final = frozenset((Kind.PRESENCE, Kind.PROFILE))


class Pulses:
    """What one process knows of rooms' movements."""

    def __init__(self) -> None:
        self._known: LruCache[int, Pulse] = LruCache("pulses", _PULSES, _PULSE_COST)
        self._rooms: OrderedDict[int, int] = OrderedDict()
        self._people: OrderedDict[int, int] = OrderedDict()
        self._from = 0
        self._newest = 0
        MEMORY.add_queue(
            "rooms by movement",
            self,
            Pulses.order_bytes,
            2 * _ORDERED * _ORDER_COST,
        )

    def order_bytes(self) -> int:
        """What the orders take, roughly."""
        return _ORDER_COST * (len(self._rooms) + len(self._people))

    def reset(self, position: int) -> None:
        """Forget everything: nothing is known of what came before that position."""
        self._known.clear()
        self._rooms.clear()
        self._people.clear()
        self._from = self._newest = position

    def get(self, room_nid: int) -> Pulse | None:
        """The room's pulse, if it is at hand."""
        return self._known.get(room_nid)

    def keep(self, room_nid: int, loaded: Pulse) -> Pulse:
        """Keep a pulse that was read; the one at hand when another was faster."""
        known = self._known.peek(room_nid)
        if known is None:
            self._known.put(room_nid, loaded)
        return known or loaded

    def note_events(self, delta: RoomDelta) -> None:
        """Events came into a room."""
        _move_events(self._known.peek(delta.room_nid), delta)
        self._note(self._rooms, delta.room_nid, delta.last)

    def note_change(self, position: int, change: Change) -> Iterable[int]:
        """Something else happened; the rooms in which it did."""
        rooms = rooms_of(change)
        order = self._people if change.kind in OF_PEOPLE else self._rooms
        for room_nid in rooms:
            _move(self._known.peek(room_nid), position, change.kind)
            self._note(order, room_nid, position)
        return rooms

    def _note(self, order: OrderedDict[int, int], room_nid: int, position: int) -> None:
        # Never out of order: a little late is safe, too early is not.
        self._newest = order[room_nid] = max(position, self._newest)
        order.move_to_end(room_nid)
        if len(order) > _ORDERED:
            _, self._from = order.popitem(last=False)

    def moved(
        self, since: int, members: Mapping[int, Member], *, people: bool = False
    ) -> list[int] | None:
        """The joined ones of those rooms that moved after a position.

        `people`: in which presence or profile of somebody did, instead of anything that
        every client wants. None when that is not known, or each has to be asked.
        """
        if since < self._from:
            return None
        found: list[int] = []
        left = len(members) + _MARGIN
        order = self._people if people else self._rooms
        for room_nid, position in reversed(order.items()):
            if position <= since:
                return found
            left -= 1
            if left < 0:
                return None
            member = members.get(room_nid)
            if member is not None and member.membership == "join":
                found.append(room_nid)
        return found


def replay(pulses: Mapping[int, Pulse], item: RoomDelta | tuple[int, Change]) -> None:
    """Move pulses that were just read over something that came later."""
    if isinstance(item, RoomDelta):
        _move_events(pulses.get(item.room_nid), item)
        return
    position, change = item
    for room_nid in rooms_of(change):
        _move(pulses.get(room_nid), position, change.kind)


def rooms_of(change: Change) -> Iterable[int]:
    """The rooms whose pulse a change moves."""
    match change.kind:
        case Kind.RECEIPT | Kind.TYPING | Kind.STICKY:
            return (change.room_nid or 0,)
        case Kind.DEVICE_LIST | Kind.TOKENS | Kind.PRESENCE | Kind.PROFILE:
            return change.reach.rooms if change.reach else ()
        case _:
            return ()


def _move_events(pulse: Pulse | None, delta: RoomDelta) -> None:
    if pulse is not None:
        pulse.events = max(pulse.events, delta.last)
        if delta.members:
            pulse.members = max(pulse.members, delta.last)


def _move(pulse: Pulse | None, position: int, kind: Kind) -> None:
    if pulse is None:
        return
    if kind is Kind.TYPING:
        pulse.typing = max(pulse.typing, position)
    elif kind in OF_PEOPLE:
        pulse.people = max(pulse.people, position)
    elif kind in {Kind.DEVICE_LIST, Kind.TOKENS}:
        pulse.devices = max(pulse.devices, position)
    else:
        pulse.receipts = max(pulse.receipts, position)
