"""Which events use which files, as far as events say so in clear.

Noted in the transaction that stores an event, and dropped when it is redacted. What an
encrypted event uses is not known, so that a file without references may well be in use.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_server_name
from homeserver.db.pool import Tx
from homeserver.live.steps import Consequence, Step
from homeserver.media.ids import is_media_id
from homeserver.media.store import Mxc

EVENT: Final = "event"
_MXC: Final = "mxc://"
_MARK: Final = b'"mxc://'
# An event of the largest size may name more; nobody needs to know.
_MOST: Final = 200


def mxc_in(value: JsonValue) -> Mxc | None:
    """The mxc URI that a value is, if it is one."""
    if not isinstance(value, str) or not value.startswith(_MXC):
        return None
    origin, _, media_id = value.removeprefix(_MXC).partition("/")
    try:
        name = parse_server_name(origin)
    except Malformed:
        return None
    return Mxc(ServerName(name), media_id) if is_media_id(media_id) else None


def _values(content: JsonObject) -> Iterator[JsonValue]:
    """Where events of the specification name files."""
    info = content.get("info")
    for holder in (content, info, content.get("file"), content.get("avatar")):
        if isinstance(holder, dict):
            yield holder.get("url")
            yield holder.get("avatar_url")
            yield holder.get("thumbnail_url")
            thumbnail = holder.get("thumbnail_file")
            if isinstance(thumbnail, dict):
                yield thumbnail.get("url")
    images = content.get("images")
    if isinstance(images, dict):
        for image in images.values():
            if isinstance(image, dict):
                yield image.get("url")


def files_in(content: JsonObject) -> set[Mxc]:
    """The files that an event's content names."""
    found: set[Mxc] = set()
    for value in _values(content):
        mxc = mxc_in(value)
        if mxc is not None and len(found) < _MOST:
            found.add(mxc)
    return found


def _names_files(step: Step) -> bool:
    return any(
        isinstance(value, str) and value.startswith(_MXC)
        for event in step.events
        # Most events show by their text, which is at hand, that they name none.
        if _MARK in event.pdu.text
        for value in _values(event.pdu.content)
    )


async def _note(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    rows = [
        (mxc.origin, mxc.media_id, event.pdu.event_id)
        for _, step in steps
        for event in step.events
        for mxc in files_in(event.shown.content)
    ]
    if rows:
        origins, media_ids, event_ids = zip(*rows, strict=True)
        await tx.execute(
            """
            INSERT INTO media_references (origin, media_id, kind, key)
            SELECT u.origin, u.media_id, $4, u.event_id
              FROM unnest($1::text[], $2::text[], $3::text[])
                     AS u (origin, media_id, event_id)
            ON CONFLICT DO NOTHING
            """,
            origins,
            media_ids,
            event_ids,
            EVENT,
        )


async def _drop(tx: Tx, steps: Sequence[tuple[int, Step]]) -> None:
    await tx.execute(
        """
        DELETE FROM media_references r USING events e
         WHERE e.event_nid = ANY($1::bigint[]) AND r.kind = $2 AND r.key = e.event_id
        """,
        [target for _, step in steps for target, _ in step.redactions],
        EVENT,
    )


NOTE_FILES: Final = Consequence(_names_files, _note)
DROP_FILES: Final = Consequence(lambda step: bool(step.redactions), _drop)


async def users_of(tx: Tx, mxc: Mxc) -> list[str]:
    """The IDs of the events that use a file; some, when there are very many."""
    rows = await tx.fetch(
        """
        SELECT key
          FROM media_references
         WHERE origin = $1 AND media_id = $2 AND kind = $3
         ORDER BY key
         LIMIT 1000
        """,
        mxc.origin,
        mxc.media_id,
        EVENT,
    )
    return [row["key"] for row in rows]


async def quarantine_of_room(tx: Tx, room_nid: int, by: UserId) -> int:
    """Quarantine what a room's events use, but for what is protected; how many."""
    rows = await tx.fetch(
        """
        WITH used AS (
            SELECT DISTINCT r.origin, r.media_id
              FROM events e
              JOIN media_references r ON r.kind = $3 AND r.key = e.event_id
             WHERE e.room_nid = $1
        )
        INSERT INTO media AS m (origin, media_id, quarantined_by)
        SELECT origin, media_id, $2 FROM used
        ON CONFLICT (origin, media_id) DO UPDATE
           SET quarantined_by = EXCLUDED.quarantined_by
         WHERE NOT m.protected AND m.quarantined_by IS NULL
        RETURNING media_id
        """,
        room_nid,
        by,
        EVENT,
    )
    return len(rows)
