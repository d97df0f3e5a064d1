"""Which state changes an event that comes in undoes, and why."""

from collections.abc import Callable, Mapping

from federation.pdu import StateKey
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.steps import Reversal
from homeserver.state.resolve import Resolved


async def reversals(
    live: Live,
    event: StoredEvent,
    changes: Mapping[StateKey, int | None],
    nid_before: Callable[[StateKey], int | None],
    resolved: Resolved,
) -> list[Reversal]:
    """What lost its place in the room's state as this event came in.

    `changes` is what the state now has where it is another than before. That a state
    event takes the place of the one that it was sent upon is no reversal.
    """
    key = event.pdu.key
    lost: dict[int, int | None] = {}
    for changed, won in changes.items():
        before = nid_before(changed)
        if before is not None and not await _follows(live, event, changed, before, won):
            lost[before] = won
    if key is not None and event.state_after != event.state_before:
        stands = changes.get(key, nid_before(key))
        if stands != event.nid:
            lost[event.nid] = stands
    return [
        Reversal(nid, won, event.nid, resolved.refused.get(nid))
        for nid, won in lost.items()
    ]


async def _follows(
    live: Live, event: StoredEvent, key: StateKey, before: int, won: int | None
) -> bool:
    """Whether the event itself is what stands there now, sent upon what stood there."""
    if won != event.nid:
        return False
    found = await live.states.get(event.state_before or 0, (key,))
    return found.get(key) == before
