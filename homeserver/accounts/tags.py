"""Tags of rooms: one account data event, changed entry by entry.

Spec: client-server-api#room-tagging
"""

from typing import Final

import orjson

from federation.canonical_json import JsonObject, JsonValue
from homeserver import errors

TYPE: Final = "m.tag"
MAX_NAME_BYTES: Final = 255
MAX_BYTES: Final = 64 * 1024


def tags_of(content: JsonObject | None) -> JsonObject:
    """The tags in the content of m.tag, whatever a client has put there."""
    tags = (content or {}).get("tags")
    return dict(tags) if isinstance(tags, dict) else {}


def check_tag(name: str, tag: JsonObject) -> None:
    """Refuse a tag that cannot be one. Raises: M_INVALID_PARAM, M_BAD_JSON."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise errors.invalid_param(f"A tag has 1 to {MAX_NAME_BYTES} bytes.")
    order = tag.get("order")
    is_number = isinstance(order, int | float) and not isinstance(order, bool)
    if order is not None and not is_number:
        raise errors.bad_json("order: a number from 0 to 1 is needed.")


def with_tag(content: JsonObject, name: str, tag: JsonObject) -> JsonObject:
    """The content with the tag set. Raises: M_TOO_LARGE."""
    tags: JsonObject = {**tags_of(content), name: dict[str, JsonValue](tag)}
    changed: JsonObject = {**content, "tags": tags}
    if len(orjson.dumps(changed)) > MAX_BYTES:
        raise errors.too_large("The room has too many tags.")
    return changed


def without_tag(content: JsonObject, name: str) -> JsonObject:
    """The content without the tag."""
    tags = tags_of(content)
    tags.pop(name, None)
    return {**content, "tags": tags}
