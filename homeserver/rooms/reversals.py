"""Which state changes events that come in undo, and why."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from federation.pdu import StateKey
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.steps import Reversal
from homeserver.state.resolve import Resolved


async def reversals(
    live: Live,
    events: Sequence[StoredEvent],
    changes: Mapping[StateKey, int | None],
    nid_before: Callable[[StateKey], int | None],
    resolved: Resolved,
) -> list[Reversal]:
    """What lost its place in the room's state as these events came in together.

    `changes` is what the state now has where it is another than before. That a state
    event takes the place of the one that it was sent upon is no reversal.
    """
    new = {event.nid: event for event in events}
    last = events[-1].nid
    found: list[Reversal] = []

    def lose(nid: int, won: int | None, by: int) -> None:
        found.append(Reversal(nid, won, by, resolved.refused.get(nid)))

    for key, won in changes.items():
        before = nid_before(key)
        if before is not None and before not in [
            nid async for nid in _followed(live, new, key, won)
        ]:
            lose(before, won, last)
    for event in events:
        own = event.pdu.key
        if own is None or event.state_after == event.state_before:
            continue
        stands = changes.get(own, nid_before(own))
        if stands != event.nid and event.nid not in [
            nid async for nid in _followed(live, new, own, stands)
        ]:
            lose(event.nid, stands, event.nid)
    return found


async def _followed(
    live: Live, new: Mapping[int, StoredEvent], key: StateKey, won: int | None
) -> AsyncIterator[int]:
    """What stood at a key, one after the other, until a new event took its place."""
    while won is not None and won in new:
        found = await live.states.get(new[won].state_before or 0, (key,))
        won = found.get(key)
        if won is not None:
            yield won
