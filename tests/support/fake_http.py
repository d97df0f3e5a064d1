"""An HTTP server with a few endpoints of its own, to test `homeserver/http` alone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from federation.errors import Malformed, Rejected, TooLarge
from federation.ids import DeviceId, EventId, RoomId, ServerName, UserId
from homeserver import errors
from homeserver.db.errors import CommitUnknown, DatabaseUnavailable
from homeserver.http.addresses import Proxies
from homeserver.http.auth import (
    Authenticators,
    by_access_token,
    by_server,
    nobody,
    optional_access_token,
)
from homeserver.http.dispatch import Hall
from homeserver.http.gate import Gate
from homeserver.http.limits import Limit, Limits
from homeserver.http.replies import Answer, Reply, Stream
from homeserver.http.requests import (
    ClientRequest,
    FederationRequest,
    Request,
    Requester,
)
from homeserver.http.routes import collect, route
from homeserver.http.server import Listeners
from homeserver.http.sockets import Address

V3 = "/_matrix/client/v3"
FEDERATION = "/_matrix/federation/v1"
ALICE = UserId("@alice:hearth.test")
few = Limit("few", per_second=0.5, burst=3)


class Form(msgspec.Struct, kw_only=True):
    name: str
    size: int = 0
    flag: bool | None = None
    more: dict[str, Any] = {}


@dataclass
class State:
    """What the endpoints share with the test."""

    now: float = 1000.0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    slow: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)


@route("GET", V3 + "/rooms/{roomId}/event/{eventId}", auth=by_access_token)
async def get_one_room_event(state: State, request: ClientRequest) -> Answer:
    return {
        "room_id": request.path(RoomId, "roomId"),
        "event_id": request.path(EventId, "eventId"),
        "user_id": request.user_id,
        "device_id": request.device_id,
    }


@route(
    "GET",
    V3 + "/rooms/{roomId}/state/{eventType}/{stateKey}",
    auth=by_access_token,
    aliases=(V3 + "/rooms/{roomId}/state/{eventType}",),
)
async def get_room_state_with_key(state: State, request: ClientRequest) -> Answer:
    return {"state_key": request.path(str, "stateKey")}


@route("PUT", V3 + "/content/{x}", auth=by_access_token)
async def put_content(state: State, request: ClientRequest) -> Answer:
    return request.event_content()


@route("POST", V3 + "/object", auth=nobody, since="1.1", max_body=1000)
async def post_object(state: State, request: Request) -> Answer:
    return request.json_object(empty_ok=request.query_bool("empty_ok"))


@route("POST", V3 + "/form", auth=nobody)
async def post_form(state: State, request: Request) -> Answer:
    form = request.body(Form)
    return {"name": form.name, "size": form.size, "flag": form.flag}


@route("GET", V3 + "/query", auth=nobody)
async def get_query(state: State, request: Request) -> Answer:
    return {
        "int": request.query_int("int", 10, minimum=1, at_most=100),
        "bool": request.query_bool("bool"),
        "dir": request.query_choice("dir", "b", "f"),
        "via": request.query_list("via"),
        "user": request.query(UserId, "user"),
        "must": request.query_required("must"),
    }


@route("GET", V3 + "/maybe", auth=optional_access_token)
async def get_maybe(state: State, request: ClientRequest) -> Answer:
    return {"user_id": request.requester.user_id if request.requester else None}


@route("GET", V3 + "/limited", auth=nobody, limit=few)
async def get_limited(state: State, request: Request) -> Answer:
    return {"ip": request.ip}


FAILURES: dict[str, Exception] = {
    "bug": KeyError("a secret"),
    "connection": ConnectionRefusedError("a secret"),
    "timeout": TimeoutError("a secret"),
    "malformed": Malformed("user ID '\ud800' must begin with '@'"),
    "too_large": TooLarge("an event has at most 65536 bytes"),
    "rejected": Rejected("5.3.3", "the user is banned"),
    "database": DatabaseUnavailable("postgres://secret is away"),
    "unknown": CommitUnknown("lost"),
    "gateway": errors.bad_gateway("hs.test did not answer."),
}


@route("GET", V3 + "/fail/{how}", auth=nobody)
async def get_fail(state: State, request: Request) -> Answer:
    raise FAILURES[request.path(str, "how")]


@route("GET", V3 + "/wait", auth=nobody, long_poll=True)
async def get_wait(state: State, request: Request) -> Answer:
    state.seen.append("waiting")
    try:
        await state.news.wait()
    except asyncio.CancelledError:
        state.seen.append("left")
        raise
    return {"news": True}


@route("POST", V3 + "/slow", auth=nobody)
async def post_slow(state: State, request: Request) -> Answer:
    state.seen.append("slow")
    await state.slow.wait()
    return {"done": True}


@route("GET", V3 + "/stream/{parts}", auth=nobody)
async def get_stream(state: State, request: Request) -> Answer:
    parts = request.path(str, "parts")

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b'{"parts":['
            for part in range(abs(int(parts))):
                yield b"%d," % part
            if parts.startswith("-"):
                raise RuntimeError("it broke")
            yield b"0]}"
        finally:
            state.seen.append("stream closed")

    return Stream(chunks())


@route("GET", V3 + "/reply", auth=nobody)
async def get_reply(state: State, request: Request) -> Answer:
    return Reply(201, b"plain", {"X-More": "1"}, content_type="text/plain")


@route("GET", V3 + "/reply/{size}", auth=nobody)
async def get_big_reply(state: State, request: Request) -> Answer:
    return Reply(200, bytes(request.path(int, "size")), content_type="text/plain")


@route("PUT", FEDERATION + "/send/{txnId}", auth=by_server, max_body=100_000)
async def send_transaction(state: State, request: FederationRequest) -> Answer:
    return {"origin": request.origin, "content": request.json_object()}


@route("GET", "/metrics", auth=nobody)
async def get_metrics(state: State, request: Request) -> Answer:
    return Reply(200, b"# metrics", content_type="text/plain")


async def check_token(_: State, request: Request, token: str) -> Requester:
    if token != "good":
        raise errors.unknown_token()
    return Requester(ALICE, DeviceId("PHONE"))


async def check_server(_: State, request: FederationRequest) -> ServerName:
    if request.headers.get("Authorization") != "X-Matrix signed":
        raise errors.unauthorized("The signature does not fit.")
    return ServerName("origin.test")


ROUTES = collect([sys.modules[__name__]])


@dataclass
class FakeServer:
    """A running server, and calls to it."""

    state: State
    hall: Hall
    listeners: Listeners
    addresses: list[Address]
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return self.addresses[0].port

    async def call(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """One call, the target sent as it is; status, JSON and headers."""
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self.session.request(
            method, url, data=body, headers=headers, timeout=aiohttp.ClientTimeout(10)
        ) as reply:
            text = await reply.read()
            found = dict(reply.headers)
            if reply.content_type != "application/json" or not text:
                return reply.status, text, found
            return reply.status, msgspec.json.decode(text), found

    async def raw(self, sent: bytes) -> bytes:
        """What comes back on a connection of its own, until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def fake_server(
    *, serves: tuple[str, ...] = ("client", "federation"), gate: Gate | None = None
) -> AsyncIterator[FakeServer]:
    state = State()
    hall = Hall(
        context=state,
        authenticators=Authenticators(check_token, check_server),
        limits=Limits(lambda: state.now),
        gate=gate or Gate(),
        proxies=Proxies(),
    )
    listeners = Listeners(hall, ROUTES)
    addresses = await listeners.start([Address("127.0.0.1", 0, serves)])
    async with aiohttp.ClientSession() as session:
        try:
            yield FakeServer(state, hall, listeners, addresses, session)
        finally:
            state.news.set()
            state.slow.set()
            await listeners.stop(2)
