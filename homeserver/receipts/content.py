"""Receipts as clients get them.

Spec: client-server-api#mreceipt
"""

from collections.abc import Iterable

from federation.canonical_json import JsonObject, JsonValue
from homeserver.receipts.store import Receipt

# event ID → receipt type → user ID → receipt
_Content = dict[str, dict[str, dict[str, JsonValue]]]


def contents_of(receipts: Iterable[Receipt]) -> list[JsonObject]:
    """The contents of as few `m.receipt` events as hold these receipts of one room.

    The format has one place for each event, type and user, so receipts of several
    threads that are at one event need as many events.
    """
    contents: list[_Content] = []
    for receipt in receipts:
        shown: JsonObject = {"ts": receipt.ts}
        if receipt.thread_id is not None:
            shown["thread_id"] = receipt.thread_id
        _place(contents, receipt)[receipt.user_id] = shown
    return [_plain(content) for content in contents]


def _place(contents: list[_Content], receipt: Receipt) -> dict[str, JsonValue]:
    """Where the receipt goes: the first content that has room for it."""
    for content in contents:
        users = content.get(receipt.event_id, {}).get(receipt.receipt_type, {})
        if receipt.user_id not in users:
            break
    else:
        content = {}
        contents.append(content)
    by_type = content.setdefault(receipt.event_id, {})
    return by_type.setdefault(receipt.receipt_type, {})


def _plain(content: _Content) -> JsonObject:
    return {
        event_id: {kind: dict[str, JsonValue](users) for kind, users in by_type.items()}
        for event_id, by_type in content.items()
    }
