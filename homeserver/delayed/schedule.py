"""Scheduling an event. MSC4140."""

import secrets
from typing import Any, Final

from federation import canonical_json
from federation.ids import UserId
from federation.pdu import MAX_FIELD_BYTES, MAX_PDU_BYTES
from homeserver import errors
from homeserver.accounts.store import users
from homeserver.context import Context
from homeserver.delayed import store
from homeserver.http.requests import ClientRequest
from homeserver.rooms.posting import Post

_ERRCODE: Final = "org.matrix.msc4140.errcode"


async def put_off(
    ctx: Context, request: ClientRequest, post: Post, delay_ms: int
) -> str:
    """Schedule what a client asked for with the query parameter; its delay ID.

    COMPAT(matrix-js-sdk): it looks for this errcode and for the delay that it may ask
    for instead.
    """
    longest_ms = ctx.config.limits.max_delay_s * 1000
    if delay_ms > longest_ms and ctx.config.limits.max_delayed_events:
        told: dict[str, Any] = {
            _ERRCODE: "M_MAX_DELAY_EXCEEDED",
            "org.matrix.msc4140.max_delay": longest_ms,
        }
        raise errors.MatrixError(400, "M_UNKNOWN", _too_long(longest_ms), **told)
    return await schedule(ctx, request.user_id, post, delay_ms)


async def schedule(ctx: Context, user_id: UserId, post: Post, delay_ms: int) -> str:
    """Schedule an event; its delay ID, and for a repetition the one of before.

    Whether the user may send it is found out when it is sent.

    Raises: M_FORBIDDEN, M_LIMIT_EXCEEDED, M_TOO_LARGE.
    """
    limits = ctx.config.limits
    if not limits.max_delayed_events:
        raise errors.forbidden("This server does not send events later.")
    longest_ms = limits.max_delay_s * 1000
    if delay_ms > longest_ms:
        raise errors.forbidden(_too_long(longest_ms))
    _check_size(post)
    delay_id = secrets.token_urlsafe(24)
    async with ctx.db.transaction() as tx:
        await users.lock(tx, user_id)
        if post.txn is not None:
            earlier = await store.find_transaction(
                tx, user_id, post.room_id, post.type, post.txn
            )
            if earlier is not None:
                return earlier
        number, seconds = await store.count_scheduled(tx, user_id)
        if number >= limits.max_delayed_events:
            raise _too_many(seconds)
        await store.insert(tx, delay_id, user_id, post, delay_ms)
    return delay_id


def _too_long(longest_ms: int) -> str:
    return f"An event can be put off by at most {longest_ms} milliseconds."


def _check_size(post: Post) -> None:
    """What can never be sent is refused at once."""
    for text in (post.type, post.state_key or ""):
        if len(text.encode()) > MAX_FIELD_BYTES:
            raise errors.too_large(
                f"Types and state keys have at most {MAX_FIELD_BYTES} bytes."
            )
    if len(canonical_json.encode(post.content)) > MAX_PDU_BYTES:
        raise errors.too_large(f"An event has at most {MAX_PDU_BYTES} bytes.")


def _too_many(seconds: float) -> errors.MatrixError:
    wait = int(seconds) + 1
    return errors.MatrixError(
        429,
        "M_LIMIT_EXCEEDED",
        "You have as many events scheduled as this server keeps for one user.",
        headers={"Retry-After": str(wait)},
        retry_after_ms=wait * 1000,
        **{_ERRCODE: "M_MAX_DELAYED_EVENTS_EXCEEDED"},
    )
