"""Signed requests to other servers, bounded in time, size and number.

A request finds the server, tries its addresses in turn, and ends as JSON or as one of
the errors of `wire.errors`. A server that does not answer is left alone for a while.

Spec: server-server-api#authentication
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp

from federation import canonical_json, x_matrix
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import ServerName
from federation.signatures import SigningKey
from federation.wire import pieces
from federation.wire.addresses import AddressPolicy
from federation.wire.backoff import Backoff
from federation.wire.caching import retry_after
from federation.wire.discovery import Discovery
from federation.wire.dns import Resolver, SystemResolver
from federation.wire.errors import BadResponse, NotReachable, RemoteError, WireError
from federation.wire.options import WireOptions
from federation.wire.slots import NoSlot, Slots
from federation.wire.transport import (
    Answer,
    Endpoint,
    NoAnswer,
    NoConnection,
    TooLong,
    Transport,
)
from federation.wire.web import Web

_MAX_MESSAGE: Final = 1000
# Answers without an errcode that say nothing about the server behind a proxy.
_ABOUT_THE_REQUEST: Final = frozenset({413, 429})

Query = Sequence[tuple[str, str]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take.

    `seconds` covers everything, waiting for a free slot and discovery included.
    With `ignore_backoff` it is tried even when the server did not answer lately.
    """

    seconds: float = 30.0
    max_bytes: int = 10 * 2**20
    ignore_backoff: bool = False

    def insist(self) -> "Limits":
        """The same, but tried in any case."""
        return replace(self, ignore_backoff=True)


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class RequestReport:
    """How one request went, for whoever counts.

    `status` is None when no answer came; `error` names the error's class.
    """

    destination: ServerName
    method: str
    path: str
    status: int | None
    error: str | None
    seconds: float


def _target(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query, quote_via=quote, safe='')}" if query else path


def path_of(prefix: str, *segments: str) -> str:
    """A request path of a prefix and of segments that are escaped."""
    return prefix + "".join("/" + quote(segment, safe="") for segment in segments)


@dataclass(frozen=True, slots=True)
class _Request:
    destination: ServerName
    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None
    limits: Limits


class WireClient:
    """How one of our servers speaks to others. To be made inside the event loop.

    `clock` gives Unix time, since back-off outlives the process. `chance` gives numbers
    from 0 to 1. `on_request` is told how each request went; it must not raise.
    """

    def __init__(
        self,
        server_name: ServerName,
        key: SigningKey,
        options: WireOptions | None = None,
        *,
        resolver: Resolver | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        on_request: Callable[[RequestReport], None] | None = None,
    ) -> None:
        options = WireOptions() if options is None else options
        policy = AddressPolicy(options.allow_addresses)
        self.server_name = server_name
        self.key = key
        self.backoff = Backoff(clock, chance) if backoff is None else backoff
        self._clock = clock
        self._on_request = on_request
        self._slots = Slots(
            options.max_requests,
            options.max_requests_per_server,
            options.max_waiting_per_server,
        )
        # Files take long; what they hold must not keep events waiting.
        self._stream_slots = Slots(
            options.max_streams,
            options.max_streams_per_server,
            options.max_waiting_per_server,
        )
        self._transport = Transport(options, policy)
        # For URLs that do not belong to a server: redirects of media, link previews.
        self.web = Web(options, policy)
        self._resolver = (
            SystemResolver(options.dns_servers) if resolver is None else resolver
        )
        self.discovery = Discovery(
            self._resolver, self._transport, policy, options, clock, chance
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections and give up what is under way."""
        self.discovery.close()
        await self.web.close()
        await self._transport.close()
        await self._resolver.close()

    @property
    def open_connections(self) -> int:
        """Connections in use and kept for later."""
        return self._transport.open_connections

    async def request(
        self,
        destination: ServerName,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: JsonObject | None = None,
        signed: bool = True,
        limits: Limits = DEFAULT_LIMITS,
    ) -> JsonValue:
        """Send a request and give back the JSON of the answer.

        `path` is escaped already (see `path_of`), `query` is not. Only requests for
        keys are not signed, since keys come before signatures.

        Raises: NotReachable, RemoteError, BadResponse.
        Spec: server-server-api#request-authentication
        """
        target = _target(path, query)
        if body is None and method in ("POST", "PUT"):
            # "All `POST` and `PUT` endpoints require the requesting server to supply a
            # request body containing a (potentially empty) JSON object."
            body = {}
        headers = {"Accept": "application/json"}
        content = None if body is None else canonical_json.encode(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        if signed:
            headers["Authorization"] = x_matrix.sign(
                method, target, self.server_name, destination, content, self.key
            ).header
        request = _Request(destination, method, target, headers, content, limits)
        return await self._reported(request)

    @asynccontextmanager
    async def stream(
        self,
        destination: ServerName,
        path: str,
        *,
        query: Query = (),
        signed: bool = True,
        limits: Limits = DEFAULT_LIMITS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET something large; the answer, whatever its status, with its body to come.

        `limits.seconds` is how long the head may take; the caller bounds the rest, and
        turns aiohttp's errors while it reads into those of `wire.errors`.

        Raises: NotReachable.
        """
        target = _target(path, query)
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if signed:
            headers["Authorization"] = x_matrix.sign(
                "GET", target, self.server_name, destination, None, self.key
            ).header
        request = _Request(destination, "GET", target, headers, None, limits)
        if destination == self.server_name:
            raise NotReachable(destination, "that is ourselves")
        self._check_backoff(request)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(limits.seconds):
                    await stack.enter_async_context(
                        self._stream_slots.taken(destination)
                    )
                    response = await self._open(request)
            except NoSlot:
                raise NotReachable(destination, "too many files are waiting") from None
            except TimeoutError:
                raise NotReachable(destination, "time-out") from None
            stack.callback(response.close)
            yield response

    async def _open(self, request: _Request) -> aiohttp.ClientResponse:
        started = self._clock()
        try:
            return await self._at_any_address(
                request.destination,
                lambda endpoint: self._transport.open(
                    endpoint, request.target, request.headers
                ),
            )
        except NotReachable:
            self._failed(request.destination, started)
            raise

    async def _reported(self, request: _Request) -> JsonValue:
        started = time.monotonic()
        status: int | None = None
        error: str | None = None
        try:
            status, value = await self._in_turn(request)
        except RemoteError as problem:
            status, error = problem.status, type(problem).__name__
            raise
        except (WireError, asyncio.CancelledError) as problem:
            error = type(problem).__name__
            raise
        finally:
            if self._on_request is not None:
                self._on_request(
                    RequestReport(
                        destination=request.destination,
                        method=request.method,
                        path=request.target.partition("?")[0],
                        status=status,
                        error=error,
                        seconds=time.monotonic() - started,
                    )
                )
        return value

    async def _in_turn(self, request: _Request) -> tuple[int, JsonValue]:
        """Wait for a slot, then exchange; only the exchange can count as a failure."""
        destination = request.destination
        if destination == self.server_name:
            raise NotReachable(destination, "that is ourselves")
        started: float | None = None
        try:
            self._check_backoff(request)
            async with (
                asyncio.timeout(request.limits.seconds),
                self._slots.taken(destination),
            ):
                self._check_backoff(request)
                started = self._clock()
                return await self._exchange(request, started)
        except NoSlot:
            raise NotReachable(destination, "too many requests are waiting") from None
        except TimeoutError:
            if started is None:
                raise NotReachable(destination, "too many requests at once") from None
            self._failed(destination, started)
            raise NotReachable(destination, "time-out") from None

    def _check_backoff(self, request: _Request) -> None:
        if request.limits.ignore_backoff:
            return
        retry_at = self.backoff.retry_at(request.destination)
        if retry_at is not None:
            raise NotReachable(
                request.destination, "it did not answer before", retry_at
            )

    def _failed(self, destination: ServerName, started: float) -> None:
        self.discovery.forget(destination)
        self.backoff.failed(destination, started)

    async def _exchange(
        self, request: _Request, started: float
    ) -> tuple[int, JsonValue]:
        """Send the request and judge the answer, and by it whether the server lives."""
        destination = request.destination
        try:
            answer = await self._deliver(request)
        except NotReachable:
            self._failed(destination, started)
            raise
        except TooLong:
            self.backoff.sign_of_life(destination)
            raise BadResponse(
                destination,
                f"the answer is larger than {request.limits.max_bytes} bytes",
            ) from None
        if not 200 <= answer.status < 300:
            problem = remote_error(destination, answer, self._clock())
            if problem.errcode is None and answer.status not in _ABOUT_THE_REQUEST:
                # A web server or proxy answers, and no homeserver behind it.
                self._failed(destination, started)
            else:
                self.backoff.sign_of_life(destination)
            raise problem
        try:
            value = await _json_of(answer)
        except Malformed as error:
            self._failed(destination, started)
            raise BadResponse(destination, str(error)) from None
        self.backoff.sign_of_life(destination)
        return answer.status, value

    async def _deliver(self, request: _Request) -> Answer:
        return await self._at_any_address(
            request.destination,
            lambda endpoint: self._transport.send(
                endpoint,
                request.method,
                request.target,
                headers=request.headers,
                body=request.body,
                max_bytes=request.limits.max_bytes,
            ),
        )

    async def _at_any_address(
        self, destination: ServerName, send: Callable[[Endpoint], Awaitable[T]]
    ) -> T:
        """Try the server's addresses in turn, until one takes the request."""
        route = await self.discovery.route_to(destination)
        why: list[str] = []
        for endpoint in route.endpoints:
            try:
                return await send(endpoint)
            except NoConnection as error:
                why.append(str(error))
            except NoAnswer as error:
                raise NotReachable(destination, str(error)) from error
        raise NotReachable(destination, "; ".join(dict.fromkeys(why)))


async def _json_of(answer: Answer) -> JsonValue:
    """The JSON of a good answer. Raises: Malformed.

    "Servers must include a `Content-Type` header of `application/json`"; one that is
    missing is forgiven, another one is not.
    """
    content_type = answer.headers.get("Content-Type", "application/json")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Malformed(f"the answer is {media_type[:80]!r} and not JSON")
    return await pieces.parse(answer.body)


def remote_error(destination: ServerName, answer: Answer, now: float) -> RemoteError:
    """What an answer that is no success stands for."""
    try:
        body = canonical_json.parse_object(answer.body)
    except Malformed:
        body = {}
    errcode, message = body.get("errcode"), body.get("error")
    wait = retry_after(answer.headers, now)
    wait_ms = body.get("retry_after_ms")
    if wait is not None:
        wait_ms = int(wait * 1000)
    return RemoteError(
        server=destination,
        status=answer.status,
        errcode=errcode if isinstance(errcode, str) else None,
        message=message[:_MAX_MESSAGE] if isinstance(message, str) else "",
        body=body,
        retry_after_ms=(
            wait_ms
            if isinstance(wait_ms, int) and not isinstance(wait_ms, bool)
            else None
        ),
    )
