"""Which events a user may see, and what each needs to be shown: the loading part.

Events that share a state share the look-ups, and a member who was joined all along
needs none.

Spec: client-server-api#room-history-visibility
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.ids import UserId
from federation.pdu import StateKey
from homeserver.events.client_format import Sight
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.room import Member
from homeserver.rooms.visibility import (
    DUMMY_EVENT,
    HISTORY_VISIBILITY,
    Circumstances,
    may_see,
    may_see_messages,
    visibility_of,
)

_JOINED: Final = Circumstances(None, "join", joined_later=True)


@dataclass(frozen=True, slots=True)
class Reader:
    """A local user before a room: their membership now, if they ever had one."""

    user_id: UserId
    member: Member | None

    @property
    def is_joined(self) -> bool:
        """Whether they are joined now."""
        return self.member is not None and self.member.membership == "join"


async def visible(
    live: Live,
    reader: Reader,
    events: Sequence[StoredEvent],
    *,
    with_ignored: bool = False,
) -> list[Sight]:
    """Those of the events of one room that the reader may see, in order.

    Events without a known state (outliers) are not shown, and of users whom the reader
    ignores only what is state, unless they are wanted. What somebody said who wants it
    to be erased is shown in full only to those who were there. Messages whose time is
    over are not shown (MSC1763).
    """
    ignored = frozenset() if with_ignored else await live.ignored.by(reader.user_id)
    erased = await live.erased.users()
    horizon = None
    if live.retention is not None and events:
        horizon = await live.retention.horizon(events[0].room_nid)
    at = await _circumstances(live, reader, events, await last_joined(live, reader))
    sights = []
    for event in events:
        pdu = event.pdu
        is_message = pdu.state_key is None
        if is_message and (pdu.sender in ignored or pdu.type == DUMMY_EVENT):
            continue
        if horizon is not None and horizon.hides(event):
            continue
        before = at.get(event.nid)
        if before is None or not may_see(pdu, reader.user_id, before):
            continue
        if is_message:
            is_erased = pdu.sender in erased and before.membership != "join"
            shown = event.erased() if is_erased else event
            sights.append(Sight(shown, before.membership or "leave"))
            continue
        own = pdu.key == ("m.room.member", reader.user_id)
        membership = pdu.membership if own else before.membership
        replaced = await replaced_by(live, event)
        sights.append(Sight(event, membership or "leave", replaced))
    return sights


async def last_joined(live: Live, reader: Reader) -> int:
    """The position up to which the reader was a joined member at some time after."""
    member = reader.member
    if member is None:
        return 0
    if member.membership == "join":
        return 2**63
    event = await live.events.by_nid(member.event_nid)
    if event is None or event.state_before is None:
        return 0
    key = ("m.room.member", reader.user_id)
    nid = (await live.states.get(event.state_before, (key,))).get(key)
    before = None if nid is None else await live.events.by_nid(nid)
    was_joined = before is not None and before.pdu.membership == "join"
    return member.position if was_joined else 0


async def open_states(
    live: Live, reader: Reader, before: Iterable[tuple[int, bool]]
) -> set[tuple[int, bool]]:
    """Those of the states before messages in which the reader may see them.

    Each comes with whether the reader was joined at any time after the messages.
    """
    member_key = ("m.room.member", reader.user_id)
    found = set()
    for root, joined_later in before:
        nids = await live.states.get(root, (HISTORY_VISIBILITY, member_key))
        there = await live.events.by_nids(nids.values())
        rule = _at(nids, there, HISTORY_VISIBILITY)
        membership = _at(nids, there, member_key)
        circumstances = Circumstances(
            visibility_of(rule.pdu if rule else None),
            membership.pdu.membership if membership else None,
            joined_later=joined_later,
        )
        if may_see_messages(circumstances):
            found.add((root, joined_later))
    return found


async def _circumstances(
    live: Live, reader: Reader, events: Iterable[StoredEvent], last_joined: int
) -> dict[int, Circumstances]:
    found: dict[int, Circumstances] = {}
    by_root: defaultdict[int, list[StoredEvent]] = defaultdict(list)
    member = reader.member
    since = member.position if member is not None and reader.is_joined else None
    for event in events:
        if event.position is None or event.state_before is None:
            continue
        if since is not None and event.position > since:
            # Joined since before the event: no rule asks for more.
            found[event.nid] = _JOINED
        else:
            by_root[event.state_before].append(event)
    member_key = ("m.room.member", reader.user_id)
    for root, mine in by_root.items():
        nids = await live.states.get(root, (HISTORY_VISIBILITY, member_key))
        there = await live.events.by_nids(nids.values())
        rule = _at(nids, there, HISTORY_VISIBILITY)
        membership = _at(nids, there, member_key)
        for event in mine:
            found[event.nid] = Circumstances(
                visibility_of(rule.pdu if rule else None),
                membership.pdu.membership if membership else None,
                joined_later=(event.position or 0) < last_joined,
            )
    return found


def _at(
    nids: dict[StateKey, int], events: dict[int, StoredEvent], key: StateKey
) -> StoredEvent | None:
    nid = nids.get(key)
    return None if nid is None else events.get(nid)


async def replaced_by(live: Live, event: StoredEvent) -> StoredEvent | None:
    """The state event whose place this one took."""
    key = event.pdu.key
    if key is None or not event.state_before:
        return None
    nid = (await live.states.get(event.state_before, (key,))).get(key)
    return None if nid is None else await live.events.by_nid(nid)


async def state_sights(
    live: Live, nids: Iterable[int], membership: str | None = None
) -> list[Sight]:
    """State events as they stand, without what they replaced."""
    events = await live.events.by_nids(nids)
    return [Sight(event, membership) for event in events.values()]
