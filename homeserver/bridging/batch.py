"""One transaction for a service: what it is told of a window.

Spec: application-service-api#pushing-events
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import RoomId, UserId
from homeserver.bridging import encryption, window
from homeserver.bridging.interest import Interest
from homeserver.bridging.window import Happened, Message, Window, read_window
from homeserver.context import Context
from homeserver.events.client_format import Sight, Viewer, render_bytes, shared_object
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Kind
from homeserver.live.room import Room
from homeserver.presence.content import content_of
from homeserver.presence.reading import Presence, presences
from homeserver.receipts.content import contents_of
from homeserver.receipts.store import READ_PRIVATE, Receipt
from homeserver.rooms.viewing import replaced_by
from homeserver.typing.store import typing_in

MAX_EVENTS: Final = 100
_MAX_BYTES: Final = 4 * 1024 * 1024
_OLD_EPHEMERAL: Final = "de.sorunome.msc2409."


@dataclass(slots=True)
class Batch:
    """What a service is told at once; everything up to `upto` is in it."""

    upto: int
    events: list[bytes] = field(default_factory=list)
    ephemeral: list[JsonObject] = field(default_factory=list)
    to_device: list[JsonObject] = field(default_factory=list)
    more: JsonObject = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.events or self.ephemeral or self.to_device or self.more)

    def body(self, *, with_old_names: bool) -> bytes:
        """The transaction as JSON.

        COMPAT(bridges of the time before v1.13): they know the names of the proposals.
        """
        told: dict[str, Any] = {
            "events": [orjson.Fragment(event) for event in self.events]
        }
        if self.ephemeral:
            told["ephemeral"] = self.ephemeral
            if with_old_names:
                told[f"{_OLD_EPHEMERAL}ephemeral"] = self.ephemeral
        if self.to_device:
            told["to_device"] = self.to_device
            told[f"{_OLD_EPHEMERAL}to_device"] = self.to_device
        return orjson.dumps({**told, **self.more})


class Writer:
    """Makes one service's transactions."""

    def __init__(self, ctx: Context, interest: Interest) -> None:
        self._ctx = ctx
        self._interest = interest
        self._service = interest.service

    async def next(self, after: int, upto: int) -> Batch:
        """What comes after a position, as much as goes into one transaction."""
        part = await read_window(self._ctx.db, after, upto)
        messages: list[Message] = []
        if self._service.wants_ephemeral and (part.is_old or part.of(Kind.TO_DEVICE)):
            messages = await self._messages(part)
        events = await self._events(part)
        batch = Batch(part.upto, events)
        batch.to_device = [m.as_json() for m in messages if m.position <= part.upto]
        if self._service.wants_ephemeral and not part.is_old:
            batch.ephemeral += await self._typing(part.rooms(Kind.TYPING))
            batch.ephemeral += await self._receipts(part)
            batch.ephemeral += await self._presence(part.users(Kind.PRESENCE))
        if self._service.registration.with_encryption:
            batch.more = await encryption.sections(
                self._ctx, self._interest, part, messages
            )
        return batch

    # ── Events ───────────────────────────────────────────────────────────────────

    async def _events(self, part: Window) -> list[bytes]:
        """The events that interest the service; ends the window when they are many."""
        live = self._ctx.live
        rows = part.of(Kind.EVENT, Kind.MEMBERSHIP)
        events = await live.events.by_nids(r.ref for r in rows if r.ref is not None)
        rooms = await live.rooms({r.room_nid for r in rows if r.room_nid is not None})
        aliased = await self._interest.aliased(rooms.values())
        told: list[bytes] = []
        size = 0
        for row in rows:
            event, room = events.get(row.ref or 0), rooms.get(row.room_nid or 0)
            if event is None or room is None:
                continue
            if row.kind == Kind.MEMBERSHIP:
                json = await self._aside(row, event)
            elif event.position is not None and await self._interest.wants(
                event, room, aliased
            ):
                json = await self._shown(event)
            else:
                continue
            if json is None:
                continue
            told.append(json)
            size += len(json)
            if len(told) >= MAX_EVENTS or size > _MAX_BYTES:
                part.cut(row.position)
                break
        return told

    async def _shown(self, event: StoredEvent) -> bytes:
        replaced = await replaced_by(self._ctx.live, event)
        viewer = Viewer(self._service.sender)
        return render_bytes(
            Sight(event, replaced=replaced),
            viewer,
            self._ctx.clock.ms(),
            with_room_id=True,
        )

    async def _aside(self, row: Happened, event: StoredEvent) -> bytes | None:
        """A membership in a room that nobody of ours is in, such as an invite."""
        user_id = UserId(row.user_id or event.pdu.state_key or "")
        if not self._service.is_user(user_id) or row.room_nid is None:
            return None
        invited = (row.room_nid, user_id)
        async with self._ctx.db.read() as tx:
            state = await window.invite_state(tx, (invited,))
        shown = shared_object(event.shown)
        unsigned: JsonObject = {
            "age": self._ctx.clock.ms() - event.pdu.origin_server_ts
        }
        if invited in state:
            unsigned["invite_room_state"] = orjson.loads(state[invited])
        return orjson.dumps(
            {**shown, "room_id": event.pdu.room_id, "unsigned": unsigned}
        )

    # ── What is fleeting ─────────────────────────────────────────────────────────

    async def _interesting(self, nids: Sequence[int]) -> Mapping[int, Room]:
        """Those of the rooms that interest the service now."""
        if not nids:
            return {}
        rooms = await self._ctx.live.rooms(nids)
        wanted = await self._interest.rooms(rooms)
        return {nid: room for nid, room in rooms.items() if nid in wanted}

    async def _typing(self, nids: Sequence[int]) -> list[JsonObject]:
        rooms = await self._interesting(nids)
        if not rooms:
            return []
        async with self._ctx.db.read() as tx:
            found = await typing_in(tx, list(rooms))
        return [
            _in_room("m.typing", rooms[nid].room_id, {"user_ids": list(users)})
            for nid, users in found.items()
        ]

    async def _receipts(self, part: Window) -> list[JsonObject]:
        rooms = await self._interesting(part.rooms(Kind.RECEIPT))
        if not rooms:
            return []
        async with self._ctx.db.read() as tx:
            found = await window.receipts_in(tx, list(rooms), part.after, part.upto)
        by_room: defaultdict[int, list[Receipt]] = defaultdict(list)
        for each in found:
            if each.receipt_type != READ_PRIVATE or self._service.is_user(each.user_id):
                by_room[each.room_nid].append(each)
        return [
            _in_room("m.receipt", rooms[nid].room_id, content)
            for nid, receipts in by_room.items()
            for content in contents_of(receipts)
        ]

    async def _presence(self, users: Sequence[UserId]) -> list[JsonObject]:
        if not users:
            return []
        async with self._ctx.db.read() as tx:
            rooms_of = await window.sharing(tx, users)
        nids = {nid for rooms in rooms_of.values() for nid in rooms}
        wanted = (await self._interesting(list(nids))).keys()
        shown = [
            user_id
            for user_id in users
            if self._service.is_user(user_id)
            or any(nid in wanted for nid in rooms_of.get(user_id, ()))
        ]
        async with self._ctx.db.read() as tx:
            found = {each.user_id: each for each in await presences(tx, shown)}
        return [
            {
                "type": "m.presence",
                "sender": user_id,
                "content": content_of(found.get(user_id) or _offline(user_id)),
            }
            for user_id in shown
        ]

    # ── Messages to devices ──────────────────────────────────────────────────────

    async def _messages(self, part: Window) -> list[Message]:
        """Messages to devices of the service's users; ends the window early if many."""
        async with self._ctx.db.read() as tx:
            users = await window.addressees(tx, part.after, part.upto)
            ours = [user_id for user_id in users if self._service.is_user(user_id)]
            if not ours:
                return []
            messages, upto = await window.messages_to(tx, ours, part.after, part.upto)
        if upto < part.upto:
            part.cut(upto)
        return messages


def _offline(user_id: UserId) -> Presence:
    return Presence(
        user_id, 0, last_active_ago_ms=None, currently_active=False, status=None
    )


def _in_room(kind: str, room_id: RoomId, content: JsonObject) -> JsonObject:
    return {"type": kind, "room_id": room_id, "content": content}
