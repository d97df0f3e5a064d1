"""Servers without sockets, and the network between them.

A node is one process of one server: all of it that federation needs, on a database of
its own. Requests are signed, sent, dispatched and answered as ever; only the wire is
made up, and what happens on it is up to the dice.
"""

import asyncio
import contextlib
import contextvars
import functools
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
import structlog
from aiohttp.web import Response
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from federation.ids import DeviceId, KeyId, ServerName, UserId
from federation.signatures import SigningKey
from federation.wire import transport, web
from federation.wire.client import WireClient
from federation.wire.errors import NotReachable
from federation.wire.transport import Answer
from homeserver.app import AFTER_PERSIST, ENDPOINTS
from homeserver.bounded import MIB, LruCache
from homeserver.clock import Clock
from homeserver.context import Context
from homeserver.db.pool import Database
from homeserver.destinations import sender
from homeserver.destinations.sender import Sender
from homeserver.destinations.watch import EphemeralWatch
from homeserver.http import replies
from homeserver.http.addresses import Proxies
from homeserver.http.auth import Authenticators
from homeserver.http.dispatch import Dispatcher, Hall
from homeserver.http.gate import Gate
from homeserver.http.limits import Limits
from homeserver.http.requests import Requester
from homeserver.http.routes import build_trie, collect
from homeserver.live import follower
from homeserver.live.live import Live
from homeserver.push import store as push_store
from homeserver.server_keys.authenticate import authenticate_server
from tests.simulation.virtual import Tasks, course, in_order, on_question, tasks_of
from tests.support.app import configuration

CONNECTIONS: Final = 4
ROUTES: Final = collect(ENDPOINTS)
TRIE: Final = build_trie(ROUTES, ("client", "federation"))


def prepare() -> None:
    """Take out what is slow and what is another process's business."""

    @functools.cache
    def no_tls(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    transport.tls_context = no_tls
    web.tls_context = no_tls
    follower._POLL_SECONDS = 600.0  # one process a server: nobody to follow
    sender._SWEEP_SECONDS = 10.0
    create_pool = asyncpg.create_pool

    async def ready_pool(*args: Any, **options: Any) -> Any:
        # All connections at once and for good: opening one takes real time.
        fixed = {"min_size": CONNECTIONS, "max_inactive_connection_lifetime": 0}
        return await create_pool(*args, **options | fixed)

    asyncpg.create_pool = in_order(ready_pool, waits_for_locks=False)

    async def nothing(*_: Any) -> Any:
        return True

    Database.listen = nothing  # type: ignore[method-assign, assignment]
    Database.notify = nothing  # type: ignore[method-assign, assignment]


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def is_eof(self) -> bool:
        return True

    def read_nowait(self) -> bytes:
        return self._content


class _Raw:
    """As much of an aiohttp request as our endpoints look at."""

    transport = None
    protocol = None
    remote = "127.0.0.1"

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        self.method = method
        self.rel_url = URL(target, encoded=True)
        self.headers = CIMultiDictProxy(CIMultiDict(headers))
        self.can_read_body = body is not None
        self.content = _Body(body or b"")
        self.content_length = len(body or b"")


class _Dispatcher(Dispatcher):
    async def _send(self, raw: Any, stream: Any, common: Any) -> Any:
        body = b"".join([chunk async for chunk in stream.chunks])
        if stream.after is not None:
            stream.after()
        reply = replies.Reply(stream.status, body, stream.headers, stream.content_type)
        return replies.response(reply, common)


class _NoResolver:
    async def close(self) -> None:
        pass


class _Wire(WireClient):
    def __init__(self, node: "Node") -> None:
        super().__init__(node.name, node.key, resolver=_NoResolver())  # type: ignore[arg-type]
        self._node = node

    async def _deliver(self, request: Any) -> Answer:
        return await self._node.network.carry(self._node, request)


class Network:
    """Carries requests, loses some of them, and parts the servers."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.cut: set[frozenset[str]] = set()
        self.black_holes: set[frozenset[str]] = set()
        self.is_rough = False

    def heal(self) -> None:
        """Everything passes again, only slowly."""
        self.cut.clear()
        self.black_holes.clear()
        self.is_rough = False

    async def carry(self, source: "Node", request: Any) -> Answer:
        dice, name = course.dice, request.destination
        pair = frozenset((source.name, name))
        await asyncio.sleep(self._delay())
        if pair in self.black_holes:
            await asyncio.sleep(10_000)  # until whoever asked gives up
        target = self.nodes.get(name)
        if pair in self.cut or target is None or not target.is_up:
            raise NotReachable(name, "the cable is cut")
        if self.is_rough and dice.random() < 0.03:
            raise NotReachable(name, "lost on the way there")
        if self.is_rough and dice.random() < 0.05:
            target.spawn(self._again(target, request))
        answer = await target.answer(request)
        await asyncio.sleep(self._delay())
        if pair in self.cut or (self.is_rough and dice.random() < 0.03):
            raise NotReachable(name, "lost on the way back")
        return answer

    async def _again(self, target: "Node", request: Any) -> None:
        """The same request once more, some time later."""
        await asyncio.sleep(course.dice.random() * 5)
        with contextlib.suppress(NotReachable):
            await target.answer(request)

    def _delay(self) -> float:
        dice = course.dice
        slow = self.is_rough and dice.random() < 0.05
        return dice.uniform(0.5, 20.0) if slow else dice.uniform(0.005, 0.2)


class Node:
    """One server, which can be stopped, crashed and started again."""

    def __init__(self, network: Network, name: str, dsn: str, directory: Path) -> None:
        self.network = network
        self.name = ServerName(name)
        self.dsn = dsn
        self.key = SigningKey.from_seed(KeyId("ed25519:sim"), course.dice.randbytes(32))
        self.config = configuration(directory, server_name=name)
        self.is_up = False
        # Crash at so many questions to the database from now on.
        self.questions_left: float = float("inf")
        self.crashes = 0
        self.tasks = Tasks()
        self.ctx: Context
        self._sender: Sender
        self._dispatch: Dispatcher
        self._wire: _Wire | None = None
        self._database: Database | None = None
        network.nodes[name] = self

    def spawn(self, work: Any) -> "asyncio.Task[Any]":
        """Run something as part of this server: it ends with it."""
        context = contextvars.copy_context()
        context.run(tasks_of.set, self.tasks)
        context.run(on_question.set, self._on_question)
        context.run(structlog.contextvars.bind_contextvars, at=self.name)
        return asyncio.get_running_loop().create_task(work, context=context)

    def _on_question(self, is_after: bool) -> None:  # noqa: FBT001
        self.questions_left -= 0.5
        if self.questions_left <= 0:
            self.crash()
            raise asyncio.CancelledError

    async def start(self) -> None:
        """Start, or start again upon what the database has kept."""
        self.questions_left = float("inf")
        self.tasks = Tasks()
        await self.spawn(self._start())
        self.is_up = True

    async def _start(self) -> None:
        self._database = db = await Database.connect(self.dsn, size=CONNECTIONS)
        self._wire = wire = _Wire(self)
        live = Live(db, self.name, AFTER_PERSIST)
        await live.start()
        self.ctx = Context(
            config=self.config,
            server_name=self.name,
            db=db,
            key=self.key,
            wire=wire,
            live=live,
            clock=Clock(),
            known_keys=LruCache("server keys", MIB, 300),
            account_data_defaults={push_store.PUSH_RULES: push_store.default_content},
        )
        self._sender = await Sender(self.ctx).__aenter__()
        await EphemeralWatch(self.ctx, self._sender).__aenter__()

        async def who(_ctx: Any, _request: Any, token: str) -> Requester:
            return Requester(UserId(token), DeviceId("SIM"), token.encode())

        hall = Hall(
            context=self.ctx,
            authenticators=Authenticators(who, authenticate_server),
            limits=Limits(self.ctx.clock.monotonic, enabled=False),
            gate=Gate(),
            proxies=Proxies(),
        )
        self._dispatch = _Dispatcher(hall, TRIE)

    def crash(self) -> None:
        """End everything on the spot; what was not committed is lost."""
        if self._database is None:
            return
        self.is_up = False
        self.crashes += 1
        self.questions_left = float("inf")
        database, self._database = self._database, None
        database._pool.terminate()
        self.tasks.end()

    async def stop(self) -> None:
        """Stop in order, unless it crashes meanwhile."""
        self.is_up = False
        await asyncio.wait((self.spawn(self._stop()),))
        self.crash()

    async def _stop(self) -> None:
        await self._sender.__aexit__()
        await self.ctx.live.stop()

    async def forget(self) -> None:
        """Close what a crash leaves open in this process."""
        if self._wire is not None:
            await self._wire.close()

    async def answer(self, request: Any) -> Answer:
        """Another server's request. Raises: NotReachable, when this one is down."""
        if not self.is_up:
            raise NotReachable(self.name, "connection refused")
        work = self.spawn(
            self._serve(request.method, request.target, request.headers, request.body)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled() and not _is_cancelled():
                raise NotReachable(self.name, "connection reset") from None
            raise

    async def _serve(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        raw: Any = _Raw(method, target, headers, body)
        response = await self._dispatch(raw)
        assert isinstance(response, Response)
        content = response.body
        assert isinstance(content, bytes)
        return Answer(response.status, CIMultiDictProxy(response.headers), content)

    async def call(
        self, user_id: str, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, Any]:
        """What a client of ours asks; 0 when the server went away meanwhile."""
        if not self.is_up:
            return 0, {}
        target = path + ("?" + urlencode(query) if query else "")
        content = None if body is None else json.dumps(body).encode()
        headers = {
            "Authorization": f"Bearer {user_id}",
            "Content-Type": "application/json",
        }
        work = self.spawn(self._serve(method, target, headers, content))
        await asyncio.wait((work,))
        if work.cancelled():
            return 0, {}
        answer = work.result()
        return answer.status, json.loads(answer.body)

    async def query(self, sql: str, *arguments: Any) -> list[Any]:
        async def ask() -> list[Any]:
            async with self.ctx.db.read() as tx:
                return list(await tx.fetch(sql, *arguments))

        return await self.spawn(ask())


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
