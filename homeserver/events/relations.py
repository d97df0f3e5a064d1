"""How events relate to each other: children point at their parents.

A relation is kept in the columns `relates_to` and `rel_type` of the child's row, so
that storing it costs no statement. It counts while the child is visible and not
redacted: redaction takes `m.relates_to` away.

Spec: client-server-api#forming-relationships-between-events
"""

from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import EventId
from federation.pdu import Pdu

REPLACE: Final = "m.replace"
THREAD: Final = "m.thread"
REFERENCE: Final = "m.reference"
ANNOTATION: Final = "m.annotation"
# They become part of an index, whose entries have a bound.
_MOST_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Relation:
    """What an event says that it is to another one."""

    rel_type: str
    event_id: EventId


def relation_of(event: Pdu) -> Relation | None:
    """The event's relation, if it has one of the specification's shape.

    Rich replies have no `rel_type`: they are none.
    """
    return relation_in(event.content)


def relation_in(content: JsonObject) -> Relation | None:
    """The same of an event with this content."""
    relates_to = content.get("m.relates_to")
    if not isinstance(relates_to, dict):
        return None
    rel_type, event_id = relates_to.get("rel_type"), relates_to.get("event_id")
    if _is_short(rel_type) and _is_short(event_id) and str(event_id)[0] == "$":
        return Relation(str(rel_type), EventId(str(event_id)))
    return None


def _is_short(value: object) -> bool:
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    return len(value.encode(errors="replace")) <= _MOST_BYTES


def is_valid_edit(edit: Pdu, original: Pdu) -> bool:
    """Whether one event may replace the other.

    That of an encrypted event cannot be told in full: what is new is encrypted.

    Spec: client-server-api#validity-of-replacement-events
    """
    relation = relation_of(edit)
    if relation != Relation(REPLACE, original.event_id) or not is_editable(original):
        return False
    same = (edit.room_id, edit.sender, edit.type) == (
        original.room_id,
        original.sender,
        original.type,
    )
    if not same or edit.state_key is not None:
        return False
    return edit.type == "m.room.encrypted" or isinstance(
        edit.content.get("m.new_content"), dict
    )


def is_editable(event: Pdu) -> bool:
    """Whether edits of the event count: not those of state, nor of an edit."""
    relation = relation_of(event)
    is_edit = relation is not None and relation.rel_type == REPLACE
    return event.state_key is None and not is_edit
