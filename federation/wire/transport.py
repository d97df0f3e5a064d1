"""One HTTP request to one address, over verified TLS, with a bounded answer.

Names are looked up before (`discovery`), so a request goes to an IP address, says the
Host and wants the certificate that discovery found. Redirects are never followed here.
"""

import socket
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from federation.wire.addresses import AddressInfo, AddressPolicy, IPAddress
from federation.wire.options import WireOptions

# What an error's body may hold; more is cut off.
MAX_ERROR_BYTES: Final = 65_536
_NOT_CONNECTED: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ClientConnectorSSLError,
    aiohttp.ConnectionTimeoutError,
)


class NoConnection(Exception):  # noqa: N818 - reads as a sentence at the raise
    """No connection to this address, or no trust in it; nothing was sent."""


class NoAnswer(Exception):  # noqa: N818
    """The connection broke before the whole answer had come."""


class TooLong(Exception):  # noqa: N818
    """The answer is larger than asked for."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to connect to, and who is expected there.

    `tls_name` is the name or IP address that the certificate must be for.
    """

    address: IPAddress
    port: int
    host_header: str
    tls_name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response; of an error, the body's beginning."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Transport:
    """The connections of one client. To be made inside the event loop."""

    def __init__(self, options: WireOptions, policy: AddressPolicy) -> None:
        self._policy = policy
        self._tls = tls_context(
            verify=options.verify_certificates, ca_file=options.ca_file
        )
        self._max_connections = options.max_connections
        # aiohttp bounds connections in use, not those kept for later, so we count.
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # bounded by Slots
                resolver=_NoResolver(),
                keepalive_timeout=options.keep_alive_seconds,
                socket_factory=self._open_socket,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=options.connect_seconds
            ),
            headers={
                "User-Agent": options.user_agent,
                "Accept-Encoding": "gzip",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    @property
    def open_connections(self) -> int:
        """Connections in use and kept for later."""
        return sum(1 for each in self._sockets if each.fileno() != -1)

    def _has_many_connections(self) -> bool:
        # Closed sockets may stay in the set until garbage is collected.
        return (
            len(self._sockets) >= self._max_connections
            and self.open_connections >= self._max_connections
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _open_socket(self, info: AddressInfo) -> socket.socket:
        opened = self._policy.open_socket(info)
        self._sockets.add(opened)
        return opened

    async def send(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        max_bytes: int,
    ) -> Answer:
        """Send a request and read the whole answer; the caller limits the time.

        `target` goes onto the request line as it is. A request on a connection that
        the other end was just closing is sent once more.

        Raises: NoConnection, NoAnswer, TooLong.
        """
        url = URL(f"https://{_authority(endpoint)}{target}", encoded=True)
        all_headers = {**headers, "Host": endpoint.host_header}
        if self._has_many_connections():
            all_headers["Connection"] = "close"
        once_more = True
        while True:
            try:
                async with self._session.request(
                    method,
                    url,
                    headers=all_headers,
                    data=body,
                    ssl=self._tls,
                    server_hostname=endpoint.tls_name,
                    allow_redirects=False,
                ) as response:
                    return Answer(
                        response.status,
                        response.headers,
                        await _read(response, max_bytes),
                    )
            except _NOT_CONNECTED as error:
                raise NoConnection(_reason(error)) from error
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # aiohttp repeats idempotent methods itself, and no POST; those of the
                # server-server API bear repeating.
                if method != "POST" or not once_more:
                    raise NoAnswer(_reason(error)) from error
                once_more = False
            except (aiohttp.ClientError, ValueError, OSError) as error:
                raise NoAnswer(_reason(error)) from error

    async def open(
        self, endpoint: Endpoint, target: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a GET; the response, whose body is yet to be read and which to close.

        Raises: NoConnection, NoAnswer.
        """
        url = URL(f"https://{_authority(endpoint)}{target}", encoded=True)
        all_headers = {**headers, "Host": endpoint.host_header}
        if self._has_many_connections():
            all_headers["Connection"] = "close"
        try:
            return await self._session.get(
                url,
                headers=all_headers,
                ssl=self._tls,
                server_hostname=endpoint.tls_name,
                allow_redirects=False,
            )
        except _NOT_CONNECTED as error:
            raise NoConnection(_reason(error)) from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise NoAnswer(_reason(error)) from error


def _authority(endpoint: Endpoint) -> str:
    if endpoint.address.version == 6:
        return f"[{endpoint.address}]:{endpoint.port}"
    return f"{endpoint.address}:{endpoint.port}"


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body; counted as it comes, after decompression."""
    is_success = 200 <= response.status < 300
    most = max_bytes if is_success else MAX_ERROR_BYTES
    if is_success and (response.content_length or 0) > most:
        response.close()
        raise TooLong
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            response.close()
            if is_success:
                raise TooLong
            break
    return b"".join(chunks)[:most]


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def tls_context(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """How to judge certificates: by the system's authorities and those of a file.

    Who asks for the same gets the same object, so it must not be changed.

    Raises: OSError, when the file cannot be read or holds no certificates.
    """
    read_at = 0 if ca_file is None else Path(ca_file).stat().st_mtime_ns
    return _tls_context(verify, ca_file, read_at)


# The system's authorities take 25 ms to read and a megabyte to keep, each time.
@lru_cache(maxsize=8)
def _tls_context(verify: bool, ca_file: str | None, _read_at: int) -> ssl.SSLContext:  # noqa: FBT001 - a cache's key
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _NoResolver(AbstractResolver):
    """Refuses to look up names: requests go to addresses only."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del port, family
        raise OSError(f"{host} was not looked up beforehand")

    async def close(self) -> None:
        """Nothing is held."""
