"""How a request to another server can end, other than well."""

from federation.canonical_json import JsonObject
from federation.ids import ServerName


class WireError(Exception):
    """A request to another server did not bring what was asked for."""

    def __init__(self, server: ServerName, why: str) -> None:
        super().__init__(f"{server}: {why}")
        self.server = server
        self.why = why


class NotReachable(WireError):  # noqa: N818 - reads as a sentence at the raise
    """No answer: no address, no connection, no trust, no time, or backing off.

    `retry_at` is set when the request was not even tried, since an earlier one failed:
    the Unix time from which the server will be tried again.
    """

    def __init__(
        self, server: ServerName, why: str, retry_at: float | None = None
    ) -> None:
        super().__init__(server, why)
        self.retry_at = retry_at


class BadResponse(WireError):  # noqa: N818
    """An answer that breaks the specification: not JSON, wrong shape, too large."""


class RemoteError(WireError):
    """The server answered with an error, or redirected a signed request.

    `errcode` is None when the answer was no Matrix error, as those of proxies.
    `retry_after_ms` is how long the server asks to wait, when it says so.
    """

    def __init__(
        self,
        server: ServerName,
        status: int,
        errcode: str | None,
        message: str,
        body: JsonObject,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(server, f"{status} {errcode or ''} {message}".rstrip())
        self.status = status
        self.errcode = errcode
        self.message = message
        self.body = body
        self.retry_after_ms = retry_after_ms
