"""Checks 2 and 3 on receipt of a PDU: its signatures and its content hash.

Many events are checked in worker threads, which the signature library lets run beside
the event loop.

Spec: server-server-api#validating-hashes-and-signatures-on-received-events
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from federation import signatures
from federation.errors import BadSignature, Malformed, ProtocolError
from federation.ids import KeyId, ServerName, parse_user_id, server_of
from federation.pdu import Pdu
from federation.server_keys import MAX_VALIDITY_MS
from homeserver.context import Context, KnownKey
from homeserver.server_keys.find import Found, find_keys

_INLINE: Final = 2  # fewer are not worth the way to a thread
_BATCH: Final = 100
_COLLECTED: Final = 500  # events looked at before the event loop has its turn
# Servers sign with one key, or two while they change it.
_MAX_SIGNATURES: Final = 5
_POLICY_KEY: Final = "ed25519:policy_server"

_workers: Final = ThreadPoolExecutor(
    max_workers=max(2, os.cpu_count() or 1), thread_name_prefix="verify"
)


@dataclass(frozen=True, slots=True)
class Verified:
    """An event whose signatures hold; redacted, when its content hash does not.

    `vouched`: whether the server of `join_authorised_via_users_server` signed it.
    """

    pdu: Pdu
    vouched: bool


class KeyUnknown(BadSignature):
    """The key of a signature is not to be had now; that may pass."""

    def __init__(self, server: ServerName) -> None:
        super().__init__(f"{server} has signed with a key that is not to be had now")
        self.server = server


# An event, or why it has to be dropped.
Verdict = Verified | BadSignature


async def verify(ctx: Context, pdu: Pdu) -> Verified:
    """Check one event. Raises: BadSignature, when it has to be dropped."""
    verdict = (await verify_all(ctx, (pdu,)))[0]
    if isinstance(verdict, BadSignature):
        raise verdict
    return verdict


async def verify_all(ctx: Context, pdus: Sequence[Pdu]) -> list[Verdict]:
    """Check events; the answers are in their order. Fetches keys that are missing."""
    keys = await find_keys(ctx, await _wanted(pdus, ctx.clock.ms()))
    if len(pdus) <= _INLINE:
        return _check_batch(pdus, keys)
    loop = asyncio.get_running_loop()
    batches = await asyncio.gather(
        *(
            loop.run_in_executor(
                _workers, _check_batch, pdus[start : start + _BATCH], keys
            )
            for start in range(0, len(pdus), _BATCH)
        )
    )
    return [verdict for batch in batches for verdict in batch]


async def is_signed_by(ctx: Context, pdu: Pdu, server: ServerName) -> bool:
    """Whether one more server has signed the event, with a key that may sign it."""
    at = pdu.origin_server_ts if pdu.version.enforce_key_validity else 0
    keys = await find_keys(ctx, {server: dict.fromkeys(_key_ids(pdu, server), at)})
    message = pdu.signable
    return _is_signed(pdu, message, server, keys)


async def _wanted(
    pdus: Sequence[Pdu], now_ms: int
) -> dict[ServerName, dict[KeyId, int]]:
    """The keys that the events were signed with, and when those have to be valid."""
    wanted: dict[ServerName, dict[KeyId, int]] = {}
    for count, pdu in enumerate(pdus, 1):
        if count % _COLLECTED == 0:
            await asyncio.sleep(0)
        at = pdu.origin_server_ts if pdu.version.enforce_key_validity else 0
        if at > now_ms + MAX_VALIDITY_MS:
            at = 0  # no key is valid as long as that; do not ask for one
        for server in {*pdu.required_signers(), *_vouching_server(pdu)}:
            keys = wanted.setdefault(server, {})
            for key_id in _key_ids(pdu, server):
                keys[key_id] = max(at, keys.get(key_id, 0))
    return wanted


def _key_ids(pdu: Pdu, server: ServerName) -> list[KeyId]:
    found = signatures.key_ids_of(pdu.json, server)
    # The key of a room's policy server stands in the room, and is no key of a server.
    others = [key_id for key_id in found if key_id != _POLICY_KEY]
    return (others or found)[:_MAX_SIGNATURES]


def _vouching_server(pdu: Pdu) -> tuple[ServerName, ...]:
    """The server that has to vouch for a join to a restricted room."""
    if not pdu.version.restricted_joins or pdu.membership != "join":
        return ()
    user_id = pdu.content.get("join_authorised_via_users_server")
    try:
        return (server_of(parse_user_id(user_id)),) if isinstance(user_id, str) else ()
    except Malformed:
        return ()


def _check_batch(pdus: Sequence[Pdu], keys: Found) -> list[Verdict]:
    return [_check(pdu, keys) for pdu in pdus]


def _check(pdu: Pdu, keys: Found) -> Verdict:
    try:
        message = pdu.signable
        for server in pdu.required_signers():
            _check_signed(pdu, message, server, keys)
        vouched = all(
            _is_signed(pdu, message, server, keys) for server in _vouching_server(pdu)
        )
        strict = pdu.version.strict_canonical_json
        if not signatures.has_valid_content_hash(pdu.json, strict=strict):
            pdu = pdu.redacted()
    except BadSignature as error:
        return error
    except ProtocolError as error:  # redacted or not, it cannot be signed at all
        return BadSignature(str(error))
    return Verified(pdu, vouched)


def _is_signed(pdu: Pdu, message: bytes, server: ServerName, keys: Found) -> bool:
    try:
        _check_signed(pdu, message, server, keys)
    except BadSignature:
        return False
    return True


def _check_signed(pdu: Pdu, message: bytes, server: ServerName, keys: Found) -> None:
    """Raise BadSignature unless the server signed, and all its signatures hold.

    KeyUnknown, when nothing is wrong but that no key of its signatures is to be had.

    "If a signature is from an unknown or expired key, it is skipped."
    """
    is_signed = is_unknown = False
    for key_id in _key_ids(pdu, server):
        key = keys.get((server, key_id))
        if key is None:
            is_unknown = True
            continue
        if not _may_sign(key, pdu):
            continue
        signature = signatures.signature_of(pdu.json, server, key_id)
        if signature is None or not signatures.is_valid_signature(
            message, signature, key.public
        ):
            raise BadSignature(f"the signature of {server} with {key_id} is wrong")
        is_signed = True
    if not is_signed and is_unknown:
        raise KeyUnknown(server)
    if not is_signed:
        raise BadSignature(f"{server} has not signed the event with a key known of it")


def _may_sign(key: KnownKey, pdu: Pdu) -> bool:
    """Spec: rooms/v5#signing-key-validity-period."""
    if key.is_retired or pdu.version.enforce_key_validity:
        return pdu.origin_server_ts <= key.valid_until_ms
    return True
