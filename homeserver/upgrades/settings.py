"""What a user keeps for a room goes with them to the room that replaces it.

Tags, the place among direct chats and push rules. The old room keeps its own: it is
still there. What the user has set for the new room already stays.

Spec: client-server-api#room-upgrades
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import RoomId, UserId
from homeserver.accounts.store import account_data
from homeserver.accounts.store.account_data import OF_NO_ROOM, Edit
from homeserver.accounts.tags import TYPE as TAGS
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.live.changes import Change, Kind
from homeserver.live.room import Room
from homeserver.push import rules
from homeserver.push import store as push_store
from homeserver.push.rules import Changes, Place, Rule, RuleKind
from homeserver.push.store import RuleEdit
from homeserver.rooms.presets import TOMBSTONE
from homeserver.rooms.restricted import CREATE, state_pdus

DIRECT: Final = "m.direct"
# A user may have missed so many upgrades in a row.
_MOST_PREDECESSORS: Final = 20


async def follow(ctx: Context, user_id: UserId, room: Room) -> None:
    """Let what a local user keeps for the room's predecessor go along with them."""
    old = await _predecessor(ctx, user_id, room)
    if old is None:
        return
    await _copy_tags(ctx, user_id, old, room)
    await _copy_direct(ctx, user_id, old.room_id, room.room_id)
    await _copy_rules(ctx, user_id, old.room_id, room.room_id)


async def _predecessor(ctx: Context, user_id: UserId, room: Room) -> Room | None:
    """The last room before this one that the user has been in.

    A predecessor only counts when its tombstone says the same.
    """
    newer = room
    for _ in range(_MOST_PREDECESSORS):
        create = (await state_pdus(ctx.live, newer, CREATE)).get(CREATE)
        named = None if create is None else create.content.get("predecessor")
        room_id = named.get("room_id") if isinstance(named, dict) else None
        old = await ctx.live.room(room_id) if isinstance(room_id, str) else None
        if old is None or not await _is_replaced(ctx, old, newer):
            return None
        member = await ctx.live.membership(user_id, old.nid)
        if member is not None and not member.forgotten:
            return old
        newer = old
    return None


async def _is_replaced(ctx: Context, old: Room, new: Room) -> bool:
    key = (TOMBSTONE, "")
    tombstone = (await state_pdus(ctx.live, old, key)).get(key)
    if tombstone is None:
        return False
    return tombstone.content.get("replacement_room") == new.room_id


async def _edit(ctx: Context, edit: Edit) -> None:
    """Change account data, unless there is nothing to change."""
    async with ctx.db.read() as tx:
        now = await account_data.content(tx, edit.user_id, edit.room_nid, edit.type)
    if edit.change(now or {}) == (now or {}):
        return
    room_nid = None if edit.room_nid == OF_NO_ROOM else edit.room_nid
    change = Change(Kind.ACCOUNT_DATA, user_id=edit.user_id, room_nid=room_nid)
    await ctx.live.commit(account_data.edit, edit, change)


async def _copy_tags(ctx: Context, user_id: UserId, old: Room, new: Room) -> None:
    async with ctx.db.read() as tx:
        tags = await account_data.content(tx, user_id, old.nid, TAGS)
    if tags:
        await _edit(ctx, Edit(user_id, new.nid, TAGS, lambda there: there or tags))


async def _copy_direct(ctx: Context, user_id: UserId, old: RoomId, new: RoomId) -> None:
    def add(content: JsonObject) -> JsonObject:
        return {user: _with_room(rooms, old, new) for user, rooms in content.items()}

    await _edit(ctx, Edit(user_id, OF_NO_ROOM, DIRECT, add))


def _with_room(rooms: JsonValue, old: RoomId, new: RoomId) -> JsonValue:
    if not isinstance(rooms, list) or old not in rooms or new in rooms:
        return rooms
    return [*rooms, new]


# ── Push rules ───────────────────────────────────────────────────────────────────────


async def _copy_rules(ctx: Context, user_id: UserId, old: RoomId, new: RoomId) -> None:
    def change(changes: Changes) -> Changes:
        return with_rules_for(changes, old, new)

    async with ctx.db.read() as tx:
        now = await push_store.read_changes(tx, user_id)
    try:
        changed = change(now)
        rules.encode_changes(changed)
    except MatrixError:
        return  # the user has as many rules as one may have
    if changed != now:
        await ctx.live.commit(
            push_store.change_rules,
            RuleEdit(user_id, change),
            Change(Kind.ACCOUNT_DATA, user_id=user_id),
        )


def with_rules_for(changes: Changes, old: RoomId, new: RoomId) -> Changes:
    """The rules, with those about the old room once more for the new one.

    Raises: M_TOO_LARGE.
    """
    for kind, rule in list(_rules_about(changes, old)):
        own = changes.own.get(kind.value, ())
        copy = _for_room(rule, old, new)
        if any(each.rule_id == copy.rule_id for each in own):
            continue
        place = Place(after=rule.rule_id)
        changes = rules.with_rule(changes, kind, copy, place)
    return changes


def _rules_about(changes: Changes, room_id: RoomId) -> Iterator[tuple[RuleKind, Rule]]:
    """Rules whose ID names the room: room rules, and those that clients mute with."""
    for kind in (RuleKind.OVERRIDE, RuleKind.ROOM, RuleKind.UNDERRIDE):
        for rule in changes.own.get(kind.value, ()):
            if room_id in rule.rule_id:
                yield kind, rule


def _for_room(rule: Rule, old: RoomId, new: RoomId) -> Rule:
    conditions = rule.conditions
    if conditions is not None:
        conditions = tuple(_condition(each, old, new) for each in conditions)
    return msgspec.structs.replace(
        rule, rule_id=rule.rule_id.replace(old, new), conditions=conditions
    )


def _condition(condition: Any, old: RoomId, new: RoomId) -> Any:  # noqa: ANN401 - as in Rule
    if not isinstance(condition, dict) or condition.get("key") != "room_id":
        return condition
    return {
        name: new if name in ("pattern", "value") and value == old else value
        for name, value in condition.items()
    }
