"""Replacing a room: the new room is made, then the old one is closed.

Nobody learns of the new room before the tombstone, so until then it may be incomplete.
Its power levels come last: before them its creator may do all that has to be done.

Spec: client-server-api#room-upgrades
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from federation import auth_rules
from federation.canonical_json import JsonObject
from federation.errors import Rejected
from federation.ids import RoomId, UserId, server_of
from federation.pdu import Pdu, StateKey
from federation.room_versions import RoomVersion
from homeserver import errors
from homeserver.context import Context
from homeserver.live.room import Room
from homeserver.rooms import presets
from homeserver.rooms.aliases import is_published, move_aliases, publish, unpublish
from homeserver.rooms.build import Builder, NewEvent
from homeserver.rooms.create import NewRoom, make_room
from homeserver.rooms.profiles import read_name
from homeserver.rooms.restricted import CREATE, JOIN_RULES, POWER_LEVELS, state_pdus
from homeserver.rooms.send import send_event
from homeserver.upgrades import carried, settings

MEMBER: Final = "m.room.member"
_CANONICAL_ALIAS: Final = ("m.room.canonical_alias", "")
_EVENTS_AT_ONCE: Final = 100
_BODY: Final = "This room has been replaced"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Who replaces a room, by one of which version and with which other creators."""

    user_id: UserId
    room_id: RoomId
    version: RoomVersion
    additional_creators: tuple[UserId, ...] = ()


async def upgrade(ctx: Context, wanted: Upgrade) -> RoomId:
    """Replace a room; the ID of the new one.

    Raises: M_FORBIDDEN for who is not in the room or may not close it.
    """
    async with ctx.turns.take(("upgrade", wanted.room_id)):
        old = await ctx.live.require_joined(wanted.room_id, wanted.user_id)
        await _check_may_close(ctx, old, wanted.user_id)
        state = await _carried_state(ctx, old)
        new = await _make(ctx, old, state, wanted)
        tombstone: JsonObject = {"body": _BODY, "replacement_room": new.room_id}
        await send_event(
            ctx, old, NewEvent(presets.TOMBSTONE, wanted.user_id, tombstone, "")
        )
        await _move_names(ctx, old, new)
        await _close(ctx, old, wanted.user_id)
    await settings.follow(ctx, wanted.user_id, new)
    return new.room_id


async def _check_may_close(ctx: Context, room: Room, user_id: UserId) -> None:
    levels = auth_rules.PowerLevels.of(
        await state_pdus(ctx.live, room, POWER_LEVELS, CREATE), room.version
    )
    if levels.user(user_id) < levels.required(presets.TOMBSTONE, is_state=True):
        raise errors.forbidden("You have too little power to replace this room.")


async def _carried_state(ctx: Context, room: Room) -> dict[StateKey, Pdu]:
    keys = [(kind, "") for kind in carried.CARRIED]
    return await state_pdus(
        ctx.live,
        room,
        *(CREATE, POWER_LEVELS, JOIN_RULES, _CANONICAL_ALIAS),
        *keys,
        *carried.named(room.state),
    )


# ── The new room ─────────────────────────────────────────────────────────────────────


async def _make(
    ctx: Context, old: Room, state: Mapping[StateKey, Pdu], wanted: Upgrade
) -> Room:
    create = state.get(CREATE)
    if create is None:
        raise errors.forbidden("The state of this room is not known.")
    last = await ctx.live.events.by_nids(old.head.extremities)
    last_id = next((event.event_id for event in last.values()), None)
    creators = (wanted.user_id, *wanted.additional_creators)
    if create.content.get("m.federate") is False:
        _check_are_ours(ctx, wanted.additional_creators)
    async with ctx.db.read() as tx:
        names = await read_name(tx, wanted.user_id)
    version = wanted.version
    content = presets.create_content(
        version,
        wanted.user_id,
        carried.create_content(create, version, last_id),
        wanted.additional_creators,
    )
    join = NewEvent(
        MEMBER, wanted.user_id, {"membership": "join", **names}, wanted.user_id
    )
    try:
        new, _ = await make_room(
            ctx,
            NewRoom(
                version=version,
                creator=wanted.user_id,
                create_content=content,
                events=[join, *_state_events(ctx, state, wanted)],
            ),
        )
    except Rejected as error:
        raise errors.invalid_room_state(
            f"This room cannot be replaced so: {error}."
        ) from None
    await _add(ctx, new, await _bans(ctx, old, wanted.user_id))
    levels = carried.power_levels(state, old.version, version, creators)
    await _add(ctx, new, [NewEvent(POWER_LEVELS[0], wanted.user_id, levels, "")])
    return new


def _check_are_ours(ctx: Context, creators: Sequence[UserId]) -> None:
    if any(server_of(user_id) != ctx.server_name for user_id in creators):
        raise errors.forbidden(
            "A room that is closed to other servers cannot have creators of them."
        )


def _state_events(
    ctx: Context, state: Mapping[StateKey, Pdu], wanted: Upgrade
) -> Iterator[NewEvent]:
    for key, pdu in state.items():
        kind, state_key = key
        content = pdu.content
        if key in (CREATE, POWER_LEVELS) or not content:
            continue
        if key == JOIN_RULES:
            content = carried.join_rules(content, wanted.version)
        if key == _CANONICAL_ALIAS:
            content, _ = carried.canonical_alias(content, ctx.server_name)
        yield NewEvent(kind, wanted.user_id, content, state_key)


async def _bans(ctx: Context, old: Room, sender: UserId) -> list[NewEvent]:
    """The bans of the old room, with their reasons, as events of the new one."""
    async with ctx.db.read() as tx:
        rows = await tx.fetch(
            """
            SELECT user_id, event_nid FROM memberships
             WHERE room_nid = $1 AND membership = 'ban' ORDER BY user_id
            """,
            old.nid,
        )
    events = []
    for start in range(0, len(rows), _EVENTS_AT_ONCE):
        batch = rows[start : start + _EVENTS_AT_ONCE]
        found = await ctx.live.events.by_nids(row["event_nid"] for row in batch)
        for user_id, nid in batch:
            content: JsonObject = {"membership": "ban"}
            reason = found[nid].shown.content.get("reason") if nid in found else None
            if isinstance(reason, str):
                content = {**content, "reason": reason}
            if user_id != sender:
                events.append(NewEvent(MEMBER, sender, content, user_id))
    return events


async def _add(ctx: Context, room: Room, events: Sequence[NewEvent]) -> None:
    """Put events into a room that nobody else knows of yet."""
    for start in range(0, len(events), _EVENTS_AT_ONCE):
        batch = events[start : start + _EVENTS_AT_ONCE]
        await ctx.live.states.keys.intern(
            (each.type, each.state_key or "") for each in batch
        )
        async with ctx.live.writers.hold(room) as writer:
            builder = Builder(ctx.live, ctx.key, writer, ctx.clock.ms())
            for each in batch:
                await builder.add(each)
            step = builder.submit()
        await step.future


# ── The old room ─────────────────────────────────────────────────────────────────────


async def _move_names(ctx: Context, old: Room, new: Room) -> None:
    """Have our aliases and the directory lead to the new room."""
    async with ctx.db.transaction() as tx:
        await move_aliases(tx, old.room_id, new.room_id)
        if await is_published(tx, old.nid):
            await publish(tx, new.nid)
            await unpublish(tx, old.nid)


async def _close(ctx: Context, room: Room, user_id: UserId) -> None:
    """Take the names off the old room and have few speak there, as far as allowed."""
    state = await state_pdus(ctx.live, room, _CANONICAL_ALIAS, POWER_LEVELS)
    changed: dict[StateKey, JsonObject] = {}
    if (alias := state.get(_CANONICAL_ALIAS)) is not None:
        _, changed[_CANONICAL_ALIAS] = carried.canonical_alias(
            alias.content, ctx.server_name
        )
    if (levels := state.get(POWER_LEVELS)) is not None:
        changed[POWER_LEVELS] = carried.closed(levels.content, room.version)
    for key, content in changed.items():
        if content == state[key].content:
            continue
        try:
            await send_event(ctx, room, NewEvent(key[0], user_id, content, key[1]))
        except Rejected as refused:
            log.info("room not closed", room_id=room.room_id, reason=str(refused))
