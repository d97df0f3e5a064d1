"""Bodies of the server-server API about rooms and events, shared by both ends.

One end parses what the other writes: `parse_*` raises Malformed, `json` is the way
back. Events stay raw JSON here, since only who knows the room's version can parse
them. Bodies of queries about users and directories are in `query_bodies`.

Spec: server-server-api#transactions
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from federation import fields
from federation.canonical_json import JsonObject, JsonValue
from federation.edu import Edu, parse_edu
from federation.errors import Malformed
from federation.ids import (
    EventId,
    RoomId,
    ServerName,
    UserId,
    parse_event_id,
    parse_room_id,
    parse_server_name,
    parse_user_id,
)

T = TypeVar("T")

# "Transactions are limited in size; they can have at most 50 PDUs and 100 EDUs."
MAX_PDUS: Final = 50
MAX_EDUS: Final = 100
# "If not provided, the room version is assumed to be either '1' or '2'."
ASSUMED_ROOM_VERSION: Final = "1"
DEFAULT_MISSING_EVENTS: Final = 10
MAX_REQUESTED_IDS: Final = 1000


def _list(values: tuple[JsonObject, ...] | tuple[EventId, ...]) -> list[JsonValue]:
    return list[JsonValue](values)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one server pushes to another in one request.

    Spec: server-server-api#put_matrixfederationv1sendtxnid
    """

    origin: ServerName
    origin_server_ts: int
    pdus: tuple[JsonObject, ...] = ()
    edus: tuple[Edu, ...] = ()

    @property
    def json(self) -> JsonObject:
        """The request's body; also that of answers that hold events."""
        body: JsonObject = {
            "origin": self.origin,
            "origin_server_ts": self.origin_server_ts,
            "pdus": _list(self.pdus),
        }
        if self.edus:
            body["edus"] = [edu.json for edu in self.edus]
        return body


def parse_transaction(body: JsonObject) -> Transaction:
    """Read a transaction. Raises: Malformed, also when it has too many units.

    PDUs and EDUs that are not even objects are left out, so that they spoil no other.
    """
    pdus = fields.array(body, "pdus")
    edus = [] if body.get("edus") is None else fields.array(body, "edus")
    if len(pdus) > MAX_PDUS:
        raise Malformed(f"a transaction has at most {MAX_PDUS} PDUs")
    if len(edus) > MAX_EDUS:
        raise Malformed(f"a transaction has at most {MAX_EDUS} EDUs")
    return Transaction(
        origin=parse_server_name(fields.text(body, "origin")),
        origin_server_ts=fields.integer(body, "origin_server_ts"),
        pdus=tuple(pdu for pdu in pdus if isinstance(pdu, dict)),
        edus=tuple(edu for raw in edus if (edu := _edu_or_none(raw)) is not None),
    )


def _edu_or_none(raw: JsonValue) -> Edu | None:
    try:
        return parse_edu(raw)
    except Malformed:
        return None


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """What became of each PDU: None when it was handled, else what went wrong."""

    pdus: Mapping[str, str | None]

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {
            "pdus": {
                event_id: {} if error is None else {"error": error}
                for event_id, error in self.pdus.items()
            }
        }


def parse_transaction_result(body: JsonObject) -> TransactionResult:
    """Read the answer to a transaction. Raises: Malformed."""
    return TransactionResult(
        {
            event_id: fields.optional_text(
                fields.as_object(result, event_id[:80]), "error"
            )
            for event_id, result in fields.obj(body, "pdus").items()
        }
    )


def parse_pdus(body: JsonObject) -> tuple[JsonObject, ...]:
    """The events of an answer that looks like a transaction, as many as there are.

    Spec: server-server-api#get_matrixfederationv1backfillroomid
    """
    return fields.objects(body, "pdus")


def parse_single_pdu(body: JsonObject) -> JsonObject:
    """The one event of an answer. Raises: Malformed, when it has none or several.

    Spec: server-server-api#get_matrixfederationv1eventeventid
    """
    pdus = fields.objects(body, "pdus")
    if len(pdus) != 1:
        raise Malformed("expected one PDU")
    return pdus[0]


def parse_auth_chain(body: JsonObject) -> tuple[JsonObject, ...]:
    """The events of an event's auth chain.

    Spec: server-server-api#get_matrixfederationv1event_authroomideventid
    """
    return fields.objects(body, "auth_chain")


def parse_events(body: JsonObject) -> tuple[JsonObject, ...]:
    """The events that were missing.

    Spec: server-server-api#post_matrixfederationv1get_missing_eventsroomid
    """
    return fields.objects(body, "events")


@dataclass(frozen=True, slots=True)
class MissingEventsQuery:
    """Which events before `latest_events` a server wants.

    Spec: server-server-api#post_matrixfederationv1get_missing_eventsroomid
    """

    earliest_events: tuple[EventId, ...]
    latest_events: tuple[EventId, ...]
    limit: int = DEFAULT_MISSING_EVENTS
    min_depth: int = 0

    @property
    def json(self) -> JsonObject:
        """The request's body."""
        return {
            "earliest_events": _list(self.earliest_events),
            "latest_events": _list(self.latest_events),
            "limit": self.limit,
            "min_depth": self.min_depth,
        }


def parse_missing_events_query(body: JsonObject) -> MissingEventsQuery:
    """Read a request for missing events. Raises: Malformed."""
    limit = fields.optional_integer(body, "limit")
    query = MissingEventsQuery(
        earliest_events=fields.parsed_texts(body, "earliest_events", parse_event_id),
        latest_events=fields.parsed_texts(body, "latest_events", parse_event_id),
        limit=DEFAULT_MISSING_EVENTS if limit is None else limit,
        min_depth=fields.optional_integer(body, "min_depth") or 0,
    )
    if query.limit < 0:
        raise Malformed("limit must not be negative")
    if len(query.earliest_events) + len(query.latest_events) > MAX_REQUESTED_IDS:
        raise Malformed(f"more than {MAX_REQUESTED_IDS} events are named")
    return query


@dataclass(frozen=True, slots=True)
class RoomState:
    """The state before an event, with the auth chains of its events.

    Spec: server-server-api#get_matrixfederationv1stateroomid
    """

    pdus: tuple[JsonObject, ...]
    auth_chain: tuple[JsonObject, ...]

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {"pdus": _list(self.pdus), "auth_chain": _list(self.auth_chain)}


def parse_room_state(body: JsonObject) -> RoomState:
    """Read an answer with state events. Raises: Malformed."""
    return RoomState(fields.objects(body, "pdus"), fields.objects(body, "auth_chain"))


@dataclass(frozen=True, slots=True)
class RoomStateIds:
    """The same as RoomState, as event IDs.

    Spec: server-server-api#get_matrixfederationv1state_idsroomid
    """

    pdu_ids: tuple[EventId, ...]
    auth_chain_ids: tuple[EventId, ...]

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {
            "pdu_ids": _list(self.pdu_ids),
            "auth_chain_ids": _list(self.auth_chain_ids),
        }


def parse_room_state_ids(body: JsonObject) -> RoomStateIds:
    """Read an answer with the IDs of state events. Raises: Malformed."""
    return RoomStateIds(
        fields.parsed_texts(body, "pdu_ids", parse_event_id),
        fields.parsed_texts(body, "auth_chain_ids", parse_event_id),
    )


@dataclass(frozen=True, slots=True)
class EventAtTime:
    """The event closest to a time.

    Spec: server-server-api#get_matrixfederationv1timestamp_to_eventroomid
    """

    event_id: EventId
    origin_server_ts: int

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {"event_id": self.event_id, "origin_server_ts": self.origin_server_ts}


def parse_event_at_time(body: JsonObject) -> EventAtTime:
    """Read an answer with the closest event. Raises: Malformed."""
    return EventAtTime(
        parse_event_id(fields.text(body, "event_id")),
        fields.integer(body, "origin_server_ts"),
    )


@dataclass(frozen=True, slots=True)
class EventTemplate:
    """An unsigned membership event to complete, from make_join and its siblings.

    Spec: server-server-api#get_matrixfederationv1make_joinroomiduserid
    """

    room_version: str
    event: JsonObject

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        return {"room_version": self.room_version, "event": self.event}


def parse_event_template(
    body: JsonObject, room_id: RoomId, user_id: UserId, membership: str
) -> EventTemplate:
    """Read a template and make the checks that must come before it is signed.

    "In case any of the above checks fail, the response MUST be treated as malformed
    and discarded."
    """
    event = fields.obj(body, "event")
    expected = {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": user_id,
        "state_key": user_id,
    }
    for name, value in expected.items():
        if event.get(name) != value:
            raise Malformed(f"the template's {name} is not {value}")
    if fields.obj(event, "content").get("membership") != membership:
        raise Malformed(f"the template's membership is not {membership}")
    version = fields.optional_text(body, "room_version")
    return EventTemplate(ASSUMED_ROOM_VERSION if version is None else version, event)


@dataclass(frozen=True, slots=True)
class JoinedRoom:
    """The room as send_join hands it over: the state before the join.

    `event` is our join as the resident server signed it, where it had to.

    Spec: server-server-api#put_matrixfederationv2send_joinroomideventid
    """

    state: tuple[JsonObject, ...]
    auth_chain: tuple[JsonObject, ...]
    event: JsonObject | None = None
    members_omitted: bool = False
    servers_in_room: tuple[ServerName, ...] = ()

    @property
    def json(self) -> JsonObject:
        """The answer's body."""
        body: dict[str, JsonValue] = {
            "state": _list(self.state),
            "auth_chain": _list(self.auth_chain),
            "event": self.event,
        }
        if self.members_omitted:
            body["members_omitted"] = True
            body["servers_in_room"] = list[JsonValue](self.servers_in_room)
        return fields.without_none(body)


def parse_joined_room(body: JsonObject) -> JoinedRoom:
    """Read the answer to a join. Raises: Malformed.

    `servers_in_room` is "**Required** if `members_omitted` is true".
    """
    members_omitted = fields.optional_boolean(body, "members_omitted")
    return JoinedRoom(
        state=fields.objects(body, "state"),
        auth_chain=fields.objects(body, "auth_chain"),
        event=fields.optional_object(body, "event"),
        members_omitted=members_omitted,
        servers_in_room=(
            fields.parsed_texts(body, "servers_in_room", parse_server_name)
            if members_omitted or body.get("servers_in_room") is not None
            else ()
        ),
    )


def parse_knock_room_state(body: JsonObject) -> tuple[JsonObject, ...]:
    """The events that describe the room to who knocked. Raises: Malformed.

    Spec: server-server-api#put_matrixfederationv1send_knockroomideventid
    """
    return fields.objects(body, "knock_room_state")


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite for a user of the receiving server, which is to sign it.

    Spec: server-server-api#put_matrixfederationv2inviteroomideventid
    """

    room_version: str
    event: JsonObject
    invite_room_state: tuple[JsonObject, ...] = ()

    @property
    def json(self) -> JsonObject:
        """The request's body."""
        return {
            "room_version": self.room_version,
            "event": self.event,
            "invite_room_state": _list(self.invite_room_state),
        }

    @property
    def v1_json(self) -> JsonObject:
        """The request's body for version 1 of the endpoint.

        Spec: server-server-api#put_matrixfederationv1inviteroomideventid
        """
        unsigned = fields.optional_object(self.event, "unsigned") or {}
        state = _list(self.invite_room_state)
        return {**self.event, "unsigned": {**unsigned, "invite_room_state": state}}


def parse_invite(body: JsonObject) -> Invite:
    """Read an invite. Raises: Malformed."""
    return Invite(
        room_version=fields.text(body, "room_version"),
        event=fields.obj(body, "event"),
        invite_room_state=fields.optional_objects(body, "invite_room_state"),
    )


def parse_v1_invite(event: JsonObject) -> Invite:
    """Read an invite of version 1 of the endpoint. Raises: Malformed.

    "Servers which receive a v1 invite request must assume that the room version is
    either '1' or '2'."
    """
    unsigned = fields.optional_object(event, "unsigned") or {}
    return Invite(
        room_version=ASSUMED_ROOM_VERSION,
        event=event,
        invite_room_state=fields.optional_objects(unsigned, "invite_room_state"),
    )


def parse_signed_event(body: JsonObject) -> JsonObject:
    """The event in the answer to an invite. Raises: Malformed."""
    return fields.obj(body, "event")


def parse_signatures(body: JsonObject) -> JsonObject:
    """Signatures by server and key ID. Raises: Malformed.

    Spec: server-server-api#post_matrixpolicyv1sign
    """
    for server in body:
        for key_id, signature in fields.obj(body, server).items():
            fields.as_text(signature, key_id)
    return body


def parse_v1_answer(body: JsonValue) -> JsonObject:
    """What a version 1 endpoint means by `[200, {…}]`. Raises: Malformed."""
    if not isinstance(body, list) or len(body) != 2 or body[0] != 200:
        raise Malformed("expected a list of 200 and an object")
    return fields.as_object(body[1], "the answer")


@dataclass(frozen=True, slots=True)
class ThirdPartyInviteExchange:
    """An invite for a third-party identifier that a user has now bound.

    Spec: server-server-api#put_matrixfederationv1exchange_third_party_inviteroomid
    """

    room_id: RoomId
    sender: UserId
    state_key: UserId
    content: JsonObject

    @property
    def json(self) -> JsonObject:
        """The request's body: a partial `m.room.member` event."""
        return {
            "type": "m.room.member",
            "room_id": self.room_id,
            "sender": self.sender,
            "state_key": self.state_key,
            "content": self.content,
        }


def parse_third_party_invite_exchange(body: JsonObject) -> ThirdPartyInviteExchange:
    """Read a partial `m.room.member` event. Raises: Malformed."""
    if body.get("type") != "m.room.member":
        raise Malformed("type must be m.room.member")
    content = fields.obj(body, "content")
    if content.get("membership") != "invite":
        raise Malformed("membership must be invite")
    third_party_invite = fields.obj(content, "third_party_invite")
    # COMPAT(Synapse 1.163): it sends no `display_name`. The room's invite has it.
    if "display_name" in third_party_invite:
        fields.text(third_party_invite, "display_name")
    signed = fields.obj(third_party_invite, "signed")
    state_key = _parsed(body, "state_key", parse_user_id)
    if _parsed(signed, "mxid", parse_user_id) != state_key:
        raise Malformed("signed.mxid is not the invited user")
    fields.text(signed, "token")
    fields.obj(signed, "signatures")
    return ThirdPartyInviteExchange(
        room_id=_parsed(body, "room_id", parse_room_id),
        sender=_parsed(body, "sender", parse_user_id),
        state_key=state_key,
        content=content,
    )


def _parsed(body: JsonObject, name: str, parse: Callable[[str], T]) -> T:
    return parse(fields.text(body, name))
