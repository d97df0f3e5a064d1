"""Following the device lists of other servers' users.

A list is fetched when somebody asks for it, then kept by what its server tells. Where
something is missing it is stale and fetched again, until that succeeds, also after a
restart; nobody is given a stale one. When the last room shared with a user is left,
the list is forgotten, since nothing more is told of it.

Spec: server-server-api#device-management
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from federation.ids import UserId, server_of
from federation.query_bodies import UserDevices
from federation.wire.calls_queries import KEYS_LIMITS, get_user_devices
from federation.wire.errors import BadResponse, RemoteError, WireError
from homeserver.accounts.store import device_lists
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.devices import checks
from homeserver.devices.store import remote as store
from homeserver.devices.store.query import FoundKeys
from homeserver.devices.store.remote import Fetched
from homeserver.live.changes import Change, Kind
from homeserver.live.steps import Consequence, Step

EVERY_S: Final = 1.0
_AT_ONCE: Final = 20
_TRIES: Final = 3

log = structlog.get_logger(__name__)


async def fetch(ctx: Context, user_id: UserId, *, tell: bool = False) -> FoundKeys:
    """Fetch the list of a user who shares a room with us, and keep it.

    `tell` says that clients are to look at it. Raises: WireError.
    """
    async with ctx.turns.take(("device list", user_id)):
        async with ctx.db.read() as tx:
            found = await store.good_keys(tx, (user_id,))
        if user_id in found.devices:
            return found  # somebody else was faster
        for _ in range(_TRIES):
            if await _fetch(ctx, user_id, tell=tell):
                async with ctx.db.read() as tx:
                    found = await store.good_keys(tx, (user_id,))
                if user_id in found.devices:
                    return found
        raise BadResponse(server_of(user_id), "the device list does not hold still")


async def _fetch(ctx: Context, user_id: UserId, *, tell: bool) -> bool:
    async with ctx.db.transaction() as tx:
        generation = await store.begin(tx, user_id)
    try:
        devices = await get_user_devices(
            ctx.wire, server_of(user_id), user_id, KEYS_LIMITS
        )
    except RemoteError as error:
        if error.status != 404:
            await _note_failure(ctx, user_id)
            raise
        devices = UserDevices(user_id, 0, ())  # there is no such user
    except WireError:
        await _note_failure(ctx, user_id)
        raise
    fetched = Fetched(_passable(devices), generation)
    if tell:
        change = Change(Kind.DEVICE_LIST, user_id=user_id, reach=fetched.reach)
        await ctx.live.commit(store.save_and_tell, fetched, change)
    else:
        async with ctx.db.transaction() as tx:
            await store.save(tx, fetched)
    return fetched.is_saved


async def _note_failure(ctx: Context, user_id: UserId) -> None:
    async with ctx.db.transaction() as tx:
        await store.note_failure(tx, user_id)


def _passable(given: UserDevices) -> UserDevices:
    """The answer without what cannot be passed on to clients."""
    user_id = given.user_id
    return replace(
        given,
        devices=tuple(
            each
            for each in given.devices[: store.MAX_DEVICES]
            if checks.is_device(each.keys, user_id, each.device_id)
        ),
        master_key=given.master_key
        if checks.is_cross_signing_key(given.master_key, user_id, "master")
        else None,
        self_signing_key=given.self_signing_key
        if checks.is_cross_signing_key(given.self_signing_key, user_id, "self_signing")
        else None,
    )


async def fetch_stale(ctx: Context) -> None:
    """Fetch the lists that are stale and due."""
    async with ctx.db.transaction() as tx:
        due = await store.claim_due(tx, _AT_ONCE)

    async def one(user_id: UserId) -> None:
        try:
            await fetch(ctx, user_id, tell=True)
        except WireError as error:
            log.info("device list not fetched", user_id=user_id, reason=error.why)

    await asyncio.gather(*map(one, due))


# ── Rooms that are joined and left ───────────────────────────────────────────────────


def _new_here(step: Step) -> list[UserId]:
    """Users of ours who join with this step."""
    return [
        user_id
        for user_id, (membership, _) in step.members.items()
        if membership == "join"
        and server_of(user_id) == step.room.our_name
        and not step.room.is_joined(user_id)
    ]


def _has_joins(step: Step) -> bool:
    others = {*step.room.servers, *step.servers} - {step.room.our_name}
    return bool(others) and bool(_new_here(step))


async def _introduce(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    joins = []
    for first, step in steps:
        at = {event.nid: first + i for i, event in enumerate(step.events)}
        for user_id in _new_here(step):
            position = at.get(step.members[user_id][1])
            if position is not None:
                joins.append((position, user_id, step.room.nid))
    if joins:
        await device_lists.introduce(tx, joins)


INTRODUCE: Final = Consequence(_has_joins, _introduce)


def _is_due(step: Step) -> bool:
    return any(membership != "join" for membership, _ in step.members.values())


async def _run(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    affected: set[str] = set()
    for _, step in steps:
        our_name = step.room.our_name
        gone = {
            u for u, (membership, _) in step.members.items() if membership != "join"
        }
        affected |= {user_id for user_id in gone if server_of(user_id) != our_name}
        if any(server_of(user_id) == our_name for user_id in gone):
            affected |= {
                user_id
                for user_id, member in step.room.members.items()
                if member.membership == "join" and server_of(user_id) != our_name
            }
    if affected:
        await store.forget_unshared(tx, list(affected))


FORGET_UNSHARED: Final = Consequence(_is_due, _run)
