"""Filters by name: what the `filter` parameter of /sync and others stands for."""

import re
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.store import filters as store
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.events.filters import Filter, parse_filter
from homeserver.http import bodies

_FILTER_ID: Final = re.compile(r"[0-9]{1,19}")
# What a number stands for cannot change, so it may be remembered.
_known: Final[LruCache[tuple[UserId, str], Filter]] = LruCache("filters", 16 * MIB, 900)
_PARSED: Final = 3  # times the text, in memory
# By their JSON; clients send the same one with each sync.
_inline: Final[LruCache[str, Filter]] = LruCache("inline filters", 8 * MIB, 900)

NO_FILTER: Final = Filter()


def check_filter(given: JsonObject) -> Filter:
    """The filter that was given. Raises: M_BAD_JSON."""
    try:
        return parse_filter(given)
    except Malformed as error:
        raise errors.of_caller(error) from None


async def find_filter(db: Database, user_id: UserId, parameter: str | None) -> Filter:
    """The filter that a query parameter stands for: an ID, JSON, or none.

    Raises: M_INVALID_PARAM, when there is no such filter; M_NOT_JSON, M_BAD_JSON.
    """
    if not parameter:
        return NO_FILTER
    if parameter.startswith("{"):
        inline = _inline.get(parameter)
        if inline is None:
            body = bodies.parse_body(parameter.encode("utf-8", "surrogatepass"))
            inline = check_filter(bodies.as_object(body))
            _inline.put(parameter, inline, _PARSED * len(parameter))
        return inline
    key = (user_id, parameter)
    known = _known.get(key)
    if known is None:
        given = await read_filter(db, user_id, parameter)
        if given is None:
            raise errors.invalid_param("There is no such filter.")
        known = check_filter(given)
        _known.put(key, known, _PARSED * len(orjson.dumps(given)))
    return known


async def read_filter(
    db: Database, user_id: UserId, filter_id: str
) -> JsonObject | None:
    """The filter as it was defined."""
    if not _FILTER_ID.fullmatch(filter_id) or int(filter_id) >= 2**63:
        return None
    async with db.read() as tx:
        text = await store.filter_text(tx, user_id, int(filter_id))
    if text is None:
        return None
    given: JsonObject = orjson.loads(text)
    return given
