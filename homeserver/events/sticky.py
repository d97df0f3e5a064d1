"""Sticky events: message events that everybody gets for a while. MSC4354.

They are ordinary events with a duration beside their content. While that lasts, sync
shows them also outside of the timeline, history visibility or not, and servers that
join are sent them.
"""

from typing import Final

from federation.pdu import Pdu

# The name while the proposal is not in the specification.
STICKY: Final = "msc4354_sticky"
MAX_STICKY_MS: Final = 3_600_000

_MARK: Final = f'"{STICKY}"'.encode()


def sticky_ms(pdu: Pdu) -> int | None:
    """How long the event is to be sticky; None: it is an ordinary event."""
    # Its text is at hand, its JSON perhaps not: nearly no event has the key.
    if _MARK not in pdu.text:
        return None
    sticky = pdu.json.get(STICKY)
    duration = sticky.get("duration_ms") if isinstance(sticky, dict) else None
    if not isinstance(duration, int) or isinstance(duration, bool):
        return None
    return duration if 0 <= duration <= MAX_STICKY_MS else None


def left_ms(pdu: Pdu, now_ms: int) -> int | None:
    """How much longer the event is sticky, for those who got it when it was sent."""
    duration = sticky_ms(pdu)
    if duration is None:
        return None
    left = min(pdu.origin_server_ts, now_ms) + duration - now_ms
    return left if left > 0 else None
