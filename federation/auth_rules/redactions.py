"""Who may redact what: in versions 1 and 2 an authorization rule, later no longer.

Spec: rooms/v1#authorisation-rules, rooms/v3#handling-redactions
"""

from collections.abc import Mapping

from federation.auth_rules.power_levels import PowerLevels
from federation.auth_rules.rules import Rule, refuse
from federation.ids import server_of
from federation.pdu import Pdu, StateKey


def check_redaction(event: Pdu, levels: PowerLevels) -> None:
    """Allow a redaction in versions 1 and 2, or raise Rejected."""
    if levels.user(event.sender) >= levels.redact:
        return
    if event.redacts is None or not _same_domain(event.redacts, event.event_id):
        raise refuse(
            event.version,
            Rule.REDACTION,
            "the sender has too little power to redact other servers' events",
        )


def _same_domain(one_id: str, other_id: str) -> bool:
    """Whether two event IDs of the old form name the same server."""
    return one_id.partition(":")[2] == other_id.partition(":")[2]


def may_redact(
    redaction: Pdu,
    target: Pdu,
    state: Mapping[StateKey, Pdu],
    *,
    create: Pdu | None = None,
) -> bool:
    """Whether an allowed redaction is to be applied to the event that it names.

    `state` is the room state before the redaction. From version 3 on, the redaction
    itself is allowed like any other event, and this decides what it does.
    """
    if redaction.redacts != target.event_id or redaction.room_id != target.room_id:
        return False
    version = redaction.version
    levels = PowerLevels.of(state, version, create)
    if levels.user(redaction.sender) >= levels.redact:
        return True
    if version.redaction_in_auth_rules:
        return _same_domain(target.event_id, redaction.event_id)
    return server_of(redaction.sender) == server_of(target.sender)
