"""Parsing long answers in pieces, so that nobody waits for all of one.

The parser holds the interpreter until it is done: 160 ms for the state of a room with
20,000 members. So such a document is cut into its values first, which takes a tenth,
and long arrays into their entries; those are parsed some at a time in a thread.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from federation import canonical_json
from federation.canonical_json import JsonValue

INLINE_BYTES: Final = 65_536  # parsing so much takes under a millisecond
_PIECE_BYTES: Final = 131_072

_members = msgspec.json.Decoder(dict[str, Raw])
_entries = msgspec.json.Decoder(list[Raw])


async def parse(body: bytes) -> JsonValue:
    """The same as `canonical_json.parse`. Raises: Malformed."""
    if len(body) <= INLINE_BYTES:
        return canonical_json.parse(body)
    try:
        members = await asyncio.to_thread(_members.decode, body)
    except (msgspec.MsgspecError, RecursionError):  # no object, or no JSON
        return await asyncio.to_thread(canonical_json.parse, body)
    parsed: dict[str, JsonValue] = {}
    for name, raw in members.items():
        parsed[name] = await _value(memoryview(raw))
    return parsed


async def _value(raw: memoryview) -> JsonValue:
    if len(raw) <= INLINE_BYTES:
        return canonical_json.parse(bytes(raw))
    try:
        entries = await asyncio.to_thread(_entries.decode, raw)
    except (msgspec.MsgspecError, RecursionError):
        return await asyncio.to_thread(canonical_json.parse, bytes(raw))
    values: list[JsonValue] = []
    for piece in _pieces(entries):
        part = await asyncio.to_thread(canonical_json.parse, b"[%b]" % piece)
        values += part if isinstance(part, list) else ()
    return values


def _pieces(entries: Sequence[Raw]) -> Iterator[bytes]:
    """The entries in runs of some length, with commas between."""
    piece: list[memoryview] = []
    size = 0
    for raw in entries:
        entry = memoryview(raw)
        if piece and size + len(entry) > _PIECE_BYTES:
            yield b",".join(piece)
            piece, size = [], 0
        piece.append(entry)
        size += len(entry) + 1
    if piece:
        yield b",".join(piece)
