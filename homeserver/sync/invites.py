"""Which of a user's invites are shown: none that they ignore or block.

Spec: client-server-api#ignoring-users, client-server-api#invite-permission
"""

from collections.abc import Mapping

from federation.ids import UserId
from homeserver.live.invite_rules import Verdict
from homeserver.live.live import Live
from homeserver.live.room import Member


async def hidden(
    live: Live, user_id: UserId, members: Mapping[int, Member]
) -> frozenset[int]:
    """The rooms, of those that the user is invited to, that clients do not see."""
    ignored = await live.ignored.by(user_id)
    config = await live.invite_rules.of(user_id)
    if not ignored and config.is_open:
        return frozenset()
    invites = {
        nid: member.event_nid
        for nid, member in members.items()
        if member.membership == "invite"
    }
    events = await live.events.by_nids(invites.values())
    return frozenset(
        nid
        for nid, event_nid in invites.items()
        if event_nid in events
        and (
            (sender := events[event_nid].pdu.sender) in ignored
            or config.verdict(sender) is not Verdict.ALLOW
        )
    )
