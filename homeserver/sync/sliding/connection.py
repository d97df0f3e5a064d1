"""What a client has got over one connection: pure values.

Each room has one place for each stream of news. A place is LIVE (up to date as of the
token that the client brings), NEVER, or the position where the client was left behind.
"""

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import msgspec

from federation.errors import Malformed

LIVE: Final = -1
NEVER: Final = -2
MAX_BYTES: Final = 1024 * 1024  # of an encoded state

_TOKEN: Final = re.compile(r"s([0-9]{1,18})~([0-9a-f]{12})")


class Phase(IntEnum):
    """How the user stood to a room when it was sent. Numbers are stored."""

    PENDING = 0  # invited, knocking
    JOINED = 1
    GONE = 2  # left, kicked, banned


PHASES: Final = {
    "invite": Phase.PENDING,
    "knock": Phase.PENDING,
    "join": Phase.JOINED,
}


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """What the client has of one room.

    `shown` is how many of its newest events the client has without a gap between,
    as far as a higher timeline limit may ask for; `combo` the parts of required state
    that it has, as an index into `State.combos`.
    """

    phase: Phase
    shown: int
    combo: int
    is_dm: bool
    events: int = LIVE
    receipts: int = NEVER
    account_data: int = NEVER
    typing: int = NEVER


class State(msgspec.Struct, frozen=True, array_like=True):
    """What a client has. `birth` names the connection since its first answer.

    `base` is the position at which this state arose: no token of it stands before.
    """

    birth: str
    base: int
    rooms: dict[int, Sent] = {}
    combos: tuple[tuple[bytes, ...], ...] = ()
    own: dict[str, int] = {}  # places of streams that are of no room


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(State)


def encode(state: State) -> bytes:
    """The state as it is stored."""
    return _encoder.encode(state)


def decode(data: bytes) -> State | None:
    """The state that was stored; None when an older release wrote it otherwise."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Pos:
    """A token: a state's name, and the position as of which its LIVE is meant."""

    position: int
    name: str

    def __str__(self) -> str:
        return f"s{self.position}~{self.name}"


def parse_pos(token: str) -> Pos:
    """The token that a client brings. Raises: Malformed."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise Malformed("this is not a token of this server")
    return Pos(int(match[1]), match[2])


@dataclass(slots=True)
class Draft:
    """A state in the making, from the one that the client has at `position`."""

    old: State
    position: int
    rooms: dict[int, Sent] = field(init=False)
    own: dict[str, int] = field(init=False)
    _combos: list[tuple[bytes, ...]] = field(init=False)
    _is_changed: bool = False
    _lacking: dict[tuple[int, tuple[bytes, ...]], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rooms = dict(self.old.rooms)
        self.own = dict(self.old.own)
        self._combos = list(self.old.combos)

    def marks_of(self, sent: Sent) -> tuple[bytes, ...]:
        """The parts of required state that the client has of a room."""
        return self._combos[sent.combo]

    def combo(self, marks: tuple[bytes, ...]) -> int:
        """The index of these parts."""
        try:
            return self._combos.index(marks)
        except ValueError:
            self._combos.append(marks)
            return len(self._combos) - 1

    def lacks(self, sent: Sent, marks: tuple[bytes, ...]) -> bool:
        """Whether there are parts among these that the client does not have.

        It may have more: until the room moves, what it has stays right.
        """
        key = (sent.combo, marks)
        if key not in self._lacking:
            self._lacking[key] = not set(marks).issubset(self._combos[sent.combo])
        return self._lacking[key]

    def put(self, room_nid: int, sent: Sent) -> None:
        """The client has this of a room."""
        if self.rooms.get(room_nid) != sent:
            self.rooms[room_nid] = sent
            self._is_changed = True

    def put_own(self, stream: str, place: int) -> None:
        """The client's place in a stream that is of no room."""
        if self.own.get(stream, NEVER) != place:
            self.own[stream] = place
            self._is_changed = True

    def since(self, place: int) -> int:
        """The position of a place that is not NEVER."""
        return self.position if place == LIVE else place

    @property
    def is_changed(self) -> bool:
        """Whether it differs from the old state."""
        return self._is_changed

    def finish(self, upto: int) -> State:
        """The new state, without combinations that nothing uses."""
        used = sorted({sent.combo for sent in self.rooms.values()})
        rooms = self.rooms
        if len(used) != len(self._combos):
            index = {combo: i for i, combo in enumerate(used)}
            rooms = {
                nid: msgspec.structs.replace(sent, combo=index[sent.combo])
                for nid, sent in rooms.items()
            }
        return State(
            birth=self.old.birth,
            base=upto,
            rooms=rooms,
            combos=tuple(self._combos[combo] for combo in used),
            own=self.own,
        )
