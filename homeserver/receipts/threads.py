"""Whether an event belongs to a thread.

Spec: client-server-api#threaded-read-receipts
"""

from typing import Final

from federation.errors import Malformed
from federation.ids import parse_event_id
from federation.pdu import Pdu
from homeserver.events.events import Events
from homeserver.events.stored import StoredEvent

MAIN: Final = "main"
# "A maximum of 3 hops is recommended to cover indirect relationships."
_MAX_HOPS: Final = 3


def is_thread_id(value: str) -> bool:
    """Whether it can name a thread: `main`, or the event ID of a root."""
    if value == MAIN:
        return True
    try:
        return bool(parse_event_id(value))
    except Malformed:
        return False


def relation_of(event: Pdu) -> tuple[str, str] | None:
    """The type of an event's relation and the event that it relates to."""
    relates_to = event.content.get("m.relates_to")
    if not isinstance(relates_to, dict):
        return None
    rel_type, event_id = relates_to.get("rel_type"), relates_to.get("event_id")
    if isinstance(rel_type, str) and isinstance(event_id, str):
        return rel_type, event_id
    return None


async def is_in_thread(events: Events, event: StoredEvent, thread_id: str) -> bool:
    """Whether a receipt of that thread may stand at the event.

    A thread's root is in the main timeline, but its thread may be read up to it.
    """
    if event.event_id == thread_id:
        return True
    root = await root_of(events, event)
    return root == thread_id if thread_id != MAIN else root is None


async def root_of(events: Events, event: StoredEvent) -> str | None:
    """The root of the event's thread; None: it is in the main timeline."""
    current: StoredEvent | None = event
    for _ in range(_MAX_HOPS + 1):
        if current is None or current.room_nid != event.room_nid:
            return None
        relation = relation_of(current.pdu)
        if relation is None:
            return None
        rel_type, event_id = relation
        if rel_type == "m.thread":
            return event_id
        current = await events.by_id(event_id)
    return None
