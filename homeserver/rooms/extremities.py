"""Which events stay the room's last ones when another arrives.

Spec: server-server-api#soft-failure
"""

from typing import Final

from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live

_MOST_COVERED: Final = 100


async def covered_by(live: Live, event: StoredEvent) -> set[int]:
    """The events that are no extremities any more once this event is there.

    Besides its prev_events these are what stood before them where they were not
    accepted. To merge the state before an event with the state after it can undo what
    happened in between.
    """
    covered: set[int] = set()
    wanted = set(event.prev_nids)
    while wanted and len(covered) < _MOST_COVERED:
        covered |= wanted
        prev = await live.events.by_nids(wanted)
        wanted = {
            nid
            for before in prev.values()
            if before.rejected is not None or before.soft_failed
            for nid in before.prev_nids
        } - covered
    return covered
