"""Memberships: joins, invites, knocks, leaves, kicks, bans, and forgetting.

Where nobody of ours is in the room, other servers have to help: those flows are in
`join` and `remote`, the choice is made here.

Spec: client-server-api#room-membership
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from federation import auth_rules
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed, Rejected
from federation.ids import (
    EventId,
    RoomId,
    ServerName,
    UserId,
    parse_server_name,
    parse_user_id,
    server_of,
)
from homeserver import errors
from homeserver.appservices.queries import introduce
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.live.changes import Change, Kind, Positioned
from homeserver.live.room import Member, Room
from homeserver.rooms import restricted
from homeserver.rooms.aliases import unique_servers
from homeserver.rooms.build import Builder, NewEvent
from homeserver.rooms.invite_check import check_takes_invite
from homeserver.rooms.join import remote_join
from homeserver.rooms.partial import joined_and_whole
from homeserver.rooms.policy import POLICY, policy_server
from homeserver.rooms.profiles import FIELDS, read_name
from homeserver.rooms.remote import remote_invite, remote_knock, remote_leave
from homeserver.rooms.send import send_event, shown_to

MEMBER: Final = "m.room.member"
# A user's profile goes into all their rooms; so many are written to at once.
_ROOMS_AT_ONCE: Final = 16

log = structlog.get_logger(__name__)


# ── Which room, and what is there ────────────────────────────────────────────────────


def is_held(room: Room) -> bool:
    """Whether we can write to the room without another server's help.

    That is when a user of ours is in it, or when nobody is left in a room of which we
    have the state.
    """
    return bool(room.head.extremities) and (room.is_resident or not room.servers)


async def held_room(ctx: Context, room_id: RoomId) -> Room | None:
    """The room, if we can write to it without another server's help."""
    room = await ctx.live.room(room_id)
    if room is None or not is_held(room):
        await ctx.live.follower.pull()  # another process may be a moment ahead
        room = await ctx.live.room(room_id)
    return room if room is not None and is_held(room) else None


async def membership_of(ctx: Context, room: Room, user_id: UserId) -> str:
    """Anybody's membership now; who was never a member has left."""
    member = room.members.get(user_id)
    if member is not None:
        return member.membership
    nid = room.state.get((MEMBER, user_id))
    event = None if nid is None else await ctx.live.events.by_nid(nid)
    return (None if event is None else event.pdu.membership) or "leave"


async def own_membership(
    ctx: Context, room_id: RoomId, user_id: UserId
) -> tuple[int, Member]:
    """A local user's membership, whatever it is, and the room's number.

    Raises: M_FORBIDDEN when there never was one.
    """
    nid = await ctx.live.room_nid(room_id)
    member = None if nid is None else await ctx.live.membership(user_id, nid)
    if member is None:
        await ctx.live.follower.pull()
        nid = await ctx.live.room_nid(room_id)
        member = None if nid is None else await ctx.live.membership(user_id, nid)
    if nid is None or member is None:
        raise errors.forbidden("You have never been in this room.")
    return nid, member


async def _candidates(
    ctx: Context, user_id: UserId, room_id: RoomId, via: Iterable[ServerName]
) -> Sequence[ServerName]:
    """Servers that may be in the room: those named, then those that we can guess.

    Raises: M_NOT_FOUND when there is none.
    """
    servers = list(via)
    room = await ctx.live.room(room_id)
    if room is not None:
        member = await ctx.live.membership(user_id, room.nid)
        if member is not None:
            event = await ctx.live.events.by_nid(member.event_nid)
            if event is not None:  # of an invite: who invited
                servers.append(server_of(event.pdu.sender))
        servers += [name for name, _ in room.servers.most_common()]
    _, colon, domain = room_id.partition(":")
    if colon:
        servers.append(parse_server_name(domain))
    candidates = unique_servers(servers, without=ctx.server_name)
    if not candidates:
        raise errors.not_found(
            "No server is known to be in this room. Join by an alias, or name one"
            " with the parameter 'via'."
        )
    return candidates


async def _own_content(
    ctx: Context, membership: str, user_id: UserId, reason: str | None
) -> JsonObject:
    """The content of a local user's member event: with name and avatar."""
    async with ctx.db.read() as tx:
        names = await read_name(tx, user_id)
    return with_reason({"membership": membership, **names}, reason)


def with_reason(content: JsonObject, reason: str | None) -> JsonObject:
    """The content, with the reason when there is one."""
    return content if reason is None else {**content, "reason": reason}


async def _send(
    ctx: Context,
    room: Room,
    sender: UserId,
    target: UserId,
    content: JsonObject,
    txn: tuple[str, str] | None = None,
    ts: int | None = None,
) -> EventId:
    new = NewEvent(MEMBER, sender, content, target, origin_server_ts=ts, txn=txn)
    return await send_event(ctx, room, new)


# ── Joining ──────────────────────────────────────────────────────────────────────────


async def join(
    ctx: Context,
    user_id: UserId,
    room_id: RoomId,
    *,
    via: Sequence[ServerName] = (),
    reason: str | None = None,
) -> None:
    """Make a local user a member; one who is already stays one.

    Raises: M_FORBIDDEN, M_NOT_FOUND, and what other servers say.
    """
    room = await held_room(ctx, room_id)
    if room is not None and room.is_joined(user_id):
        return
    content = await _own_content(ctx, "join", user_id, reason)
    if room is None or room.is_partial:
        servers = await _candidates(ctx, user_id, room_id, via)
        await remote_join(ctx, user_id, room_id, servers, content)
    else:
        position = ctx.live.position
        try:
            await _join_held(ctx, room, user_id, content, via)
        except errors.MatrixError:  # another process may be a moment ahead
            await ctx.live.follower.pull()
            if ctx.live.position == position:
                raise
            room = await ctx.live.room(room_id) or room
            await _join_held(ctx, room, user_id, content, via)
    await _joined(ctx, room_id, user_id)


async def _joined(ctx: Context, room_id: RoomId, user_id: UserId) -> None:
    """Do what features have to do when a user of ours has joined."""
    room = await ctx.live.room(room_id)
    if room is not None:
        for listener in ctx.on_join:
            await listener(ctx, user_id, room)


async def _join_held(
    ctx: Context,
    room: Room,
    user_id: UserId,
    content: JsonObject,
    via: Sequence[ServerName],
    ts: int | None = None,
) -> None:
    admission = await restricted.admission(ctx.live, room, user_id)
    if admission.needs_voucher:
        if not admission.is_met:
            raise errors.forbidden(
                "You can join this room when you are invited, or when you are in one"
                " of the rooms that its join rules name."
            )
        if admission.voucher is None:
            # Nobody of ours may invite: a server where somebody may has to sign.
            servers = await _candidates(ctx, user_id, room.room_id, via)
            await remote_join(ctx, user_id, room.room_id, servers, content)
            return
        content = {**content, restricted.VOUCHER: admission.voucher}
    try:
        await _send(ctx, room, user_id, user_id, content, None, ts)
    except Rejected as refused:
        if await membership_of(ctx, room, user_id) == "ban":
            raise errors.forbidden("You are banned from this room.") from None
        raise errors.forbidden(
            f"You cannot join this room without an invite: {refused.why}."
        ) from None


async def check_guest_may_join(ctx: Context, room_id: RoomId) -> None:
    """Let guests into rooms that want them. Raises: M_GUEST_ACCESS_FORBIDDEN.

    Spec: client-server-api#guest-access
    """
    room = await held_room(ctx, room_id)
    access = None
    if room is not None:
        key = ("m.room.guest_access", "")
        pdu = (await restricted.state_pdus(ctx.live, room, key)).get(key)
        access = None if pdu is None else pdu.content.get("guest_access")
    if access != "can_join":
        raise errors.guest_access_forbidden("This room does not admit guests.")


# ── Inviting ─────────────────────────────────────────────────────────────────────────


async def invite(
    ctx: Context,
    sender: UserId,
    room_id: RoomId,
    target: UserId,
    extra: JsonObject | None = None,
) -> EventId:
    """Invite a user, of this server or another; who is invited already stays so.

    Raises: M_FORBIDDEN, and what the invited user's server says.
    """
    room = await joined_and_whole(ctx.live, room_id, sender)
    invited = room.members.get(target)
    if invited is not None and invited.membership == "invite":
        event = await ctx.live.events.by_nid(invited.event_nid)
        if event is not None:
            return event.event_id
    content: JsonObject = {**(extra or {}), "membership": "invite"}
    if server_of(target) == ctx.server_name:
        await check_takes_invite(ctx.live, sender, target)
        await introduce(ctx, target)
        async with ctx.db.read() as tx:
            content = {**(await read_name(tx, target)), **content}
        return await _send(ctx, room, sender, target, content)
    await _check_federates(ctx, room)
    new = NewEvent(MEMBER, sender, content, target)
    async with ctx.live.writers.hold(room) as writer:
        builder = Builder(ctx.live, ctx.key, writer, ctx.clock.ms())
        draft = await builder.draft(new)
        auth_rules.check(draft.pdu, draft.state, create=draft.create)
        server = await policy_server(ctx.live, room, writer.state_nid(POLICY))
    draft = await shown_to(ctx, room, server, draft)
    await remote_invite(ctx, room, draft)
    return draft.pdu.event_id


async def _check_federates(ctx: Context, room: Room) -> None:
    key = restricted.CREATE
    create = (await restricted.state_pdus(ctx.live, room, key)).get(key)
    if create is not None and create.content.get("m.federate") is False:
        raise errors.forbidden("This room is closed to users of other servers.")


# ── Leaving, kicking, banning ────────────────────────────────────────────────────────


async def leave(
    ctx: Context, user_id: UserId, room_id: RoomId, *, reason: str | None = None
) -> None:
    """Leave a room, reject an invite or take back a knock; who has left may again.

    Raises: M_FORBIDDEN for a room that the user never was in or is banned from.
    """
    _, member = await own_membership(ctx, room_id, user_id)
    if member.membership == "leave":
        return
    if member.membership == "ban":
        raise errors.forbidden("You are banned from this room.")
    room = await held_room(ctx, room_id)
    if room is None:
        await remote_leave(ctx, user_id, room_id)
        return
    content = with_reason({"membership": "leave"}, reason)
    await _send(ctx, room, user_id, user_id, content)


async def kick(
    ctx: Context,
    sender: UserId,
    room_id: RoomId,
    target: UserId,
    extra: JsonObject,
) -> None:
    """Make somebody leave, take an invite back, or deny a knock.

    Raises: M_FORBIDDEN, also when the user is not in the room.
    """
    room = await joined_and_whole(ctx.live, room_id, sender)
    if await membership_of(ctx, room, target) in ("leave", "ban"):
        raise errors.forbidden(f"{target} is not in this room.")
    content: JsonObject = {**extra, "membership": "leave"}
    await _send(ctx, room, sender, target, content)


async def ban(
    ctx: Context,
    sender: UserId,
    room_id: RoomId,
    target: UserId,
    extra: JsonObject,
) -> None:
    """Keep a user out, whether they are in the room or not. Raises: M_FORBIDDEN."""
    room = await joined_and_whole(ctx.live, room_id, sender)
    content: JsonObject = {**extra, "membership": "ban"}
    await _send(ctx, room, sender, target, content)


async def unban(
    ctx: Context,
    sender: UserId,
    room_id: RoomId,
    target: UserId,
    *,
    reason: str | None = None,
) -> None:
    """Let a banned user come again. Raises: M_BAD_STATE for one who is not banned."""
    room = await joined_and_whole(ctx.live, room_id, sender)
    if await membership_of(ctx, room, target) != "ban":
        raise errors.bad_state(f"{target} is not banned from this room.")
    content = with_reason({"membership": "leave"}, reason)
    await _send(ctx, room, sender, target, content)


# ── Knocking ─────────────────────────────────────────────────────────────────────────


async def knock(
    ctx: Context,
    user_id: UserId,
    room_id: RoomId,
    *,
    via: Sequence[ServerName] = (),
    reason: str | None = None,
) -> None:
    """Ask to be invited. Raises: M_FORBIDDEN, M_NOT_FOUND, and what others say.

    Spec: client-server-api#knocking-on-rooms
    """
    content = await _own_content(ctx, "knock", user_id, reason)
    room = await held_room(ctx, room_id)
    if room is None:
        servers = await _candidates(ctx, user_id, room_id, via)
        await remote_knock(ctx, user_id, room_id, servers, content)
    else:
        await _send(ctx, room, user_id, user_id, content)


# ── Forgetting ───────────────────────────────────────────────────────────────────────


async def forget(ctx: Context, user_id: UserId, room_id: RoomId) -> None:
    """Stop remembering a room that the user has left.

    Raises: M_UNKNOWN when they have not; M_FORBIDDEN when they never were in it.
    """
    room_nid, member = await own_membership(ctx, room_id, user_id)
    if member.membership not in ("leave", "ban"):
        raise errors.unknown("You are still in this room; leave it first.")
    if not member.forgotten:
        await ctx.live.commit(
            set_forgotten,
            (room_nid, user_id),
            Change(Kind.FORGOTTEN, room_nid=room_nid, user_id=user_id),
        )


async def set_forgotten(
    tx: Tx, batch: Sequence[Positioned[tuple[int, UserId]]]
) -> None:
    """Note that users have forgotten rooms, unless they came back meanwhile."""
    await tx.execute(
        """
        UPDATE memberships m SET forgotten = true
          FROM unnest($1::bigint[], $2::text[]) AS gone (room_nid, user_id)
         WHERE m.room_nid = gone.room_nid AND m.user_id = gone.user_id
           AND m.membership IN ('leave', 'ban')
        """,
        [each.item[0] for each in batch],
        [each.item[1] for each in batch],
    )


# ── Member events that a client wrote itself ─────────────────────────────────────────


async def set_membership(
    ctx: Context,
    sender: UserId,
    room_id: RoomId,
    state_key: str,
    content: JsonObject,
    *,
    txn: tuple[str, str] | None = None,
    origin_server_ts: int | None = None,
) -> EventId:
    """Send a member event as `PUT /state` gives it, by the flow that it stands for.

    Nobody can vouch for themselves: what the content says of that does not count.
    Raises: M_INVALID_PARAM, M_BAD_JSON, M_FORBIDDEN.
    """
    try:
        target = parse_user_id(state_key)
    except Malformed as error:
        raise errors.invalid_param(f"stateKey: {error}.") from None
    membership = content.get("membership")
    if not isinstance(membership, str):
        raise errors.bad_json("membership: a string is needed.")
    content = {k: v for k, v in content.items() if k != restricted.VOUCHER}
    if membership == "invite":
        return await invite(ctx, sender, room_id, target, content)
    room = await held_room(ctx, room_id)
    if room is None:
        raise errors.forbidden("Nobody of this server is in this room.")
    if membership == "join" and sender == target and not room.is_joined(sender):
        async with ctx.db.read() as tx:
            content = {**(await read_name(tx, sender)), **content}
        await _join_held(ctx, room, sender, content, (), origin_server_ts)
        await _joined(ctx, room_id, sender)
        return await _event_id_now(ctx, room, sender)
    return await _send(ctx, room, sender, target, content, txn, origin_server_ts)


async def _event_id_now(ctx: Context, room: Room, user_id: UserId) -> EventId:
    """The member event that says what a user of ours is now."""
    member = await ctx.live.membership(user_id, room.nid)
    event = None if member is None else await ctx.live.events.by_nid(member.event_nid)
    if event is None:
        raise errors.forbidden("You have left this room again.")
    return event.event_id


# ── Profiles ─────────────────────────────────────────────────────────────────────────


async def update_profile(ctx: Context, user_id: UserId) -> None:
    """Tell all rooms of a local user their name and avatar as they are now.

    A room that knows it already is passed over, one that refuses left as it is.

    Spec: client-server-api#events-on-change-of-profile-information
    """
    content = await _own_content(ctx, "join", user_id, None)
    user = await ctx.live.user(user_id)
    joined = [nid for nid, member in user.rooms.items() if member.membership == "join"]
    at_once = asyncio.Semaphore(_ROOMS_AT_ONCE)

    async def tell(room_nid: int) -> None:
        async with at_once:
            room = await ctx.live.view.room(room_nid)
            if room is None or not room.is_joined(user_id):
                return
            event = await ctx.live.events.by_nid(room.members[user_id].event_nid)
            if event is not None and _names(event.shown.content) == _names(content):
                return
            try:
                await _send(ctx, room, user_id, user_id, content)
            except Rejected as refused:
                log.info("profile not told", room_id=room.room_id, reason=str(refused))

    await asyncio.gather(*map(tell, joined))


def _names(content: JsonObject) -> list[JsonValue]:
    return [content.get(name) for name in FIELDS]
