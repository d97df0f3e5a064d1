"""The endpoints by which users say how far they have read."""

import asyncio
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Final

import msgspec

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import EventId, RoomId, parse_event_id
from homeserver import errors
from homeserver.accounts.store import account_data
from homeserver.accounts.store.account_data import AccountData
from homeserver.context import Context
from homeserver.events.stored import StoredEvent
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room
from homeserver.receipts import store
from homeserver.receipts.store import Move, Receipt
from homeserver.receipts.threads import is_in_thread, is_thread_id

ROOM: Final = "/_matrix/client/v3/rooms/{roomId}"
FULLY_READ: Final = "m.fully_read"


class ReceiptType(Enum):
    """What a receipt says, and to whom."""

    READ = "m.read"
    READ_PRIVATE = "m.read.private"
    FULLY_READ = "m.fully_read"


class ReadMarkers(msgspec.Struct):
    """The body of `read_markers`: event IDs."""

    fully_read: str | None = msgspec.field(name="m.fully_read", default=None)
    read: str | None = msgspec.field(name="m.read", default=None)
    read_private: str | None = msgspec.field(name="m.read.private", default=None)


@route(
    "POST",
    f"{ROOM}/receipt/{{receiptType}}/{{eventId}}",
    auth=by_access_token,
    limit=writes,
)
async def post_receipt(ctx: Context, request: ClientRequest) -> Answer:
    """Say how far the user has read. Raises: M_FORBIDDEN, M_INVALID_PARAM, M_NOT_FOUND.

    Spec: client-server-api#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
    """
    room_id = request.path(RoomId, "roomId")
    receipt_type = request.path(ReceiptType, "receiptType")
    event_id = request.path(EventId, "eventId")
    thread_id = _thread_id(request.json_object(empty_ok=True), receipt_type)
    room = await ctx.live.require_joined(room_id, request.user_id)
    event = await _event(ctx, room, event_id)
    if thread_id is not None and not await is_in_thread(
        ctx.live.events, event, thread_id
    ):
        raise errors.invalid_param("thread_id: the event is not in this thread.")
    await _set(ctx, request, room, receipt_type, event, thread_id)
    return {}


def _thread_id(body: JsonObject, receipt_type: ReceiptType) -> str | None:
    if "thread_id" not in body:
        return None
    thread_id = body["thread_id"]
    if not isinstance(thread_id, str) or not thread_id:
        raise errors.invalid_param("thread_id: a string that is not empty is needed.")
    if receipt_type is ReceiptType.FULLY_READ:
        raise errors.invalid_param("thread_id: fully read markers have no threads.")
    if not is_thread_id(thread_id):
        raise errors.invalid_param(
            "thread_id: 'main' or the ID of a thread's root is needed."
        )
    return thread_id


async def _event(ctx: Context, room: Room, event_id: EventId) -> StoredEvent:
    event = await ctx.live.events.by_id(event_id)
    if event is None or event.room_nid != room.nid:
        raise errors.not_found("There is no such event in this room.")
    return event


@route("POST", f"{ROOM}/read_markers", auth=by_access_token, limit=writes)
async def set_read_marker(ctx: Context, request: ClientRequest) -> Answer:
    """Say how far the user has read, in one go. Raises: M_FORBIDDEN, M_NOT_FOUND.

    Spec: client-server-api#post_matrixclientv3roomsroomidread_markers
    """
    room_id = request.path(RoomId, "roomId")
    body = request.body(ReadMarkers)
    given = {
        ReceiptType.FULLY_READ: body.fully_read,
        ReceiptType.READ: body.read,
        ReceiptType.READ_PRIVATE: body.read_private,
    }
    room = await ctx.live.require_joined(room_id, request.user_id)
    moves: list[Coroutine[Any, Any, None]] = []
    events = {
        receipt_type: await _event(ctx, room, _event_id(receipt_type, value))
        for receipt_type, value in given.items()
        if value is not None
    }
    for receipt_type, event in events.items():
        moves.append(_set(ctx, request, room, receipt_type, event, None))
    await asyncio.gather(*moves)
    return {}


def _event_id(receipt_type: ReceiptType, value: str) -> EventId:
    try:
        return parse_event_id(value)
    except Malformed as error:
        raise errors.invalid_param(f"{receipt_type.value}: {error}.") from None


async def _set(
    ctx: Context,
    request: ClientRequest,
    room: Room,
    receipt_type: ReceiptType,
    event: StoredEvent,
    thread_id: str | None,
) -> None:
    user_id = request.user_id
    if receipt_type is ReceiptType.FULLY_READ:
        content: JsonObject = {"event_id": event.event_id}
        item = AccountData(user_id, room.nid, FULLY_READ, content)
        change = Change(Kind.ACCOUNT_DATA, room_nid=room.nid, user_id=user_id)
        await ctx.live.commit(account_data.put, item, change)
        return
    receipt = Receipt(
        room_nid=room.nid,
        user_id=user_id,
        receipt_type=receipt_type.value,
        event_id=event.event_id,
        ts=ctx.clock.ms(),
        thread_id=thread_id,
    )
    await ctx.live.commit(
        store.move,
        Move(receipt, event.position, is_local=True),
        Change(Kind.RECEIPT, room_nid=room.nid, user_id=user_id),
    )
