"""Policy servers: rooms may name one that has to sign each event.

Check 7 on receipt of a PDU is `accept`'s; here is who has to sign, and how a signature
is asked for. Nobody holds the room meanwhile.

Spec: server-server-api#policy-servers
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from federation import canonical_json, signatures
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed, TooLarge
from federation.ids import EventId, KeyId, ServerName
from federation.pdu import MAX_PDU_BYTES, Pdu, stored_pdu
from federation.wire import calls
from federation.wire.client import Limits
from federation.wire.errors import NotReachable, RemoteError, WireError
from homeserver import errors
from homeserver.bounded import MIB, LruCache, Worth
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.live.live import Live
from homeserver.live.room import Room

POLICY: Final = ("m.room.policy", "")
# "The Key ID for the `ed25519` key in `m.room.policy` is always" this.
KEY_ID: Final = KeyId("ed25519:policy_server")
_MAX_ANSWER: Final = 64 * 1024
_KNOWN_SERVERS: Final = 3 * MIB
# Who has not answered is left alone for so long.
_QUIET_SECONDS: Final = 10.0
_AT_ONCE: Final = 10
# What a policy server may say to our users in its own words. Other errors, such as
# those that make clients log out, are about our server and not its to say.
_ITS_TO_SAY: Final = frozenset(
    ("M_FORBIDDEN", "M_NOT_FOUND", "M_UNRECOGNIZED", "M_BAD_JSON", "M_NOT_JSON")
)
_REFUSALS: Final = (400, 403, 404)
_TOO_MANY_REQUESTS: Final = 429

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyServer:
    """Who has to sign a room's events, and with which key."""

    name: ServerName
    public: bytes

    def has_signed(self, pdu: Pdu) -> bool:
        """Whether the event has this server's valid signature."""
        signature = signatures.signature_of(pdu.json, self.name, KEY_ID)
        return signature is not None and signatures.is_valid_signature(
            pdu.signable, signature, self.public
        )


class NotRecommended(Exception):  # noqa: N818 - reads as what happened
    """The event lacks the policy server's signature; `answer` is for its sender."""

    def __init__(self, answer: MatrixError) -> None:
        super().__init__(answer.safe_message)
        self.answer = answer


class Unsigned(Exception):  # noqa: N818 - tells the caller whom to ask
    """The event is allowed, but this policy server has to be asked about it first."""

    def __init__(self, server: PolicyServer) -> None:
        super().__init__(f"{server.name} has not signed the event")
        self.server = server


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy server makes of an event, which may have its signature now."""

    pdu: Pdu
    is_recommended: bool


class PolicyServers:
    """Which policy servers did not answer lately."""

    def __init__(self) -> None:
        self.quiet_until: LruCache[ServerName, float] = LruCache(
            "silent policy servers", _KNOWN_SERVERS, 130, Worth.NEEDED
        )


async def policy_server(
    live: Live, room: Room, event_nid: int | None
) -> PolicyServer | None:
    """The server that the room's `m.room.policy` with that number makes one.

    Spec: server-server-api#determining-if-a-policy-server-is-enabled-in-a-room
    """
    event = None if event_nid is None else await live.events.by_nid(event_nid)
    if event is None:
        return None
    via = event.shown.content.get("via")
    keys = event.shown.content.get("public_keys")
    key = keys.get("ed25519") if isinstance(keys, dict) else None
    if not isinstance(via, str) or not isinstance(key, str):
        return None
    name = ServerName(via)
    if room.servers.get(name, 0) <= 0:
        return None
    try:
        return PolicyServer(name, signatures.decode_base64(key))
    except Malformed:
        return PolicyServer(name, b"")  # there is one, but nothing it signs is valid


async def is_advised_against(
    live: Live, room: Room, event_nid: int | None, pdu: Pdu, *, said: bool | None
) -> bool:
    """Check 7: whether the room's policy server would not have the event.

    `event_nid` as in `policy_server`; `said` is what the server makes of the event,
    None when it was not asked.

    Raises: Unsigned, when it has to be asked.
    """
    if event_nid is None or pdu.key == POLICY or said:
        return False
    server = await policy_server(live, room, event_nid)
    if server is None or server.has_signed(pdu):
        return False
    if said is None:
        raise Unsigned(server)
    return True


async def judge(ctx: Context, server: PolicyServer, pdu: Pdu) -> Judgement:
    """Ask about another server's event, unless it is signed."""
    try:
        return Judgement(await recommended(ctx, server, pdu), is_recommended=True)
    except NotRecommended as error:
        log.info(
            "event not recommended",
            event_id=pdu.event_id,
            policy_server=server.name,
            reason=str(error),
        )
        return Judgement(pdu, is_recommended=False)
    except TooLarge:  # with one signature more
        return Judgement(pdu, is_recommended=True)


async def judge_all(
    ctx: Context, room: Room, pdus: Iterable[Pdu]
) -> dict[EventId, Judgement]:
    """Ask about several events at once; nothing, when the room has no policy server."""
    server = await policy_server(ctx.live, room, room.state.get(POLICY))
    if server is None:
        return {}
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(pdu: Pdu) -> Judgement:
        async with slots:
            return await judge(ctx, server, pdu)

    asked = [pdu for pdu in pdus if pdu.key != POLICY]
    judgements = await asyncio.gather(*map(one, asked))
    return {pdu.event_id: found for pdu, found in zip(asked, judgements, strict=True)}


async def recommended(ctx: Context, server: PolicyServer, pdu: Pdu) -> Pdu:
    """The event with the policy server's signature.

    Without it when the server does not answer and the configuration has that accepted.

    Raises: NotRecommended; TooLarge, when there is no room for the signature.
    """
    if server.has_signed(pdu):
        return pdu
    try:
        given = await _ask(ctx, server.name, pdu)
    except RemoteError as error:
        if error.status in _REFUSALS:
            raise NotRecommended(_verbatim(error)) from error
        if error.status == _TOO_MANY_REQUESTS:
            return _unchecked(ctx, pdu, _later(error))
        return _unchecked(ctx, pdu, _no_answer(error))
    except WireError as error:
        return _unchecked(ctx, pdu, _no_answer(error))
    signed = _with_signature(pdu, server.name, given)
    if not server.has_signed(signed):
        raise NotRecommended(
            errors.forbidden(
                "The room's policy server has not signed with the key that the room"
                " names."
            )
        )
    return signed


async def _ask(ctx: Context, name: ServerName, pdu: Pdu) -> JsonObject:
    quiet_until = ctx.parts.get(PolicyServers).quiet_until
    now = ctx.clock.monotonic()
    until = quiet_until.get(name)
    if until is not None and until > now:
        raise NotReachable(name, "it did not answer just now")
    # Tried also when its server was down lately: somebody waits to speak here.
    limits = Limits(
        seconds=ctx.config.policy_servers.timeout_s,
        max_bytes=_MAX_ANSWER,
        ignore_backoff=True,
    )
    try:
        answer = await calls.ask_policy_server_to_sign(ctx.wire, name, pdu.json, limits)
    except NotReachable:
        quiet_until.put(name, ctx.clock.monotonic() + _QUIET_SECONDS)
        raise
    quiet_until.pop(name)
    return answer


def _with_signature(pdu: Pdu, name: ServerName, given: JsonObject) -> Pdu:
    """The event with that one signature of what was answered; the others are kept."""
    theirs = given.get(name)
    signature = theirs.get(KEY_ID) if isinstance(theirs, dict) else None
    if not isinstance(signature, str):
        return pdu
    there = pdu.json.get("signatures")
    all_signed: dict[str, JsonValue] = dict(there) if isinstance(there, dict) else {}
    before = all_signed.get(name)
    all_signed[name] = {
        **(before if isinstance(before, dict) else {}),
        KEY_ID: signature,
    }
    event: JsonObject = {**pdu.json, "signatures": all_signed}
    if len(canonical_json.encode(event)) > MAX_PDU_BYTES:
        raise TooLarge("there is no room for the policy server's signature")
    return stored_pdu(event, pdu.version, pdu.event_id, pdu.room_id)


# ── What the sender is told ──────────────────────────────────────────────────────────


def _unchecked(ctx: Context, pdu: Pdu, answer: MatrixError) -> Pdu:
    if ctx.config.policy_servers.when_unreachable == "accept":
        return pdu
    raise NotRecommended(answer)


def _verbatim(error: RemoteError) -> MatrixError:
    # "That error SHOULD be provided to the client verbatim."
    if error.errcode not in _ITS_TO_SAY:
        why = error.message or error.errcode or f"HTTP {error.status}"
        return errors.forbidden(f"The room's policy server refuses this: {why}.")
    return MatrixError(error.status, error.errcode, error.message)


def _later(error: RemoteError) -> MatrixError:
    return errors.limit_exceeded(error.retry_after_ms or 1000)


def _no_answer(error: WireError) -> MatrixError:
    log.info("policy server does not answer", server=error.server, reason=error.why)
    return errors.bad_gateway(
        "The room's policy server does not answer. Try again in a while."
    )
