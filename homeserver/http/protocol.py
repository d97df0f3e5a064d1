"""A connection, with a bound on everything that a slow or silent peer could hold.

aiohttp waits as long as the peer likes, for a request's head and for a response to be
read. Here a connection that does not complete a request's head in `IDLE_SECONDS` ends
(that also bounds keep-alive), and so does one that reads nothing of its response for
`STALL_SECONDS`. A request whose endpoint waits for news ends with its connection.
"""

import asyncio
from typing import Any, Final

import structlog
from aiohttp.web import BaseRequest, RequestHandler, Server, StreamResponse

from homeserver import errors
from homeserver.http import replies
from homeserver.http.crowd import CROWD

# Longer than reverse proxies keep an idle connection (nginx: 60 s), so that it is they
# who close and no request meets a closed connection.
IDLE_SECONDS: Final = 75.0
STALL_SECONDS: Final = 60.0
# So much must be read in that time: over the slowest telephone it takes seconds.
LEAST_READ: Final = 16 * 1024
# An inline filter in /sync makes a long line; a token of an application service, a
# long field.
MAX_LINE: Final = 32 * 1024
MAX_FIELD: Final = 16 * 1024
_LOOK_SECONDS: Final = 0.02

log = structlog.get_logger(__name__)


class Connection(RequestHandler):
    """One connection of a client or a server."""

    __slots__ = ("_stall", "_unsent", "waiting_task")

    def __init__(self, manager: Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            # How long the rest of a body that nobody wants is read away.
            lingering_time=2.0,
            # One line a request costs as much as the request.
            access_log=None,  # type: ignore[arg-type]
        )
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0
        # The task of an endpoint that waits for news, while it does.
        self.waiting_task: asyncio.Task[Any] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._current_request is None

    def end(self) -> None:
        """Cut it: there are too many, or it reads nothing."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        super().connection_made(transport)
        CROWD.enter(self)

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write: look whether it reads at all."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        super().resume_writing()
        CROWD.caught_up(self)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _watch(self) -> None:
        if self.transport is not None:
            self._unsent = self.transport.get_write_buffer_size()
            self._stall = self._loop.call_later(STALL_SECONDS, self._check_progress)
            CROWD.behind(self, self._unsent)

    def _check_progress(self) -> None:
        self._stall = None
        if self.transport is None:
            return
        read = self._unsent - self.transport.get_write_buffer_size()
        if read < min(LEAST_READ, self._unsent):
            self.transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The peer is gone: nobody waits for news any more."""
        CROWD.leave(self)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().connection_lost(exc)
        if self.waiting_task is not None:
            self.waiting_task.cancel()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - may quote the peer's bytes
    ) -> StreamResponse:
        """Answer what is not HTTP, and what went wrong below `dispatch`."""
        if isinstance(exc, ConnectionError):
            raise exc  # the peer is gone; `dispatch` lets no other one out
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun; it can only be cut")
        if status >= 500:
            log.error("http request failed", exc_info=exc)
            error = errors.internal()
        else:
            log.debug("not http", reason=str(exc))
            error = errors.unknown("The request is not well-formed HTTP.")
        answer = replies.response(
            replies.Reply(error.status, error.body()), replies.common_headers("")
        )
        answer.force_close()
        return answer


class HttpServer(Server):
    """aiohttp's low-level server, with our connections."""

    async def until_unused(self) -> None:
        """Wait until it has no connection; it is about to end, so nobody is told."""
        while self._connections:  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(_LOOK_SECONDS)

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop)
