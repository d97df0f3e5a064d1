"""Kicks and bans that redact what the user has said since they came in. MSC4293.

No redactions are sent: each server applies it to what it has.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from federation import auth_rules
from federation.pdu import Pdu, StateKey
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live

FLAG: Final = "redact_events"
UNSTABLE_FLAG: Final = "org.matrix.msc4293.redact_events"
_MEMBER: Final = "m.room.member"
# The newest, when there are more; they are redacted in the same commit as the ban.
_MOST: Final = 5_000
# Changes of name and picture within a stay that are gone back over.
_MOST_CHANGES: Final = 100


async def redacted_by(
    live: Live,
    event: StoredEvent,
    state: Mapping[StateKey, Pdu],
    create: Pdu | None,
) -> Sequence[StoredEvent]:
    """What is redacted by a member event, allowed in this state: mostly nothing."""
    pdu = event.pdu
    if not _asks(pdu):
        return ()
    levels = auth_rules.PowerLevels.of(state, pdu.version, create)
    power = levels.user(pdu.sender)
    is_state = False
    if power < max(levels.redact, levels.required("m.room.redaction", is_state)):
        return ()
    began = await _beginning(live, event)
    if began is None:
        return ()
    nids = await live.events.sent_by(
        event.room_nid, pdu.state_key or "", began.pdu.depth, _MOST
    )
    return list((await live.events.by_nids(nids)).values())


def _asks(pdu: Pdu) -> bool:
    if pdu.type != _MEMBER or pdu.state_key == pdu.sender:
        return False
    if pdu.membership not in ("leave", "ban"):
        return False
    return pdu.content.get(FLAG) is True or pdu.content.get(UNSTABLE_FLAG) is True


async def _beginning(live: Live, event: StoredEvent) -> StoredEvent | None:
    """The event with which the user came in; None when they were not in the room."""
    began = None
    before = await _before(live, event)
    for _ in range(_MOST_CHANGES):
        if before is None or before.pdu.membership != "join":
            break
        began = before
        before = await _before(live, before)
    return began


async def _before(live: Live, event: StoredEvent) -> StoredEvent | None:
    """The user's membership before this one."""
    key = event.pdu.key
    if key is None or event.state_before is None:
        return None
    nid = (await live.states.get(event.state_before, (key,))).get(key)
    return None if nid is None else await live.events.by_nid(nid)
