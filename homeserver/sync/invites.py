"""Which of a user's invites are shown: none from users whom they ignore.

Spec: client-server-api#ignoring-users
"""

from collections.abc import Mapping

from federation.ids import UserId
from homeserver.live.live import Live
from homeserver.live.room import Member


async def hidden(
    live: Live, user_id: UserId, members: Mapping[int, Member]
) -> frozenset[int]:
    """The rooms, of those that the user is invited to, that clients do not see."""
    ignored = await live.ignored.by(user_id)
    invites = {
        nid: member.event_nid
        for nid, member in members.items()
        if ignored and member.membership == "invite"
    }
    if not invites:
        return frozenset()
    events = await live.events.by_nids(invites.values())
    return frozenset(
        nid
        for nid, event_nid in invites.items()
        if event_nid in events and events[event_nid].pdu.sender in ignored
    )
