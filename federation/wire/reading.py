"""From the JSON of an answer to what a call returns."""

from collections.abc import Callable
from typing import Final, TypeVar

from federation import bodies
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import ServerName
from federation.wire.client import Limits
from federation.wire.errors import BadResponse

T = TypeVar("T")

V1: Final = "/_matrix/federation/v1"
V2: Final = "/_matrix/federation/v2"

# Answers that hold the state of a room: 100,000 members and more.
ROOM_LIMITS: Final = Limits(seconds=300.0, max_bytes=200 * 2**20)


def read(server: ServerName, answer: JsonValue, parse: Callable[[JsonObject], T]) -> T:
    """The parsed answer. Raises: BadResponse.

    "all endpoints in this specification require the destination server to return a
    JSON object".
    """
    if not isinstance(answer, dict):
        raise BadResponse(server, "the answer is not a JSON object")
    try:
        return parse(answer)
    except Malformed as error:
        raise BadResponse(server, str(error)) from None


def read_v1(
    server: ServerName, answer: JsonValue, parse: Callable[[JsonObject], T]
) -> T:
    """The parsed answer of an old endpoint, `[200, {…}]`. Raises: BadResponse."""
    try:
        return parse(bodies.parse_v1_answer(answer))
    except Malformed as error:
        raise BadResponse(server, str(error)) from None
