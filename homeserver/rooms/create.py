"""Making rooms: all events of a new room in one step.

Spec: client-server-api#creation
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from federation import signatures
from federation.canonical_json import JsonObject
from federation.ids import EventId, RoomId, UserId
from federation.room_versions import RoomVersion
from homeserver.context import Context
from homeserver.events.stored import StoredEvent
from homeserver.live.room import Room
from homeserver.live.steps import Step
from homeserver.rooms.build import Builder, NewEvent

OnReady = Callable[[Room], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NewRoom:
    """A room about to be made: its version, creator and events, in order.

    `create_content` is the content of the create event; `events` come after it, the
    creator's join first.
    """

    version: RoomVersion
    creator: UserId
    create_content: JsonObject
    events: Sequence[NewEvent]


async def make_room(
    ctx: Context,
    new: NewRoom,
    on_ready: OnReady | None = None,
) -> tuple[Room, list[StoredEvent]]:
    """Make a room with all its first events, durable and in the view.

    `on_ready` is called when all events are allowed and none is written: the moment
    for what the room needs beside them. When it raises there will be no room.

    Raises: Rejected when the rules refuse one of them, TooLarge.
    """
    now = ctx.clock.ms()
    made = None
    while made is None:
        room = await insert_room(ctx, _room_id(ctx, new, now), new.version)
        made = await _fill(ctx, room, new, now, on_ready)
        now += 1  # next time: the same room was made in the same millisecond
    step, stored = made
    await step.future
    return step.room, stored


async def _fill(
    ctx: Context, room: Room, new: NewRoom, now_ms: int, on_ready: OnReady | None
) -> tuple[Step, list[StoredEvent]] | None:
    """Hand the room's events to the committer; None when it has events already."""
    async with ctx.live.writers.hold(room) as writer:
        if writer.head.extremities:
            return None
        builder = Builder(ctx.live, ctx.key, writer, now_ms)
        stored = await _build(builder, new)
        if on_ready is not None:
            await on_ready(room)
        return builder.submit(), stored


async def _build(builder: Builder, new: NewRoom) -> list[StoredEvent]:
    create = NewEvent(
        type="m.room.create",
        sender=new.creator,
        content=new.create_content,
        state_key="",
    )
    return [await builder.add(event) for event in (create, *new.events)]


def _room_id(ctx: Context, new: NewRoom, now_ms: int) -> RoomId:
    """A random ID, or since version 12 the hash of the create event.

    The create event is built again by the builder, with the same outcome.
    """
    if not new.version.room_id_is_create_hash:
        return RoomId(f"!{secrets.token_urlsafe(14)}:{ctx.server_name}")
    raw: JsonObject = {
        "type": "m.room.create",
        "sender": new.creator,
        "content": new.create_content,
        "depth": 1,
        "origin_server_ts": now_ms,
        "prev_events": [],
        "auth_events": [],
        "state_key": "",
    }
    signed = signatures.hash_and_sign_event(raw, new.version, ctx.server_name, ctx.key)
    event_id: EventId = signatures.event_id_of(signed, new.version)
    return RoomId("!" + event_id[1:])


async def insert_room(ctx: Context, room_id: RoomId, version: RoomVersion) -> Room:
    """The room of that ID, with a row made now when there is none yet."""
    await ctx.live.room_numbers.reserve(1)
    nid = ctx.live.room_numbers.next()
    async with ctx.db.preparation() as tx:
        await tx.execute(
            """
            INSERT INTO rooms (room_nid, room_id, version) VALUES ($1, $2, $3)
            ON CONFLICT (room_id) DO NOTHING
            """,
            nid,
            room_id,
            version.identifier,
        )
    room = await ctx.live.room(room_id)
    assert room is not None  # noqa: S101 - its row is committed
    return room
