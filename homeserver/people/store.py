"""The tables `user_directory` and `directory_progress`."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, from_text, to_text


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody as the directory has them: names as they are, and folded."""

    user_id: UserId
    display_name: str | None
    avatar_url: str | None
    local: bool
    name: str = ""
    words: Sequence[str] = ()
    triples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """Somebody who was found."""

    user_id: UserId
    display_name: str | None
    avatar_url: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Up to which positions memberships and profiles are in the directory."""

    members: int
    profiles: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A membership that moved; `event_nid` says what the user is called there."""

    user_id: UserId
    event_nid: int
    position: int
    local: bool


# ── Keeping it ───────────────────────────────────────────────────────────────────────


async def progress(tx: Tx) -> Progress:
    """How far the directory is."""
    row = await tx.fetchrow("SELECT members, profiles FROM directory_progress")
    return Progress(0, 0) if row is None else Progress(row[0], row[1])


async def set_progress(tx: Tx, done: Progress) -> None:
    """Note how far the directory is."""
    await tx.execute(
        """
        INSERT INTO directory_progress (only_row, members, profiles)
        VALUES (true, $1, $2)
        ON CONFLICT (only_row) DO UPDATE
           SET members = EXCLUDED.members, profiles = EXCLUDED.profiles
        """,
        done.members,
        done.profiles,
    )


async def members_after(tx: Tx, position: int, limit: int) -> list[Moved]:
    """Memberships that moved after a position; all of the last position or none."""
    return await fetch_as(
        tx,
        Moved,
        """
        SELECT user_id, event_nid, position, local FROM memberships
         WHERE position > $1
         ORDER BY position FETCH FIRST $2 ROWS WITH TIES
        """,
        position,
        limit,
    )


async def profiles_after(tx: Tx, position: int, limit: int) -> list[tuple[UserId, int]]:
    """Users of ours whose profiles moved after a position, and where."""
    rows = await tx.fetch(
        """
        SELECT user_id, position FROM profiles
         WHERE position > 0 AND position > $1
         ORDER BY position FETCH FIRST $2 ROWS WITH TIES
        """,
        position,
        limit,
    )
    return [(UserId(user_id), at) for user_id, at in rows]


async def joined(tx: Tx, user_ids: Sequence[str]) -> set[str]:
    """Those of the users who are in some room."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT user_id FROM memberships
         WHERE user_id = ANY($1) AND membership = 'join'
        """,
        user_ids,
    )
    return {row[0] for row in rows}


async def active_accounts(tx: Tx, user_ids: Sequence[str]) -> set[str]:
    """Those of the users of ours who have not been deactivated."""
    rows = await tx.fetch(
        "SELECT user_id FROM users WHERE user_id = ANY($1) AND NOT deactivated",
        user_ids,
    )
    return {row[0] for row in rows}


async def missing_accounts(tx: Tx, limit: int) -> list[UserId]:
    """Some of our users whom the directory does not have."""
    rows = await tx.fetch(
        """
        SELECT user_id FROM users u
         WHERE NOT deactivated AND NOT EXISTS (
               SELECT FROM user_directory d WHERE d.user_id = u.user_id)
         LIMIT $1
        """,
        limit,
    )
    return [UserId(row[0]) for row in rows]


async def contents(tx: Tx, event_nids: Sequence[int]) -> dict[int, dict[str, object]]:
    """The contents of member events that say that somebody is joined."""
    rows = await tx.fetch(
        """
        SELECT event_nid, json FROM event_json JOIN events e USING (event_nid)
         WHERE event_nid = ANY($1) AND e.redacted_by IS NULL
        """,
        event_nids,
    )
    found = {}
    for event_nid, text in rows:
        content = orjson.loads(text).get("content")
        if isinstance(content, dict) and content.get("membership") == "join":
            found[event_nid] = content
    return found


async def names(tx: Tx, user_ids: Sequence[str]) -> dict[str, dict[str, object]]:
    """Display names and avatars of users of ours."""
    rows = await tx.fetch(
        """
        SELECT user_id, field, value FROM profiles
         WHERE user_id = ANY($1) AND field IN ('displayname', 'avatar_url')
        """,
        user_ids,
    )
    found: dict[str, dict[str, object]] = {user_id: {} for user_id in user_ids}
    for user_id, field, value in rows:
        found[user_id][field] = orjson.loads(value)
    return found


async def put(tx: Tx, entries: Sequence[Entry]) -> None:
    """Put people into the directory, or change what it has of them."""
    await tx.execute(
        """
        INSERT INTO user_directory AS old (user_id, display_name, avatar_url, local,
                                           name, words, triples)
        SELECT u.user_id, u.display_name, u.avatar_url, u.local, u.name,
               array_to_tsvector(string_to_array(u.words, ' ')),
               array_to_tsvector(string_to_array(u.triples, ' '))
          FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[],
                      $6::text[], $7::text[])
               AS u (user_id, display_name, avatar_url, local, name, words, triples)
        ON CONFLICT (user_id) DO UPDATE
           SET display_name = EXCLUDED.display_name,
               avatar_url = EXCLUDED.avatar_url, name = EXCLUDED.name,
               words = EXCLUDED.words, triples = EXCLUDED.triples
         WHERE (old.display_name, old.avatar_url)
               IS DISTINCT FROM (EXCLUDED.display_name, EXCLUDED.avatar_url)
        """,
        [each.user_id for each in entries],
        [_text(each.display_name) for each in entries],
        [_text(each.avatar_url) for each in entries],
        [each.local for each in entries],
        [each.name for each in entries],
        [" ".join(each.words) for each in entries],
        [" ".join(each.triples) for each in entries],
    )


async def remove(tx: Tx, user_ids: Sequence[str]) -> None:
    """Take people out of the directory."""
    await tx.execute("DELETE FROM user_directory WHERE user_id = ANY($1)", user_ids)


def _text(value: str | None) -> str | None:
    return None if value is None else to_text(value)


# ── Searching ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody looks for; `words` and `triples` are text for `tsquery`.

    `prefix` is the beginning of a user ID; then words do not count.
    """

    reader: UserId
    rooms: Sequence[int]
    name: str
    words: str
    prefix: str | None
    limit: int


async def known(tx: Tx, search: Search, *, all_local: bool) -> list[Found]:
    """Those who share a room with the reader; `all_local`: everybody of ours as well.

    Who is called exactly so comes first, then whose name begins so.
    """
    return _from_rows(
        await fetch_as(
            tx,
            Found,
            """
            SELECT d.user_id, d.display_name, d.avatar_url, d.name
              FROM user_directory d
             WHERE CASE WHEN $5::text IS NULL THEN d.words @@ $4::tsquery
                        ELSE starts_with(d.user_id, $5) END
               AND d.user_id <> $1
               AND NOT EXISTS (
                   SELECT FROM users u WHERE u.user_id = d.user_id AND u.locked)
               AND (($6 AND d.local) OR EXISTS (
                        SELECT FROM memberships m
                         WHERE m.user_id = d.user_id AND m.membership = 'join'
                           AND m.room_nid = ANY($2)))
             ORDER BY d.name = $3 DESC,
                      starts_with(d.user_id, '@' || $3 || ':') DESC,
                      starts_with(d.name, $3) DESC, d.local DESC, d.user_id
             LIMIT $7
            """,
            search.reader,
            search.rooms,
            search.name,
            search.words,
            search.prefix,
            all_local,
            search.limit,
        )
    )


async def public(tx: Tx, search: Search, most: int) -> list[Found]:
    """Those of the first `most` that fit who are in a room that everybody may see."""
    return _from_rows(
        await fetch_as(
            tx,
            Found,
            """
            WITH fitting AS (
                SELECT d.user_id, d.display_name, d.avatar_url, d.name, d.local
                  FROM user_directory d
                 WHERE CASE WHEN $4::text IS NULL THEN d.words @@ $3::tsquery
                            ELSE starts_with(d.user_id, $4) END
                   AND d.user_id <> $1
                   AND NOT EXISTS (
                       SELECT FROM users u WHERE u.user_id = d.user_id AND u.locked)
                 ORDER BY d.name = $2 DESC,
                          starts_with(d.user_id, '@' || $2 || ':') DESC,
                          starts_with(d.name, $2) DESC, d.local DESC, d.user_id
                 LIMIT $6
            )
            SELECT user_id, display_name, avatar_url, name
              FROM fitting d
             WHERE EXISTS (
                   SELECT FROM memberships m
                     JOIN current_state c USING (room_nid)
                     JOIN state_keys k USING (key_nid)
                     JOIN event_json j ON j.event_nid = c.event_nid
                    WHERE m.user_id = d.user_id AND m.membership = 'join'
                      AND k.state_key = ''
                      AND (k.type = 'm.room.join_rules'
                           AND j.json::json #>> '{content,join_rule}' = 'public'
                        OR k.type = 'm.room.history_visibility'
                           AND j.json::json #>> '{content,history_visibility}'
                               = 'world_readable'))
             ORDER BY d.name = $2 DESC,
                      starts_with(d.user_id, '@' || $2 || ':') DESC,
                      starts_with(d.name, $2) DESC, d.local DESC, d.user_id
             LIMIT $5
            """,
            search.reader,
            search.name,
            search.words,
            search.prefix,
            search.limit,
            most,
        )
    )


async def similar(
    tx: Tx, search: Search, triples: str, most: int, *, all_local: bool
) -> list[Found]:
    """Some of those that the reader knows whose names have any of the triples."""
    return _from_rows(
        await fetch_as(
            tx,
            Found,
            """
            SELECT d.user_id, d.display_name, d.avatar_url, d.name
              FROM user_directory d
             WHERE d.triples @@ $3::tsquery AND d.user_id <> $1
               AND NOT EXISTS (
                   SELECT FROM users u WHERE u.user_id = d.user_id AND u.locked)
               AND (($5 AND d.local) OR EXISTS (
                        SELECT FROM memberships m
                         WHERE m.user_id = d.user_id AND m.membership = 'join'
                           AND m.room_nid = ANY($2)))
             LIMIT $4
            """,
            search.reader,
            search.rooms,
            triples,
            most,
            all_local,
        )
    )


def _from_rows(found: list[Found]) -> list[Found]:
    return [
        Found(
            each.user_id,
            None if each.display_name is None else from_text(each.display_name),
            None if each.avatar_url is None else from_text(each.avatar_url),
            each.name,
        )
        for each in found
    ]
