"""The endpoint of simplified sliding sync."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from federation.errors import Malformed
from homeserver import errors
from homeserver.bounded import MIB, LruCache, Worth
from homeserver.context import Context
from homeserver.events.client_format import Viewer
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.live import Live
from homeserver.presence.attendance import syncing
from homeserver.presence.states import RANKS
from homeserver.sync.lazy import LazyMembers
from homeserver.sync.request import Sources
from homeserver.sync.sliding import answer as answers
from homeserver.sync.sliding.connection import Draft, Pos, State, parse_pos
from homeserver.sync.sliding.connections import Connections, Quiet
from homeserver.sync.sliding.devices import TO_DEVICE, parse_since
from homeserver.sync.sliding.extensions import PROFILES
from homeserver.sync.sliding.facts import Facts
from homeserver.sync.sliding.request import SlidingRequest, parse_request
from homeserver.sync.sliding.store import Key

PATH: Final = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
MAX_TIMEOUT_MS: Final = 120_000
_MAX_BODY: Final = 256 * 1024
_PATIENCE_SECONDS: Final = 10.0  # for a token that another process gave
_CONNECTIONS: Final = 16 * MIB
_NOTHING: Final[dict[str, object]] = {}


@dataclass(frozen=True, slots=True)
class _Call:
    """One call: `pos` and `state` are what the client came with."""

    key: Key
    viewer: Viewer
    request: SlidingRequest
    asked: bytes  # the request, hashed
    timeout_s: float
    pos: Pos | None
    state: State
    identify: Callable[[], Awaitable[None]]


class _Desk:
    """What one process keeps for sliding sync."""

    def __init__(self, ctx: Context) -> None:
        self.facts = Facts(ctx.db, ctx.live)
        self.connections = Connections(ctx.db, ctx.clock.monotonic)
        self.sent = LazyMembers()
        # The newest request of each connection: clients have one at a time.
        self.newest: LruCache[Key, object] = LruCache(
            "sliding connections", _CONNECTIONS, 350, Worth.NEEDED
        )
        ctx.live.on_reset(self._on_reset)  # and with this `live` keeps the desk

    def _on_reset(self) -> None:
        self.facts.forget_all()


_desks: "WeakKeyDictionary[Live, ReferenceType[_Desk]]" = WeakKeyDictionary()


def _desk(ctx: Context) -> _Desk:
    known = _desks.get(ctx.live)
    desk = None if known is None else known()
    if desk is None:
        desk = _Desk(ctx)
        _desks[ctx.live] = ref(desk)
    return desk


@route(
    "POST",
    PATH,
    auth=by_access_token,
    flag="org.matrix.simplified_msc3575",
    long_poll=True,
    max_body=_MAX_BODY,
)
async def sliding_sync(ctx: Context, request: ClientRequest) -> Answer:
    """Tell what is new of the rooms that the client names.

    Waits up to `timeout` milliseconds for something new. Raises: M_UNKNOWN_POS, when
    the client has to begin anew; M_BAD_JSON, M_INVALID_PARAM for what is malformed.

    Spec: MSC4186
    """
    state = request.query_choice("set_presence", *RANKS)
    desk = _desk(ctx)
    call = await _call(ctx, request, desk)
    with syncing(ctx, request.user_id, request.device_id, state):
        return await _answer(ctx, desk, call)


async def _call(ctx: Context, request: ClientRequest, desk: _Desk) -> _Call:
    try:
        wanted = parse_request(request.json_object(empty_ok=True), request.user_id)
        to_device = wanted.extensions.get(TO_DEVICE)
        received = 0 if to_device is None else parse_since(to_device.since)
    except Malformed as error:
        raise errors.of_caller(error) from None
    if not await ctx.live.view.wait_for_position(received, _PATIENCE_SECONDS):
        raise errors.invalid_param("to_device: this token is not one of this server's.")
    if request.device_id is None:
        raise errors.invalid_param("A connection belongs to a device; log in as one.")
    timeout_ms = request.query_int("timeout", wanted.timeout_ms or 0)
    wanted = replace(wanted, pos=request.query_str("pos") or wanted.pos or None)
    key = Key(request.user_id, request.device_id, wanted.conn_id)
    pos, state = None, State(secrets.token_hex(6), 0)
    if wanted.pos is not None:
        pos, state = await _come_back(ctx, desk, key, wanted.pos)
    return _Call(
        key=key,
        viewer=Viewer(request.user_id, request.device_id),
        request=wanted,
        asked=blake2b(request.body_bytes, digest_size=16).digest(),
        timeout_s=min(timeout_ms, MAX_TIMEOUT_MS) / 1000,
        pos=pos,
        state=state,
        identify=request.identify,
    )


async def _come_back(
    ctx: Context, desk: _Desk, key: Key, token: str
) -> tuple[Pos, State]:
    """What the client has that comes with this token. Raises: M_UNKNOWN_POS."""
    try:
        pos = parse_pos(token)
    except Malformed:
        raise errors.unknown_pos() from None
    state = await desk.connections.find(key, pos)
    if not await ctx.live.view.wait_for_position(pos.position, _PATIENCE_SECONDS):
        raise errors.unknown_pos()
    return Pos(max(pos.position, state.base), pos.name), state


async def _answer(ctx: Context, desk: _Desk, call: _Call) -> Answer:
    loop = asyncio.get_running_loop()
    live = ctx.live
    turn = object()
    desk.newest.put(call.key, turn)
    sent = desk.sent.of(call.viewer.user_id, call.key.device_id, call.state.birth)
    sent.confirm(None if call.pos is None else call.pos.position)
    sources = Sources.of(ctx, sent)
    deadline = loop.time() + call.timeout_s
    people = PROFILES in call.request.extensions
    quiet = desk.connections.quiet(call.key, call.pos, call.asked)
    while True:
        user = await live.user(call.viewer.user_id)
        if quiet is None or await live.view.has_moved(user, quiet.upto, people=people):
            made = await answers.make_answer(
                sources,
                desk.facts,
                call.viewer,
                call.request,
                user,
                Draft(call.state, 0 if call.pos is None else call.pos.position),
            )
            if call.pos is None:
                return await _give(desk, call, made)
            if desk.newest.get(call.key) not in {None, turn}:
                # Nobody reads this any more: the client has asked anew meanwhile.
                return _written(call.pos, made.counts)
            if made.has_news:
                return await _give(desk, call, made)
            quiet = _idle(desk, call, call.pos, made)
        elif live.is_stopping or loop.time() >= deadline:
            return _written(quiet.pos, quiet.counts)
        else:
            await live.wait(user, quiet.upto, deadline - loop.time(), people=people)
            await call.identify()


async def _give(desk: _Desk, call: _Call, made: answers.Answer) -> Answer:
    """The answer, once it is kept what the client then has."""
    if call.pos is not None and not made.draft.is_changed:
        pos = Pos(made.upto, call.pos.name)
    else:
        pos = await desk.connections.keep(call.key, call.pos, made.draft, made.upto)
    if made.is_all:
        quiet = Quiet(call.asked, made.upto, pos, made.counts)
        desk.connections.note_quiet(call.key, pos, quiet)
    return _written(pos, made.counts, made.rooms, made.extensions)


def _idle(desk: _Desk, call: _Call, pos: Pos, made: answers.Answer) -> Quiet:
    """Without news the token moves only when nothing needs to be kept."""
    if not made.draft.is_changed:
        pos = Pos(made.upto, pos.name)
    quiet = Quiet(call.asked, made.upto, pos, made.counts)
    desk.connections.note_quiet(call.key, pos, quiet)
    return quiet


def _written(
    pos: Pos,
    counts: Mapping[str, int],
    rooms: Mapping[str, object] = _NOTHING,
    extensions: Mapping[str, object] = _NOTHING,
) -> Answer:
    return {
        "pos": str(pos),
        "lists": {name: {"count": count} for name, count in counts.items()},
        "rooms": rooms,  # type: ignore[dict-item]
        "extensions": extensions,  # type: ignore[dict-item]
    }
