"""What a user puts into a room by type and content: a message, a redaction, state.

The endpoints do it at once; delayed events (homeserver/delayed) go the same way later.
"""

from dataclasses import dataclass, replace
from typing import Final

from federation import auth_rules
from federation.canonical_json import JsonObject
from federation.errors import Malformed, ProtocolError
from federation.ids import EventId, RoomId, UserId, parse_event_id, server_of
from homeserver import errors
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.events.stored import txn_prefix
from homeserver.live.room import Room
from homeserver.rooms import membership
from homeserver.rooms.aliases import check_canonical_alias
from homeserver.rooms.build import NewEvent
from homeserver.rooms.relating import check_relation
from homeserver.rooms.restricted import CREATE, POWER_LEVELS, state_pdus
from homeserver.rooms.send import event_of_transaction, send_event

REDACTION: Final = "m.room.redaction"
_CANONICAL_ALIAS: Final = ("m.room.canonical_alias", "")


@dataclass(frozen=True, slots=True)
class Author:
    """Who puts something into a room.

    Administrators may redact what is ours, who is suspended only what is their own.
    """

    user_id: UserId
    is_admin: bool = False
    is_suspended: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """What is to be put there; with a state key it is state.

    `sticky_ms` is how long it shall be sticky (MSC4354), `txn` as in `NewEvent`.
    """

    room_id: RoomId
    type: str
    content: JsonObject
    state_key: str | None = None
    txn: tuple[str, str] | None = None
    origin_server_ts: int | None = None
    sticky_ms: int | None = None

    def event(self, sender: UserId, content: JsonObject, **more: str) -> NewEvent:
        """The event to send."""
        return NewEvent(
            self.type,
            sender,
            content,
            self.state_key,
            txn=self.txn,
            origin_server_ts=self.origin_server_ts,
            sticky_ms=self.sticky_ms,
            **more,
        )


async def put_event(ctx: Context, author: Author, post: Post) -> EventId:
    """Send it, or say what the transaction sent before, also if it might not any more.

    Raises: M_FORBIDDEN, M_BAD_JSON, M_TOO_LARGE, M_BAD_ALIAS, ….
    """
    if post.state_key is not None:
        return await _put_state(ctx, author.user_id, post, post.state_key)
    try:
        return await _put_message(ctx, author, post)
    except (MatrixError, ProtocolError):
        earlier = await _earlier(ctx, author, post)
        if earlier is None:
            raise
        return earlier


async def redact(ctx: Context, author: Author, post: Post, redacts: EventId) -> EventId:
    """Redact an event for a user who names it in the path; else as `put_event`.

    Raises: M_FORBIDDEN, M_NOT_FOUND.
    """
    if post.txn is not None:
        device, txn_id = post.txn
        post = replace(post, txn=(device, f"{txn_prefix(redacts)}{txn_id}"))
    try:
        room = await ctx.live.require_joined(post.room_id, author.user_id)
        return await put_redaction(ctx, author, room, post, redacts, post.content)
    except (MatrixError, ProtocolError):
        earlier = await _earlier(ctx, author, post)
        if earlier is None:
            raise
        return earlier


async def _earlier(ctx: Context, author: Author, post: Post) -> EventId | None:
    """The event that the post's transaction has sent before."""
    room = await ctx.live.room(post.room_id)
    if room is None:
        return None
    new = post.event(author.user_id, post.content)
    return await event_of_transaction(ctx, room, new)


async def _put_message(ctx: Context, author: Author, post: Post) -> EventId:
    room = await ctx.live.require_joined(post.room_id, author.user_id)
    if post.type != REDACTION:
        new = post.event(author.user_id, post.content)
        await check_relation(ctx, room, new)
        return await send_event(ctx, room, new)
    redacts = _redacted_id(post.content)
    content = {key: value for key, value in post.content.items() if key != "redacts"}
    return await put_redaction(ctx, author, room, post, redacts, content)


async def put_redaction(
    ctx: Context,
    author: Author,
    room: Room,
    post: Post,
    redacts: EventId,
    content: JsonObject,
) -> EventId:
    """Strip an event of its content. Raises: M_FORBIDDEN, M_NOT_FOUND."""
    await check_may_redact(ctx, room, author, redacts)
    new = post.event(author.user_id, content, redacts=redacts)
    return await send_event(ctx, room, new)


def _redacted_id(content: JsonObject) -> EventId:
    redacts = content.get("redacts")
    if not isinstance(redacts, str):
        raise errors.bad_json("redacts: the ID of the event to redact is needed.")
    try:
        return parse_event_id(redacts)
    except Malformed as error:
        raise errors.bad_json(f"redacts: {error}.") from None


async def check_may_redact(
    ctx: Context, room: Room, author: Author, event_id: EventId
) -> None:
    """Whether the user may redact this event; other servers would not object.

    Between servers, a server may redact what any of its users sent; among its users it
    is the author, those with the power, and the administrator.
    """
    target = await ctx.live.events.by_id(event_id)
    if target is None or target.room_nid != room.nid:
        raise errors.not_found("There is no such event in this room.")
    sender = target.pdu.sender
    if author.is_suspended and sender != author.user_id:
        raise errors.user_suspended()
    is_ours = server_of(sender) == ctx.server_name
    if sender == author.user_id or (is_ours and author.is_admin):
        return
    if not await may_redact_others(ctx, room, author.user_id):
        raise errors.forbidden("You have too little power to redact others' events.")


async def may_redact_others(ctx: Context, room: Room, user_id: UserId) -> bool:
    """Whether the user has the power to redact what others have sent."""
    levels = auth_rules.PowerLevels.of(
        await state_pdus(ctx.live, room, POWER_LEVELS, CREATE), room.version
    )
    return levels.user(user_id) >= levels.redact


async def _put_state(
    ctx: Context, sender: UserId, post: Post, state_key: str
) -> EventId:
    room_id, content = post.room_id, post.content
    if post.type == membership.MEMBER:
        return await membership.set_membership(
            ctx,
            sender,
            room_id,
            state_key,
            content,
            txn=post.txn,
            origin_server_ts=post.origin_server_ts,
        )
    room = await ctx.live.require_joined(room_id, sender)
    if (post.type, state_key) == _CANONICAL_ALIAS:
        before = (await state_pdus(ctx.live, room, _CANONICAL_ALIAS)).values()
        known: JsonObject = next((pdu.content for pdu in before), {})
        await check_canonical_alias(ctx, room_id, content, known)
    return await send_event(ctx, room, post.event(sender, content))
