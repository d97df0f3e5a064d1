"""What joins, knocks and leaves through another server have in common.

A server in the room gives a template of the member event; we complete and sign it and
hand it in. Every server that may help is tried in turn.

Spec: server-server-api#joining-rooms
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from federation import signatures
from federation.bodies import EventTemplate
from federation.canonical_json import JsonObject
from federation.errors import Malformed, ProtocolError
from federation.ids import RoomId, ServerName, UserId
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import ROOM_VERSIONS, EventIdFormat, RoomVersion
from federation.wire.client import DEFAULT_LIMITS, Limits
from federation.wire.errors import BadResponse, NotReachable, RemoteError, WireError
from homeserver import errors
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.rooms.missing import Unfetchable

T = TypeVar("T")

VOUCHER: Final = "join_authorised_via_users_server"
# What of a template is taken over; the rest is ours to say.
_FROM_TEMPLATE: Final = (
    *("type", "room_id", "sender", "state_key"),
    *("depth", "prev_events", "auth_events"),
)
_MAX_SERVERS: Final = 20
_MAX_TEXT: Final = 200
# Errors of others that say something to the user, the most telling first.
_TELLING: Final = (
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_FORBIDDEN",
    "M_INVITE_BLOCKED",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_NOT_FOUND",
)

log = structlog.get_logger(__name__)


class UnknownVersion(Exception):  # noqa: N818 - reads as what happened
    """The room has a version that we do not know."""

    def __init__(self, identifier: str) -> None:
        super().__init__(f"the room has version {identifier[:32]!r}")
        self.identifier = identifier


@dataclass(frozen=True, slots=True)
class Completed:
    """A member event of a user of ours, complete and signed."""

    pdu: Pdu
    version: RoomVersion


def complete(
    ctx: Context,
    template: EventTemplate,
    user_id: UserId,
    membership: str,
    content: JsonObject,
) -> Completed:
    """Complete a template with our content, hash and sign it.

    Raises: UnknownVersion, Malformed when the template cannot become an event.
    """
    version = ROOM_VERSIONS.get(template.room_version)
    if version is None:
        raise UnknownVersion(template.room_version)
    given = template.event.get("content")
    voucher = given.get(VOUCHER) if isinstance(given, dict) else None
    said: JsonObject = {**content, "membership": membership}
    if voucher is not None and membership == "join" and version.restricted_joins:
        said[VOUCHER] = voucher
    event: JsonObject = {
        name: value for name, value in template.event.items() if name in _FROM_TEMPLATE
    }
    event["content"] = said
    event["origin"] = ctx.server_name
    event["origin_server_ts"] = ctx.clock.ms()
    if version.event_id_format is EventIdFormat.FROM_SERVER:
        event["event_id"] = f"${secrets.token_urlsafe(18)}:{ctx.server_name}"
    signed = signatures.hash_and_sign_event(event, version, ctx.server_name, ctx.key)
    pdu = parse_pdu(signed, version)
    if pdu.sender != user_id or pdu.state_key != user_id:
        raise Malformed("the template is for another user")
    return Completed(pdu, version)


async def through_any(
    ctx: Context,
    what: str,
    room_id: RoomId,
    servers: Sequence[ServerName],
    attempt: Callable[[ServerName, Limits], Awaitable[T]],
    *,
    insists: bool = True,
) -> T:
    """The first attempt that succeeds. Attempts begin with a request of those limits.

    With `insists` a server that did not answer lately is asked all the same, once all
    others have failed: the user can do nothing without it.

    Raises: one MatrixError that says which servers were tried and why each failed.
    """
    failures: dict[ServerName, Exception] = {}

    async def tried(server: ServerName, limits: Limits) -> T | None:
        try:
            return await attempt(server, limits)
        except (WireError, ProtocolError, UnknownVersion, Unfetchable) as error:
            log.info(
                "handshake failed",
                what=what,
                room_id=room_id,
                via=server,
                reason=str(error),
            )
            failures[server] = error
            return None

    others = dict.fromkeys(server for server in servers if server != ctx.server_name)
    for server in [*others][:_MAX_SERVERS]:
        done = await tried(server, DEFAULT_LIMITS)
        if done is not None:
            return done
    skipped = [server for server, error in failures.items() if _was_skipped(error)]
    for server in skipped if insists else ():
        done = await tried(server, DEFAULT_LIMITS.insist())
        if done is not None:
            return done
    raise refusal(f"Cannot {what} this room", [*failures.items()])


def _was_skipped(error: Exception) -> bool:
    return isinstance(error, NotReachable) and error.retry_at is not None


def refusal(
    beginning: str, failures: Sequence[tuple[ServerName, Exception]]
) -> MatrixError:
    """What to tell the user when no server helped."""
    reasons = "; ".join(f"{server}: {_reason(error)}" for server, error in failures)
    message = f"{beginning}. {reasons or 'No server to ask'}."
    for errcode in _TELLING:
        for _, error in failures:
            found = _as_answer(error, errcode, message)
            if found is not None:
                return found
    return errors.bad_gateway(message)


def _as_answer(error: Exception, errcode: str, message: str) -> MatrixError | None:
    if isinstance(error, UnknownVersion) and errcode == "M_INCOMPATIBLE_ROOM_VERSION":
        return MatrixError(400, errcode, message, room_version=error.identifier)
    if isinstance(error, RemoteError) and error.errcode == errcode:
        version = error.body.get("room_version")
        if errcode == "M_INCOMPATIBLE_ROOM_VERSION" and isinstance(version, str):
            return MatrixError(error.status, errcode, message, room_version=version)
        return MatrixError(error.status, errcode, message)
    return None


def _reason(error: Exception) -> str:
    """Why a server did not help, without what only our administrator should know."""
    match error:
        case RemoteError():
            text = error.message or error.errcode or f"HTTP {error.status}"
        case BadResponse() | ProtocolError():
            text = "its answer breaks the specification"
        case UnknownVersion() | Unfetchable():
            text = str(error)
        case _:
            text = "not reachable"
    return text[:_MAX_TEXT].rstrip(". ")
