"""The endpoint that makes rooms.

What can be checked is checked before anything is written; invites of users of other
servers follow once the room stands, since their servers have to sign them.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import structlog

from federation import room_versions
from federation.canonical_json import JsonObject
from federation.errors import Malformed, Rejected
from federation.ids import RoomAlias, UserId, parse_room_alias, parse_user_id, server_of
from federation.room_versions import RoomVersion
from homeserver import errors
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http import bodies
from homeserver.http.auth import by_access_token
from homeserver.http.limits import invites, room_creations
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.room import Room
from homeserver.rooms import membership, presets, restricted
from homeserver.rooms.aliases import (
    Alias,
    delete_alias,
    find_alias,
    insert_alias,
    publish,
    unpublish,
)
from homeserver.rooms.build import NewEvent
from homeserver.rooms.create import NewRoom, make_room
from homeserver.rooms.invite_check import check_takes_invite
from homeserver.rooms.presets import PRESETS, Preset
from homeserver.rooms.profiles import read_names

MEMBER: Final = "m.room.member"
_MAX_EVENTS: Final = 500
_INVITES_AT_ONCE: Final = 10
# Of other servers' refusals, those that the specification wants the client to hear of.
_TOLD: Final = frozenset(
    {"M_UNSUPPORTED_ROOM_VERSION", "M_INCOMPATIBLE_ROOM_VERSION", "M_INVITE_BLOCKED"}
)

log = structlog.get_logger(__name__)


class InitialState(msgspec.Struct):
    """A state event that the client wants the room to begin with."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


class CreateRoom(msgspec.Struct):
    """The body. Clients send null for what they leave out."""

    visibility: Literal["public", "private"] | None = None
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] | None = None
    invite_3pid: list[dict[str, Any]] | None = None
    room_version: str | None = None
    creation_content: dict[str, Any] | None = None
    initial_state: list[InitialState] | None = None
    preset: Literal["private_chat", "public_chat", "trusted_private_chat"] | None = None
    is_direct: bool | None = None
    power_level_content_override: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for, checked."""

    asked: CreateRoom
    version: RoomVersion
    creator: UserId
    invitees: tuple[UserId, ...]
    alias: RoomAlias | None
    preset: Preset

    @property
    def trusted(self) -> tuple[UserId, ...]:
        """Invitees who get the creator's power."""
        return self.invitees if self.preset.trusts_invitees else ()

    def invite_content(self, names: JsonObject) -> JsonObject:
        """The content of an invite."""
        content: JsonObject = {"membership": "invite", **names}
        if self.asked.is_direct:
            content["is_direct"] = True
        return content


@route(
    "POST",
    "/_matrix/client/v3/createRoom",
    auth=by_access_token,
    limit=room_creations,
)
async def create_room(ctx: Context, request: ClientRequest) -> Answer:
    """Make a room.

    Raises: M_BAD_JSON, M_INVALID_PARAM; M_UNSUPPORTED_ROOM_VERSION; M_ROOM_IN_USE when
    the alias is taken; M_INVALID_ROOM_STATE when the rules refuse an event.

    Spec: client-server-api#post_matrixclientv3createroom
    """
    asked = bodies.to_struct(request.event_content(), CreateRoom)
    plan = _plan(ctx, request.user_id, asked)
    if plan.alias is not None:
        services = ctx.parts.get(Services)
        services.check_alias(plan.alias, services.get(request.who.service_id or ""))
    if plan.invitees and not request.who.is_unlimited:
        request.limits.spend(invites, request.user_id, len(plan.invitees))
    room = await _make(ctx, plan)
    await _invite_others(ctx, room, plan)
    return {"room_id": room.room_id}


# ── Checking ─────────────────────────────────────────────────────────────────────────


def _plan(ctx: Context, creator: UserId, asked: CreateRoom) -> Plan:
    if asked.invite_3pid:
        raise errors.server_not_trusted(
            "This server asks no identity servers. Invite by user ID instead."
        )
    preset_name = asked.preset or (
        "public_chat" if asked.visibility == "public" else "private_chat"
    )
    plan = Plan(
        asked=asked,
        version=_version(ctx, asked.room_version),
        creator=creator,
        invitees=tuple(_invitees(asked.invite or (), creator)),
        alias=_alias(ctx, asked.room_alias_name),
        preset=PRESETS[preset_name],
    )
    _check_size(plan)
    _check_initial_state(asked.initial_state or ())
    _check_federates(ctx, plan)
    return plan


def _version(ctx: Context, wanted: str | None) -> RoomVersion:
    if wanted is None:
        return ctx.config.room_version
    version = room_versions.find(wanted)
    if version is None:
        raise errors.unsupported_room_version(wanted)
    return version


def _invitees(given: Iterable[str], creator: UserId) -> Iterator[UserId]:
    for value in dict.fromkeys(given):
        try:
            user_id = parse_user_id(value)
        except Malformed as error:
            raise errors.invalid_param(f"invite: {error}.") from None
        if user_id != creator:
            yield user_id


def _alias(ctx: Context, localpart: str | None) -> RoomAlias | None:
    if localpart is None:
        return None
    if not localpart or ":" in localpart:
        raise errors.invalid_param(
            "room_alias_name: the part of the alias between '#' and ':' is needed."
        )
    try:
        return parse_room_alias(f"#{localpart}:{ctx.server_name}")
    except Malformed as error:
        raise errors.invalid_param(f"room_alias_name: {error}.") from None


def _check_size(plan: Plan) -> None:
    if len(plan.invitees) + len(plan.asked.initial_state or ()) > _MAX_EVENTS:
        raise errors.too_large(
            f"A room can begin with at most {_MAX_EVENTS} invites and events in"
            " initial_state. Send the others once it is there."
        )


def _check_initial_state(initial: Iterable[InitialState]) -> None:
    for event in initial:
        if event.type != MEMBER:
            continue
        if event.content.get("membership") == "invite":
            raise errors.invalid_room_state(
                "initial_state cannot invite. List users in `invite` instead."
            )
        event.content.pop(restricted.VOUCHER, None)


def _check_federates(ctx: Context, plan: Plan) -> None:
    content = plan.asked.creation_content or {}
    if content.get("m.federate") is False and any(
        server_of(user_id) != ctx.server_name for user_id in plan.invitees
    ):
        raise errors.forbidden(
            "A room that is closed to other servers cannot have users of them."
        )


# ── Making ───────────────────────────────────────────────────────────────────────────


async def _make(ctx: Context, plan: Plan) -> Room:
    ours = [u for u in plan.invitees if server_of(u) == ctx.server_name]
    for user_id in ours:
        await check_takes_invite(ctx.live, plan.creator, user_id)
    async with ctx.db.read() as tx:
        if plan.alias is not None and await find_alias(tx, plan.alias) is not None:
            raise _in_use(plan.alias)
        names = await read_names(tx, (plan.creator, *ours))
    new = NewRoom(
        version=plan.version,
        creator=plan.creator,
        create_content=presets.create_content(
            plan.version,
            plan.creator,
            plan.asked.creation_content or {},
            plan.trusted,
        ),
        events=[
            *_events(plan, names[plan.creator]),
            *(
                NewEvent(
                    MEMBER, plan.creator, plan.invite_content(names[user_id]), user_id
                )
                for user_id in ours
            ),
        ],
    )
    listing = _Listing(ctx, plan)
    try:
        room, _ = await make_room(ctx, new, listing.enter)
    except Rejected as error:
        await listing.undo()
        raise errors.invalid_room_state(f"A room cannot begin so: {error}.") from None
    except BaseException:
        await listing.undo()
        raise
    return room


class _Listing:
    """The alias and the place in the directory that a new room was to have."""

    def __init__(self, ctx: Context, plan: Plan) -> None:
        self._ctx = ctx
        self._plan = plan
        self._room: Room | None = None

    async def enter(self, room: Room) -> None:
        """Take both. Raises: M_ROOM_IN_USE when somebody else was faster."""
        alias, is_public = self._plan.alias, self._plan.asked.visibility == "public"
        if alias is None and not is_public:
            return
        async with self._ctx.db.transaction() as tx:
            if alias is not None and not await insert_alias(
                tx, Alias(alias, room.room_id, self._plan.creator)
            ):
                raise _in_use(alias)
            if is_public:
                await publish(tx, room.nid)
        self._room = room

    async def undo(self) -> None:
        """Give both back: the room was not made after all."""
        if self._room is None:
            return
        async with self._ctx.db.transaction() as tx:
            if self._plan.alias is not None:
                await delete_alias(tx, self._plan.alias, self._room.room_id)
            await unpublish(tx, self._room.nid)


def _in_use(alias: RoomAlias) -> MatrixError:
    return errors.room_in_use(f"The alias {alias} names a room already.")


def _events(plan: Plan, names: JsonObject) -> Iterator[NewEvent]:
    """The events after the create event, in the order of the specification.

    What a later one would replace is left out.
    """
    creator, asked = plan.creator, plan.asked

    def state(event_type: str, content: JsonObject, state_key: str = "") -> NewEvent:
        return NewEvent(event_type, creator, content, state_key)

    yield state(MEMBER, {"membership": "join", **names}, creator)
    yield state(
        presets.POWER_LEVELS,
        presets.power_levels(
            plan.version, creator, plan.trusted, asked.power_level_content_override
        ),
    )
    if plan.alias is not None:
        yield state("m.room.canonical_alias", {"alias": plan.alias})
    initial = asked.initial_state or []
    given = {event.type for event in initial if event.state_key == ""}
    for event_type, content in plan.preset.events():
        if event_type not in given:
            yield state(event_type, content)
    named: dict[str, JsonObject] = {}
    if asked.name is not None:
        named["m.room.name"] = {"name": asked.name}
    if asked.topic is not None:
        named["m.room.topic"] = presets.topic_content(asked.topic)
    for event in initial:
        if event.state_key != "" or event.type not in named:
            yield state(event.type, event.content, event.state_key)
    for event_type, content in named.items():
        yield state(event_type, content)


async def _invite_others(ctx: Context, room: Room, plan: Plan) -> None:
    """Invite users of other servers, some at once.

    A server that cannot be reached does not spoil the room: the user can be invited
    again. Raises: M_UNSUPPORTED_ROOM_VERSION, M_INVITE_BLOCKED.
    """
    at_once = asyncio.Semaphore(_INVITES_AT_ONCE)
    extra = plan.invite_content({})

    async def invite(user_id: UserId) -> MatrixError | None:
        async with at_once:
            try:
                await membership.invite(ctx, plan.creator, room.room_id, user_id, extra)
            except MatrixError as error:
                return error
            except Rejected as error:
                return errors.of_caller(error)
        return None

    others = [u for u in plan.invitees if server_of(u) != ctx.server_name]
    for user_id, error in zip(
        others, await asyncio.gather(*map(invite, others)), strict=True
    ):
        if error is None:
            continue
        if error.errcode in _TOLD:
            raise error
        log.info(
            "invite not delivered",
            room_id=room.room_id,
            user_id=user_id,
            reason=str(error),
        )
