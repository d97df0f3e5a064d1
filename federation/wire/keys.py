"""Fetching the signing keys of servers, from themselves and through notaries.

What comes back is verified. Keeping it is the business of who asked; so is asking
rarely: "Requesting servers should limit how frequently they query for certificates".

Spec: server-server-api#retrieving-server-keys
"""

from collections.abc import Callable
from typing import TypeVar

from federation import server_keys
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import BadSignature
from federation.ids import ServerName
from federation.server_keys import KeyCriteria, NotaryAnswer, ServerKeys
from federation.wire.client import DEFAULT_LIMITS, Limits, WireClient, path_of
from federation.wire.errors import BadResponse
from federation.wire.reading import read

T = TypeVar("T")

_V2 = "/_matrix/key/v2"


async def get_server_key(
    client: WireClient, server: ServerName, limits: Limits = DEFAULT_LIMITS
) -> JsonValue:
    """A server's own key document, not verified yet.

    Spec: server-server-api#get_matrixkeyv2server
    """
    return await client.request(
        server, "GET", f"{_V2}/server", signed=False, limits=limits
    )


async def perspectives_key_query(
    client: WireClient,
    notary: ServerName,
    server: ServerName,
    minimum_valid_until_ts: int,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonValue:
    """What a notary has of one server, not verified yet.

    Spec: server-server-api#get_matrixkeyv2queryservername
    """
    return await client.request(
        notary,
        "GET",
        path_of(f"{_V2}/query", server),
        query=[("minimum_valid_until_ts", str(minimum_valid_until_ts))],
        signed=False,
        limits=limits,
    )


async def bulk_perspectives_key_query(
    client: WireClient,
    notary: ServerName,
    criteria: KeyCriteria,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonValue:
    """What a notary has of many servers, not verified yet.

    Spec: server-server-api#post_matrixkeyv2query
    """
    return await client.request(
        notary,
        "POST",
        f"{_V2}/query",
        body=server_keys.build_notary_query(criteria),
        signed=False,
        limits=limits,
    )


async def fetch_server_keys(
    client: WireClient, server: ServerName, now: int, limits: Limits = DEFAULT_LIMITS
) -> ServerKeys:
    """A server's keys from itself, verified. `now` is in milliseconds.

    Raises: NotReachable, RemoteError; BadResponse, also when signatures are wrong.
    """
    answer = await get_server_key(client, server, limits)
    return _verified(
        server, answer, lambda body: server_keys.parse(body, server, received_at=now)
    )


async def fetch_through_notary(
    client: WireClient,
    notary: ServerKeys,
    criteria: KeyCriteria,
    now: int,
    limits: Limits = DEFAULT_LIMITS,
) -> NotaryAnswer:
    """What a notary has of these servers, verified, and what could not be believed.

    `notary` holds the notary's own keys, fetched before. Documents of servers that
    nobody asked for are left out; a server may have several.

    Raises: NotReachable, RemoteError, BadResponse.
    """
    answer = await bulk_perspectives_key_query(
        client, notary.server_name, criteria, limits
    )
    found = _verified(
        notary.server_name,
        answer,
        lambda body: server_keys.parse_notary_response(body, notary, received_at=now),
    )
    wanted = tuple(keys for keys in found.keys if keys.server_name in criteria)
    return NotaryAnswer(wanted, found.refused)


def _verified(
    server: ServerName, answer: JsonValue, parse: Callable[[JsonObject], T]
) -> T:
    try:
        return read(server, answer, parse)
    except BadSignature as error:
        raise BadResponse(server, str(error)) from None
