"""Presence as clients and other servers get it."""

from federation import edu
from federation.canonical_json import JsonObject
from homeserver.presence.reading import Presence
from homeserver.presence.states import STATES


def content_of(presence: Presence) -> JsonObject:
    """The content of `m.presence`. Spec: client-server-api#mpresence."""
    content: JsonObject = {"presence": STATES[presence.rank]}
    if presence.last_active_ago_ms is not None:
        content["last_active_ago"] = max(presence.last_active_ago_ms, 0)
    if presence.rank >= STATES.index("online"):
        content["currently_active"] = presence.currently_active
    if presence.status is not None:
        content["status_msg"] = presence.status
    return content


def update_of(presence: Presence) -> edu.Presence:
    """For other servers. Spec: server-server-api#presence."""
    return edu.Presence(
        user_id=presence.user_id,
        presence=STATES[presence.rank],
        last_active_ago=max(presence.last_active_ago_ms or 0, 0),
        currently_active=presence.currently_active,
        status_msg=presence.status,
    )
