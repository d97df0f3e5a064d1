"""Calls to other servers about events and transactions, one per operationId.

All calls raise NotReachable, RemoteError or BadResponse (`wire.errors`). Events come
back as raw JSON, unchecked: whose they are and whether they hold is for later. More
calls are in `calls_rooms` (membership handshakes), `calls_queries` and `keys`.

Spec: server-server-api#api-standards
"""

from collections.abc import Sequence
from typing import Final, Literal

from federation import bodies
from federation.bodies import (
    EventAtTime,
    MissingEventsQuery,
    RoomState,
    RoomStateIds,
    Transaction,
    TransactionResult,
)
from federation.canonical_json import JsonObject
from federation.ids import EventId, RoomId, ServerName
from federation.wire.client import DEFAULT_LIMITS, Limits, WireClient, path_of
from federation.wire.reading import ROOM_LIMITS, V1, read

# The other end works on a transaction before it answers, PDU by PDU.
TRANSACTION_LIMITS: Final = Limits(seconds=60.0)
# A hundred events of 64 KiB and what surrounds them.
BACKFILL_LIMITS: Final = Limits(seconds=60.0, max_bytes=50 * 2**20)


async def send_transaction(
    client: WireClient,
    destination: ServerName,
    txn_id: str,
    transaction: Transaction,
    limits: Limits = TRANSACTION_LIMITS,
) -> TransactionResult:
    """Push PDUs and EDUs. The same `txn_id` again is the same transaction.

    Spec: server-server-api#put_matrixfederationv1sendtxnid
    """
    answer = await client.request(
        destination,
        "PUT",
        path_of(f"{V1}/send", txn_id),
        body=transaction.json,
        limits=limits,
    )
    return read(destination, answer, bodies.parse_transaction_result)


async def backfill_room(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_ids: Sequence[EventId],
    limit: int,
    limits: Limits = BACKFILL_LIMITS,
) -> tuple[JsonObject, ...]:
    """Events before these, and these, `limit` at most; the answer is not cut to it.

    Spec: server-server-api#get_matrixfederationv1backfillroomid
    """
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/backfill", room_id),
        query=[*(("v", event_id) for event_id in event_ids), ("limit", str(limit))],
        limits=limits,
    )
    return read(destination, answer, bodies.parse_pdus)


async def get_missing_previous_events(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    query: MissingEventsQuery,
    limits: Limits = BACKFILL_LIMITS,
) -> tuple[JsonObject, ...]:
    """Events between those that we have and those that we got.

    Spec: server-server-api#post_matrixfederationv1get_missing_eventsroomid
    """
    answer = await client.request(
        destination,
        "POST",
        path_of(f"{V1}/get_missing_events", room_id),
        body=query.json,
        limits=limits,
    )
    return read(destination, answer, bodies.parse_events)


async def get_event(
    client: WireClient,
    destination: ServerName,
    event_id: EventId,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonObject:
    """One event; whether it is the right one shows when its ID is computed.

    Spec: server-server-api#get_matrixfederationv1eventeventid
    """
    answer = await client.request(
        destination, "GET", path_of(f"{V1}/event", event_id), limits=limits
    )
    return read(destination, answer, bodies.parse_single_pdu)


async def get_room_state(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    limits: Limits = ROOM_LIMITS,
) -> RoomState:
    """The state before an event, and its auth chains.

    Spec: server-server-api#get_matrixfederationv1stateroomid
    """
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/state", room_id),
        query=[("event_id", event_id)],
        limits=limits,
    )
    return read(destination, answer, bodies.parse_room_state)


async def get_room_state_ids(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    limits: Limits = ROOM_LIMITS,
) -> RoomStateIds:
    """The IDs of the state before an event, and of its auth chains.

    Spec: server-server-api#get_matrixfederationv1state_idsroomid
    """
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/state_ids", room_id),
        query=[("event_id", event_id)],
        limits=limits,
    )
    return read(destination, answer, bodies.parse_room_state_ids)


async def get_event_auth(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    limits: Limits = ROOM_LIMITS,
) -> tuple[JsonObject, ...]:
    """The auth chain of an event.

    Spec: server-server-api#get_matrixfederationv1event_authroomideventid
    """
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/event_auth", room_id, event_id),
        limits=limits,
    )
    return read(destination, answer, bodies.parse_auth_chain)


async def get_event_by_timestamp(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    ts: int,
    direction: Literal["f", "b"],
    limits: Limits = DEFAULT_LIMITS,
) -> EventAtTime:
    """The event closest to a time, in one direction from it.

    Spec: server-server-api#get_matrixfederationv1timestamp_to_eventroomid
    """
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/timestamp_to_event", room_id),
        query=[("ts", str(ts)), ("dir", direction)],
        limits=limits,
    )
    return read(destination, answer, bodies.parse_event_at_time)


async def ask_policy_server_to_sign(
    client: WireClient,
    destination: ServerName,
    event: JsonObject,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonObject:
    """The signatures that a policy server gives an event, by server and key ID.

    Spec: server-server-api#post_matrixpolicyv1sign
    """
    answer = await client.request(
        destination, "POST", "/_matrix/policy/v1/sign", body=event, limits=limits
    )
    return read(destination, answer, bodies.parse_signatures)
