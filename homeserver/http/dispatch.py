"""What every request goes through, and the one place that turns errors into answers.

In order: find the route; count it at the gate; learn who asks; count it against the
route's limit; read the body; call the endpoint; answer. Who asks comes before the body
except for servers, whose signature covers it.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import structlog
from aiohttp import ClientPayloadError
from aiohttp.web import BaseRequest, RequestPayloadError, StreamResponse

from federation.canonical_json import JsonObject
from federation.errors import ProtocolError
from homeserver import errors
from homeserver.context import Context
from homeserver.db.errors import CommitUnknown, DatabaseError, DatabaseUnavailable
from homeserver.errors import MatrixError
from homeserver.http import guests, replies
from homeserver.http.addresses import Proxies
from homeserver.http.auth import Authenticators, Who
from homeserver.http.files import in_thread, send_file
from homeserver.http.gate import Gate
from homeserver.http.limits import Limits, address_key
from homeserver.http.metrics import REQUESTS, RouteMetrics
from homeserver.http.moderation import check_locked, check_suspended
from homeserver.http.protocol import Connection
from homeserver.http.replies import FileBody, Headers, Reply, Stream
from homeserver.http.requests import (
    ClientRequest,
    FederationRequest,
    Request,
    Requester,
)
from homeserver.http.routes import FEDERATION, Route
from homeserver.http.trie import BadPath, Trie, split
from homeserver.live.committer import Overloaded
from homeserver.live.steps import Conflict

BODY_SECONDS: Final = 120.0
# In metrics: the client went away before there was an answer.
GONE: Final = 499
_IN_ROOM: Final = frozenset(("roomId", "roomIdOrAlias"))
_REFUSED: Final = (403, 404)

log = structlog.get_logger(__name__)

_request_ids = itertools.count(1)
_process: Final = secrets.token_hex(2)


@dataclass(frozen=True, slots=True)
class Hall:
    """What all listeners of one server share."""

    context: Context
    authenticators: Authenticators
    limits: Limits
    gate: Gate
    proxies: Proxies
    # One line a request costs as much as the request.
    log_requests: bool = False


class Dispatcher:
    """Answers the requests that reach one listener."""

    def __init__(self, hall: Hall, trie: Trie[Route]) -> None:
        self._hall = hall
        self._trie = trie
        self._metrics: dict[int, RouteMetrics] = {}
        self._unknown = REQUESTS.of("none", "none")

    async def __call__(self, raw: BaseRequest) -> StreamResponse:
        """Answer one request; never raises but for a lost connection."""
        started = time.perf_counter()
        structlog.contextvars.bind_contextvars(
            request_id=f"{_process}-{next(_request_ids)}"
        )
        url = raw.rel_url
        path = url.raw_path
        common = replies.common_headers(path)
        metrics = self._unknown
        status = GONE
        try:
            route, values = self._find(raw.method, path)
            if route is None:  # OPTIONS
                status = 204
                return replies.no_content(common)
            metrics = self._metrics_of(route)
            result = await self._answer(raw, route, values, common)
            status = result.status
        except Exception as error:
            if _is_gone(raw, error):
                raise
            result = _refuse(error, common)
            status = result.status
        finally:
            metrics.count(status, time.perf_counter() - started)
        if self._hall.gate.draining and not result.prepared:
            result.force_close()
        if self._hall.log_requests:
            log.info("request", method=raw.method, path=path, status=status)
        return result

    def _find(self, method: str, path: str) -> tuple[Route | None, Sequence[str]]:
        """The route and the values of its parameters; None for OPTIONS.

        Raises: 404 and 405 M_UNRECOGNIZED. Spec: client-server-api#common-error-codes
        """
        try:
            targets, values = self._trie.find(split(path))
        except BadPath as error:
            raise errors.invalid_param(f"The path cannot be read: {error}.") from None
        if not targets:
            raise errors.unrecognized()
        if method == "OPTIONS":
            return None, ()
        route = targets.get(method)
        if route is None:
            raise errors.wrong_method(", ".join(sorted(targets)))
        return route, values

    def _metrics_of(self, route: Route) -> RouteMetrics:
        metrics = self._metrics.get(id(route))
        if metrics is None:
            api = FEDERATION if route.apis == {FEDERATION} else "client"
            metrics = self._metrics[id(route)] = REQUESTS.of(api, route.operation)
        return metrics

    async def _answer(
        self,
        raw: BaseRequest,
        route: Route,
        values: Sequence[str],
        common: Headers,
    ) -> StreamResponse:
        """Let the request in, call the endpoint, and make the response."""
        hall = self._hall
        hall.gate.enter(long_poll=route.long_poll)
        try:
            request = await self._admit(raw, route, values)
            if route.long_poll:
                answer = await _while_connected(
                    raw, route.endpoint(hall.context, request)
                )
            else:
                answer = await self._call(route, request)
            if type(answer) is Stream:
                return await self._send(raw, answer, common)
            if type(answer) is FileBody:
                return await self._send_file(raw, answer, common)
            return replies.response(cast("JsonObject | Reply", answer), common)
        finally:
            hall.gate.leave(long_poll=route.long_poll, request=id(raw))

    async def _call(self, route: Route, request: Request) -> replies.Answer:
        """Call the endpoint; what it refuses about a room, it refuses as of now.

        What another process acknowledged a moment ago, such as the same user's join,
        may not have reached this one.
        """
        context = self._hall.context
        try:
            return await route.endpoint(context, request)
        except MatrixError as error:
            if error.status not in _REFUSED or _IN_ROOM.isdisjoint(route.names):
                raise
            if not await context.live.follower.was_behind():
                raise
        return await route.endpoint(context, request)

    async def _admit(
        self, raw: BaseRequest, route: Route, values: Sequence[str]
    ) -> Request:
        """Learn who asks, count it, and read the body."""
        hall = self._hall
        arguments = (
            raw,
            route.names,
            values,
            hall.proxies.peer(raw),
            hall.limits,
        )
        request: Request
        is_limited = True
        if route.who is Who.SERVER:
            request = served = FederationRequest(*arguments)
            await _receive(request, route, hall.gate)
            served.origin = await hall.authenticators.server(hall.context, served)
            key = str(served.origin)
        elif route.who is Who.NOBODY:
            request = Request(*arguments)
            key = address_key(request.ip)
        else:
            request = asked = ClientRequest(*arguments)
            token = token_of(raw, asked)
            if token is not None:
                asked.identify = partial(self._identify, asked, token, route, values)
                await asked.identify()
                key = str(asked.user_id)
                is_limited = not asked.who.is_unlimited
            elif route.who is Who.USER:
                raise errors.missing_token()
            else:
                asked.requester = None
                key = address_key(request.ip)
        if route.limit is not None and is_limited:
            hall.limits.spend(route.limit, key)
        if route.who is not Who.SERVER:
            await _receive(request, route, hall.gate)
        return request

    async def _identify(
        self, asked: ClientRequest, token: str, route: Route, values: Sequence[str]
    ) -> None:
        hall = self._hall
        who = await hall.authenticators.access_token(hall.context, asked, token)
        if who.is_guest and route.who is Who.USER:
            _check_guest(route, values)
        _check_standing(who, route, values)
        asked.requester = who

    async def _send(
        self, raw: BaseRequest, stream: Stream, common: Headers
    ) -> StreamResponse:
        """Send a body while it is made; cut the connection when that fails."""
        answer = replies.head(stream, common)
        if self._hall.gate.draining:
            answer.force_close()
        try:
            await answer.prepare(raw)
            async for chunk in stream.chunks:
                await answer.write(chunk)
        except Exception as error:
            if not _is_gone(raw, error):
                log.warning(
                    "a streamed response broke off",
                    # What others did wrong needs no trace.
                    exc_info=None if isinstance(error, MatrixError) else error,
                    reason=str(error),
                )
                _cut(raw)
            raise _Cut from error
        finally:
            close = getattr(stream.chunks, "aclose", None)
            if close is not None:
                await close()
            if stream.after is not None:
                stream.after()
        await answer.write_eof()
        return answer

    async def _send_file(
        self, raw: BaseRequest, body: FileBody, common: Headers
    ) -> StreamResponse:
        """Send part of a file; cut the connection when that fails."""
        answer = replies.head(body, common)
        if self._hall.gate.draining:
            answer.force_close()
        try:
            await send_file(raw, answer, body)
        except Exception as error:
            if not isinstance(error, ConnectionError):
                log.exception("a file could not be sent")
            _cut(raw)
            raise _Cut from error
        finally:
            # Closing a file can wait for the disk too.
            if body.after is not None:
                body.after()
            await asyncio.shield(in_thread(body.file.close))
        return answer


async def _while_connected(
    raw: BaseRequest, endpoint: Awaitable[replies.Answer]
) -> replies.Answer:
    """Await an endpoint that waits for news; it ends when the client goes away."""
    connection = cast("Connection", raw.protocol)
    connection.waiting_task = asyncio.current_task()
    try:
        return await endpoint
    finally:
        connection.waiting_task = None


class _Cut(ConnectionResetError):  # noqa: N818 - reads as what happened
    """A response had begun and could not be completed: we have cut the connection."""


def _is_gone(raw: BaseRequest, error: Exception) -> bool:
    """Whether the error only says that the client has left, or was cut off."""
    return isinstance(error, _Cut) or (
        isinstance(error, ConnectionError) and raw.transport is None
    )


def _cut(raw: BaseRequest) -> None:
    if raw.transport is not None:
        raw.transport.abort()


def _check_guest(route: Route, values: Sequence[str]) -> None:
    if not guests.may_call(route.operation, route.names, values):
        raise errors.guest_access_forbidden()


def token_of(raw: BaseRequest, request: Request) -> str | None:
    """The access token.

    COMPAT(clients of v1.10 and older): as a query parameter, which v1.11 deprecated
    and v1.20 drops; the versions that we advertise still have it.
    Spec: client-server-api#using-access-tokens
    """
    header = raw.headers.get("Authorization")
    if header is None:
        return request.query_str("access_token")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        return None
    return token.strip() or None


def _check_standing(who: Requester, route: Route, values: Sequence[str]) -> None:
    """The one place where locked and suspended users are refused."""
    if who.is_locked:
        check_locked(route.operation)
    if who.is_suspended:
        check_suspended(route.operation, route.names, values)


async def _receive(request: Request, route: Route, gate: Gate) -> None:
    """Read the body, up to the route's bound. Raises: M_TOO_LARGE, 408, 503."""
    raw = request.raw
    if not raw.can_read_body:
        return
    content = raw.content
    length = raw.content_length
    if length is not None and length > route.max_body:
        raise errors.too_large(f"At most {route.max_body} bytes are taken here.")
    if "Expect" in raw.headers and raw.transport is not None:
        # Sent only now, so that who is refused need not send the body.
        raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if route.streams_body:
        return
    if content.is_eof():
        # The usual case: it came together with the head.
        body = content.read_nowait()
        if len(body) > route.max_body:
            raise errors.too_large(f"At most {route.max_body} bytes are taken here.")
        request.receive(body)
        return
    parts: list[bytes] = []
    size = 0
    deadline = asyncio.timeout(BODY_SECONDS)
    try:
        async with deadline:
            gate.receive(deadline)
            while part := await content.readany():
                size += len(part)
                if size > route.max_body:
                    raise errors.too_large(
                        f"At most {route.max_body} bytes are taken here."
                    )
                gate.hold(id(raw), len(part))
                parts.append(part)
    except TimeoutError:
        raise errors.unknown("The body did not come in time.", status=408) from None
    finally:
        gate.received(deadline)
    request.receive(b"".join(parts))


def _refuse(error: Exception, common: Headers) -> StreamResponse:
    """The answer to an exception; unexpected ones are logged, never shown."""
    if not isinstance(error, MatrixError):
        error = _as_matrix_error(error)
    elif error.status >= 500:
        log.warning("request not answered", errcode=error.errcode, reason=str(error))
    reply = Reply(error.status, error.body(), error.headers)
    answer = replies.response(reply, common)
    if error.status in (408, 413):
        # The rest of the body is not worth waiting for.
        answer.force_close()
    return answer


def _as_matrix_error(error: Exception) -> MatrixError:
    if isinstance(error, ProtocolError):
        # An endpoint that deals with others' data turns their mistakes into its own
        # answers; what arrives here was the caller's.
        return errors.of_caller(error)
    if isinstance(error, ClientPayloadError | RequestPayloadError):
        return errors.unknown("The body cannot be read.")
    if isinstance(error, Overloaded | Conflict):
        return errors.overloaded()
    if isinstance(error, DatabaseUnavailable | CommitUnknown):
        log.debug("no database for a request", reason=str(error))
        return errors.unavailable()
    if isinstance(error, DatabaseError):
        log.error("the database failed", exc_info=error)
        return errors.unavailable()
    log.error("request failed", exc_info=error)
    return errors.internal()
