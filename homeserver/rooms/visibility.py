"""Who may see which event: history visibility, as pure functions over what was loaded.

Spec: client-server-api#room-history-visibility
"""

from dataclasses import dataclass

from federation.ids import UserId
from federation.pdu import Pdu

HISTORY_VISIBILITY = ("m.room.history_visibility", "")
# Says nothing: it merges branches of a room, and is there for servers alone.
DUMMY_EVENT = "org.matrix.dummy_event"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The state before an event, as far as it decides who may see it.

    `visibility` is None when the room says nothing; `joined_later` tells whether the
    reader was joined at any time after the event.
    """

    visibility: str | None
    membership: str | None
    joined_later: bool


def visibility_of(event: Pdu | None) -> str:
    """What a history visibility event says; `shared` when it says nothing known."""
    value = None if event is None else event.content.get("history_visibility")
    known = ("world_readable", "shared", "invited", "joined")
    return value if isinstance(value, str) and value in known else "shared"


def may_see(event: Pdu, reader: UserId, before: Circumstances) -> bool:
    """Whether the reader may see the event."""
    if before.membership == "join":
        return True
    visibilities = [before.visibility or "shared"]
    if event.key == HISTORY_VISIBILITY:
        visibilities.append(visibility_of(event))
    memberships = [before.membership]
    if event.key == ("m.room.member", reader):
        memberships.append(event.membership)
    return any(
        _allows(visibility, membership, joined_later=before.joined_later)
        for visibility in visibilities
        for membership in memberships
    )


def may_see_messages(before: Circumstances) -> bool:
    """Whether a reader may see what is no state, sent in these circumstances."""
    return _allows(
        before.visibility or "shared",
        before.membership,
        joined_later=before.joined_later,
    )


def _allows(visibility: str, membership: str | None, *, joined_later: bool) -> bool:
    if visibility == "world_readable" or membership == "join":
        return True
    if visibility == "shared":
        return joined_later
    return visibility == "invited" and membership == "invite"
