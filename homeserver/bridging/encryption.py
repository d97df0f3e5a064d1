"""What services with encryption are told of keys and devices. MSC3202.

Spec: application-service-api#pushing-events
"""

from collections.abc import Iterable, Sequence
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import DeviceId, UserId
from homeserver.accounts.store import devices
from homeserver.bridging import window
from homeserver.bridging.interest import MEMBER, Interest
from homeserver.bridging.window import Message, Window
from homeserver.context import Context
from homeserver.devices.key_counts import key_counts
from homeserver.live.changes import Kind

_PREFIX: Final = "org.matrix.msc3202."


async def sections(
    ctx: Context, interest: Interest, part: Window, messages: Sequence[Message]
) -> JsonObject:
    """The sections of a transaction, by their stable and unstable names."""
    told: JsonObject = {}
    lists = await _device_lists(ctx, interest, part)
    if lists:
        told["device_lists"] = lists
    moved = [u for u in part.users(Kind.DEVICE_KEYS) if interest.service.is_user(u)]
    users = dict.fromkeys([*moved, *(message.user_id for message in messages)])
    counts, unused = await _counts(ctx, users)
    if counts:
        told["device_one_time_keys_count"] = counts
        told["device_unused_fallback_key_types"] = unused
    return {**told, **{_PREFIX + name: value for name, value in told.items()}}


async def _counts(
    ctx: Context, users: Iterable[UserId]
) -> tuple[JsonObject, JsonObject]:
    """How many keys the users' devices have left, and which fallback keys are good."""
    known = key_counts(ctx.db, ctx.live)
    counts: JsonObject = {}
    unused: JsonObject = {}
    for user_id in users:
        async with ctx.db.read() as tx:
            found = await devices.devices(tx, user_id)
        of = {
            d.device_id: await known.of(user_id, DeviceId(d.device_id)) for d in found
        }
        counts[user_id] = {d: dict(each.one_time_keys) for d, each in of.items()}
        unused[user_id] = {d: list(each.unused_fallback_keys) for d, each in of.items()}
    return counts, unused


async def _device_lists(ctx: Context, interest: Interest, part: Window) -> JsonObject:
    """Whose devices changed, and who shares no room with the service any more."""
    changed = part.users(Kind.DEVICE_LIST, Kind.TOKENS)
    come, gone = await _moved_members(ctx, interest, part)
    shared = await _sharing(ctx, interest, {*changed, *come, *gone})
    told = [user_id for user_id in (*changed, *come) if user_id in shared]
    left = [user_id for user_id in gone if user_id not in shared]
    if not told and not left:
        return {}
    return {"changed": list(dict.fromkeys(told)), "left": list(dict.fromkeys(left))}


async def _moved_members(
    ctx: Context, interest: Interest, part: Window
) -> tuple[list[UserId], list[UserId]]:
    """Who came into rooms of the service, and who went away; both ways round."""
    live = ctx.live
    rows = part.of(Kind.EVENT)
    events = await live.events.by_nids(r.ref for r in rows if r.ref is not None)
    come: list[UserId] = []
    gone: list[UserId] = []
    for event in events.values():
        pdu = event.pdu
        if pdu.type != MEMBER or pdu.state_key is None or event.position is None:
            continue
        room = (await live.rooms((event.room_nid,))).get(event.room_nid)
        if room is None:
            continue
        user_id = UserId(pdu.state_key)
        is_ours = interest.service.is_user(user_id)
        if not is_ours and not interest.may_want_room(room):
            continue
        whom = [u for u in room.members if room.is_joined(u)] if is_ours else [user_id]
        (come if pdu.membership == "join" else gone).extend(whom)
    return come, gone


async def _sharing(
    ctx: Context, interest: Interest, users: Iterable[UserId]
) -> set[UserId]:
    """Those of the users who share a room with a user of the service."""
    asked = list(users)
    if not asked:
        return set()
    async with ctx.db.read() as tx:
        rooms_of = await window.sharing(tx, asked)
    nids = {nid for rooms in rooms_of.values() for nid in rooms}
    wanted = await interest.rooms(await ctx.live.rooms(nids))
    return {
        user_id
        for user_id in asked
        if interest.service.is_user(user_id)
        or any(nid in wanted for nid in rooms_of.get(user_id, ()))
    }
