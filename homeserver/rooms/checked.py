"""Checks 1 to 3 on events from other servers: format, signatures, hashes.

Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

import asyncio
from collections.abc import Container, Sequence
from typing import Final

import structlog

from federation.canonical_json import JsonObject
from federation.errors import BadSignature, ProtocolError
from federation.ids import EventId, RoomId
from federation.pdu import Pdu, parse_pdu
from federation.room_versions import RoomVersion
from homeserver.context import Context
from homeserver.server_keys.verify import Verified, verify_all

_INLINE: Final = 20  # parsing one takes some 50 µs
_BATCH: Final = 500

log = structlog.get_logger(__name__)


async def check_events(
    ctx: Context,
    room_id: RoomId,
    version: RoomVersion,
    raws: Sequence[JsonObject],
    *,
    known: Container[EventId] = (),
    dropped: dict[EventId, BadSignature] | None = None,
) -> dict[EventId, Verified]:
    """The events that pass, each once; the others are dropped, as are the known ones.

    For answers to what we asked. References are not counted, as those to backfill
    "MUST NOT be validated on these specific restrictions". `dropped` takes those whose
    signatures do not hold.
    """
    pdus: dict[EventId, Pdu] = {}
    for start in range(0, len(raws), _BATCH):
        batch = raws[start : start + _BATCH]
        if len(raws) <= _INLINE:
            parsed = _parse_all(batch, version)
        else:
            parsed = await asyncio.to_thread(_parse_all, batch, version)
        pdus.update(
            (pdu.event_id, pdu)
            for pdu in parsed
            if pdu.room_id == room_id and pdu.event_id not in known
        )
    verdicts = await verify_all(ctx, list(pdus.values()))
    good: dict[EventId, Verified] = {}
    for event_id, verdict in zip(pdus, verdicts, strict=True):
        if isinstance(verdict, BadSignature):
            log.info("event dropped", event_id=event_id, reason=str(verdict))
            if dropped is not None:
                dropped[event_id] = verdict
        else:
            good[event_id] = verdict
    return good


def _parse_all(raws: Sequence[JsonObject], version: RoomVersion) -> list[Pdu]:
    parsed = []
    for raw in raws:
        try:
            parsed.append(parse_pdu(raw, version, bounded_references=False))
        except ProtocolError as error:
            log.debug("event dropped", reason=str(error))
    return parsed
