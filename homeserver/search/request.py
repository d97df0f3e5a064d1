"""What a search asks for, and the tokens of its pages."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from homeserver import errors
from homeserver.search.store import Place

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 10
MAX_CONTEXT: Final = 50

Key = Literal["content.body", "content.name", "content.topic"]
GroupKey = Literal["room_id", "sender"]


class EventContext(msgspec.Struct, frozen=True):
    """What to show around each result."""

    before_limit: int = 5
    after_limit: int = 5
    include_profile: bool = False


class Group(msgspec.Struct, frozen=True):
    """One way to group."""

    key: GroupKey | None = None


class Groupings(msgspec.Struct, frozen=True):
    """The ways to group."""

    group_by: list[Group] = []


class RoomEvents(msgspec.Struct, frozen=True):
    """The one category there is."""

    search_term: str
    keys: list[Key] | None = None
    filter: dict[str, object] = {}
    order_by: Literal["recent", "rank"] = "rank"
    event_context: EventContext | None = None
    include_state: bool = False
    groupings: Groupings = Groupings()


class Categories(msgspec.Struct, frozen=True):
    """The categories to search in."""

    room_events: RoomEvents | None = None


class Body(msgspec.Struct, frozen=True):
    """The body."""

    search_categories: Categories


@dataclass(frozen=True, slots=True)
class Token:
    """Where a page begins; with a group, it has only what is of that group."""

    place: Place
    group: tuple[GroupKey, str] | None = None

    def __str__(self) -> str:
        parts = (self.place.rank, self.place.position, self.group)
        return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def parse_token(text: str) -> Token:
    """The token that a client brings. Raises: M_INVALID_PARAM."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        kind = tuple[float, int, tuple[GroupKey, str] | None]
        rank, position, group = msgspec.json.decode(data, type=kind)
    except (ValueError, binascii.Error):
        raise errors.invalid_param("next_batch: not a token of a search.") from None
    if abs(position) >= 2**62:
        raise errors.invalid_param("next_batch: not a token of a search.")
    return Token(Place(rank, position), group)
