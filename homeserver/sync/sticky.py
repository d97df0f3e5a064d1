"""Sticky events beside the timeline. MSC4354.

Who joins gets all of a room's; others those that came since, as far as their timeline
leaves them out. Neither filters nor history visibility matter.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.ids import EventId, UserId
from homeserver.events import sticky_store as store
from homeserver.events.client_format import Sight
from homeserver.events.stored import StoredEvent
from homeserver.rooms.sticky import sticky_rooms
from homeserver.sync.request import Sources

SECTION: Final = "msc4354_sticky"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A sticky event, and the position at which it came."""

    event: StoredEvent
    position: int


async def read_sticky(
    sources: Sources, user_id: UserId, room_nids: Iterable[int], upto: int
) -> Mapping[int, list[Delivered]]:
    """What is sticky for a user in those rooms, as of a position.

    Nearly always it is nothing. Whom the user ignores stays unheard.
    """
    now_ms = sources.clock.ms()
    nids = await sticky_rooms(sources.db, sources.live).among(room_nids, now_ms)
    if not nids:
        return {}
    async with sources.db.read() as tx:
        rows = await store.sticky_now(tx, nids, now_ms, upto)
    events = await sources.live.events.by_nids([row.event_nid for row in rows])
    ignored = await sources.live.ignored.by(user_id)
    found: dict[int, list[Delivered]] = {}
    for row in rows:
        event = events.get(row.event_nid)
        if event is None or event.redaction is not None or row.position is None:
            continue
        if event.pdu.sender not in ignored:
            found.setdefault(row.room_nid, []).append(Delivered(event, row.position))
    return found


def news_of(
    delivered: Iterable[Delivered], since: int, shown: Collection[EventId]
) -> list[Sight]:
    """Those that came after a position and that the timeline does not show."""
    return [
        Sight(each.event)
        for each in delivered
        if each.position > since and each.event.event_id not in shown
    ]
