"""Calls to servers that are no homeservers, as users' clients name them.

Names and addresses that clients give lead only where `federation.allow_addresses` and
the public internet are; redirects are the callers' to refuse.
"""

import aiohttp

from federation.wire.addresses import AddressPolicy
from federation.wire.transport import tls_context
from homeserver.config import Config


def guarded_session(
    config: Config,
    *,
    seconds: float,
    connect_seconds: float,
    connections: int,
    per_host: int = 0,
) -> aiohttp.ClientSession:
    """A session that cannot reach into the operator's network; close it after use.

    `per_host`: the most connections to one server; 0 is no bound of its own.
    """
    federation = config.federation
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections,
            limit_per_host=per_host,
            socket_factory=AddressPolicy(config.allowed_networks).open_socket,
            ssl=tls_context(
                verify=federation.verify_certificates,
                ca_file=federation.ca_file or None,
            ),
        ),
        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=connect_seconds),
        headers={"User-Agent": "hearth"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def open_session(
    config: Config, *, seconds: float, connections: int
) -> aiohttp.ClientSession:
    """A session for what the operator has named, wherever it is; close it after use."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections,
            ssl=tls_context(verify=True, ca_file=config.federation.ca_file or None),
        ),
        timeout=aiohttp.ClientTimeout(total=seconds),
        headers={"User-Agent": "hearth"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


class AnswerTooLong(ValueError):  # noqa: N818 - reads as what happened
    """A server sends more than it has to say."""


async def read_answer(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole body. Raises: AnswerTooLong, when it has more than `most` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            response.close()
            raise AnswerTooLong("the answer is too long")
    return bytes(body)
