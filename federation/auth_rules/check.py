"""The rules in their order: first about the auth_events, then about a state.

Spec: rooms/v12#authorisation-rules
"""

from collections.abc import Container, Mapping, Sequence

from federation.auth_rules.create import check_create
from federation.auth_rules.member import check_member
from federation.auth_rules.power_levels import check_power_levels
from federation.auth_rules.redactions import check_redaction
from federation.auth_rules.rules import Rule, refuse
from federation.auth_rules.selection import auth_keys
from federation.auth_rules.state import AuthState
from federation.ids import EventId, server_of
from federation.pdu import Pdu, StateKey


def check_auth_events(
    event: Pdu,
    auth_events: Sequence[Pdu],
    rejected: Container[EventId],
    create: Pdu | None,
) -> None:
    """Check the list of auth events that an event names, or raise Rejected.

    `auth_events` are the events of `event.auth_events`, `rejected` knows which events
    were rejected, `create` is the create event that the room ID names (version 12).
    """
    if event.type == "m.room.create":
        return
    version = event.version
    if version.room_id_is_create_hash and (
        create is None or create.event_id in rejected or not _began(create, event)
    ):
        raise refuse(
            version, Rule.ROOM_ID, "the room ID names no create event that we accept"
        )
    keys = [auth_event.key for auth_event in auth_events]
    if _has_duplicates([key for key in keys if key]) or _has_duplicates(
        event.auth_events
    ):
        raise refuse(
            version, Rule.AUTH_DUPLICATE, "two auth events have one type and state_key"
        )
    _check_selected(event, keys)
    if any(auth_event.event_id in rejected for auth_event in auth_events):
        raise refuse(version, Rule.AUTH_REJECTED, "an auth event was rejected")
    if not version.room_id_is_create_hash and ("m.room.create", "") not in keys:
        raise refuse(
            version, Rule.AUTH_NO_CREATE, "no create event among the auth events"
        )
    if any(auth_event.room_id != event.room_id for auth_event in auth_events):
        raise refuse(version, Rule.AUTH_OTHER_ROOM, "an auth event is of another room")


def _has_duplicates(entries: Sequence[object]) -> bool:
    return len(set(entries)) < len(entries)


def _check_selected(event: Pdu, keys: Sequence[StateKey | None]) -> None:
    selected = auth_keys(
        event.version, event.type, event.state_key, event.sender, event.content
    )
    for key in keys:
        if key not in selected:
            kind = "a message" if key is None else key[0][:80]
            raise refuse(
                event.version,
                Rule.AUTH_NOT_SELECTED,
                f"{kind} does not belong among the auth events",
            )


def _began(create: Pdu, event: Pdu) -> bool:
    return create.is_create and event.room_id == "!" + create.event_id[1:]


def check(
    event: Pdu,
    state: Mapping[StateKey, Pdu],
    *,
    create: Pdu | None = None,
    vouched: bool = True,
) -> None:
    """Check an event against a state, or raise Rejected.

    `create` counts where the state has no create event (resolution of version 12
    begins without one). `vouched` says whether the server of the user in
    `join_authorised_via_users_server`, if any, signed the event validly.
    """
    if event.type == "m.room.create":
        check_create(event)
        return
    view = AuthState.of(state, _create_of(event, state, create))
    _check_federate(event, view.create)
    if event.type == "m.room.aliases" and event.version.special_aliases:
        _check_aliases(event)
    elif event.type == "m.room.member":
        check_member(event, view, vouched=vouched)
    else:
        _check_power(event, view)


def _create_of(event: Pdu, state: Mapping[StateKey, Pdu], create: Pdu | None) -> Pdu:
    create = state.get(("m.room.create", ""), create)
    if event.version.room_id_is_create_hash:
        if create is None or not _began(create, event):
            raise refuse(
                event.version, Rule.ROOM_ID, "the room ID names another create event"
            )
    elif create is None:
        raise refuse(
            event.version, Rule.AUTH_NO_CREATE, "the state has no create event"
        )
    return create


def _check_federate(event: Pdu, create: Pdu) -> None:
    if create.content.get("m.federate") is False and (
        server_of(event.sender) != server_of(create.sender)
    ):
        raise refuse(
            event.version, Rule.FEDERATE, "the room is closed to other servers"
        )


def _check_aliases(event: Pdu) -> None:
    if event.state_key is None:
        raise refuse(event.version, Rule.ALIASES_STATE_KEY, "aliases need a state_key")
    if event.state_key != server_of(event.sender):
        raise refuse(event.version, Rule.ALIASES_DOMAIN, "aliases of another server")


def _check_power(event: Pdu, view: AuthState) -> None:
    """The rules for all events but create, aliases and member events."""
    version, levels = event.version, view.levels
    if view.membership(event.sender) != "join":
        raise refuse(version, Rule.SENDER_NOT_JOINED, "the sender is not in the room")
    sender = levels.user(event.sender)
    if event.type == "m.room.third_party_invite":
        if sender < levels.invite:
            raise refuse(
                version,
                Rule.THIRD_PARTY_LEVEL,
                "the sender has too little power to invite",
            )
        return
    if levels.required(event.type, event.state_key is not None) > sender:
        raise refuse(
            version,
            Rule.REQUIRED_LEVEL,
            f"the sender has too little power to send {event.type[:80]}",
        )
    if (
        event.state_key is not None
        and event.state_key.startswith("@")
        and event.state_key != event.sender
    ):
        raise refuse(
            version, Rule.STATE_KEY, "a user's own state may be set by that user only"
        )
    if event.type == "m.room.power_levels":
        check_power_levels(event, levels)
    elif event.type == "m.room.redaction" and version.redaction_in_auth_rules:
        check_redaction(event, levels)
