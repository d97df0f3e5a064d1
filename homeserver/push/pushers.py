"""The table `pushers`: where users are to be told of events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text
from homeserver.live.changes import Positioned

HTTP: Final = "http"
WEB_PUSH: Final = "webpush"
EMAIL: Final = "email"
# How long a client may take to acknowledge; MSC4174 says so.
TOKEN_LIFETIME: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pusher:
    """What a client set for one app and push key."""

    user_id: UserId
    app_id: str
    pushkey: str
    kind: str
    app_display_name: str
    device_display_name: str
    profile_tag: str | None
    lang: str
    data: JsonObject
    device_id: str | None
    ts: int  # seconds
    enabled: bool = True
    counts: bool = True  # whether it is told how much is unread (MSC4076)
    activated: bool = True

    @property
    def is_told(self) -> bool:
        """Whether it is told of each event."""
        return self.kind != EMAIL and self.enabled and self.activated

    def as_json(self) -> JsonObject:
        """The pusher as its user gets it. MSC3881, MSC4076, MSC4174."""
        shown: JsonObject = {
            "app_id": self.app_id,
            "pushkey": self.pushkey,
            "kind": self.kind,
            "app_display_name": self.app_display_name,
            "device_display_name": self.device_display_name,
            "lang": self.lang,
            "data": self.data,
            "enabled": self.enabled,
            "org.matrix.msc3881.enabled": self.enabled,
        }
        if self.profile_tag is not None:
            shown["profile_tag"] = self.profile_tag
        if self.device_id is not None:
            shown["device_id"] = self.device_id
            shown["org.matrix.msc3881.device_id"] = self.device_id
        if not self.counts:
            shown["disable_badge_count"] = True
            shown["org.matrix.msc4076.disable_badge_count"] = True
        if self.kind == WEB_PUSH:
            shown["activated"] = self.activated
        return shown


@dataclass(frozen=True, slots=True)
class PusherEdit:
    """A pusher that is set, or one that goes away (`pusher` None).

    `alone`: the pushers of other users with this app and push key go away. `token` is
    what a client acknowledges with, or what an e-mail's reader unsubscribes with.
    """

    user_id: UserId
    app_id: str
    pushkey: str
    pusher: Pusher | None
    alone: bool = True
    token: str | None = None


async def edit_pushers(tx: Tx, batch: Sequence[Positioned[PusherEdit]]) -> None:
    """Set and delete pushers; each begins with what comes. For the committer."""
    for each in batch:
        edit = each.item
        if edit.pusher is None:
            await delete_pusher(tx, edit.user_id, edit.app_id, edit.pushkey)
            continue
        if edit.alone:
            await tx.execute(
                """
                DELETE FROM pushers
                 WHERE app_id = $1 AND pushkey = $2 AND user_id <> $3
                """,
                to_text(edit.app_id),
                to_text(edit.pushkey),
                edit.user_id,
            )
        await _upsert(tx, edit.pusher, edit.token, each.position)


async def _upsert(tx: Tx, pusher: Pusher, token: str | None, position: int) -> None:
    """Set a pusher. One that was switched off begins with what comes.

    The token of one that sends e-mails stays: old e-mails hold it.
    """
    await tx.execute(
        """
        INSERT INTO pushers AS old
               (user_id, app_id, pushkey, kind, app_display_name, device_display_name,
                profile_tag, lang, data, device_id, ts, position, enabled, counts,
                activated, token, token_until, token_sent)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9,
               (SELECT device_id FROM devices WHERE user_id = $1 AND device_id = $10),
               $11, $12, $13, $14, $15, $16,
               CASE WHEN NOT $15 THEN clock_timestamp() + $17 END, $15
        ON CONFLICT (user_id, app_id, pushkey) DO UPDATE
           SET kind = EXCLUDED.kind, app_display_name = EXCLUDED.app_display_name,
               device_display_name = EXCLUDED.device_display_name,
               profile_tag = EXCLUDED.profile_tag, lang = EXCLUDED.lang,
               data = EXCLUDED.data, device_id = EXCLUDED.device_id,
               ts = EXCLUDED.ts, failures = 0, retry_at = NULL,
               position = CASE WHEN old.enabled AND old.kind = EXCLUDED.kind
                          THEN old.position ELSE EXCLUDED.position END,
               enabled = EXCLUDED.enabled, counts = EXCLUDED.counts,
               activated = EXCLUDED.activated,
               token = CASE WHEN 'email' = ALL (ARRAY[old.kind, EXCLUDED.kind])
                       THEN old.token ELSE EXCLUDED.token END,
               token_until = EXCLUDED.token_until, token_sent = EXCLUDED.token_sent
        """,
        pusher.user_id,
        to_text(pusher.app_id),
        to_text(pusher.pushkey),
        pusher.kind,
        to_text(pusher.app_display_name),
        to_text(pusher.device_display_name),
        None if pusher.profile_tag is None else to_text(pusher.profile_tag),
        to_text(pusher.lang),
        orjson.dumps(pusher.data).decode(),
        pusher.device_id,
        pusher.ts,
        position,
        pusher.enabled,
        pusher.counts,
        pusher.activated,
        token,
        TOKEN_LIFETIME,
    )


async def delete_pusher(tx: Tx, user_id: UserId, app_id: str, pushkey: str) -> None:
    """Delete a pusher, if it is there."""
    await tx.execute(
        "DELETE FROM pushers WHERE user_id = $1 AND app_id = $2 AND pushkey = $3",
        user_id,
        to_text(app_id),
        to_text(pushkey),
    )


async def read_pushers(tx: Tx, user_id: UserId) -> list[Pusher]:
    """The user's pushers."""
    rows = await tx.fetch(
        """
        SELECT app_id, pushkey, kind, app_display_name, device_display_name,
               profile_tag, lang, data, device_id, ts, enabled, counts, activated
          FROM pushers WHERE user_id = $1 ORDER BY app_id, pushkey
        """,
        user_id,
    )
    return [
        Pusher(
            user_id,
            from_text(row["app_id"]),
            from_text(row["pushkey"]),
            row["kind"],
            from_text(row["app_display_name"]),
            from_text(row["device_display_name"]),
            None if row["profile_tag"] is None else from_text(row["profile_tag"]),
            from_text(row["lang"]),
            orjson.loads(row["data"]),
            row["device_id"],
            row["ts"],
            row["enabled"],
            row["counts"],
            row["activated"],
        )
        for row in rows
    ]


# ── Web Push: the client shows that it gets what is sent ─────────────────────────────


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A client has got the token that was pushed to it."""

    user_id: UserId
    app_id: str
    token: str


async def activate(tx: Tx, batch: Sequence[Positioned[Acknowledgement]]) -> None:
    """Activate pushers; each begins with what comes. For the committer."""
    for each in batch:
        await tx.execute(
            """
            UPDATE pushers
               SET activated = true, token_sent = true, token = NULL,
                   position = greatest(position, $4), failures = 0, retry_at = NULL
             WHERE user_id = $1 AND app_id = $2 AND token = $3 AND NOT activated
            """,
            each.item.user_id,
            to_text(each.item.app_id),
            to_text(each.item.token),
            each.position,
        )


async def token_state(
    tx: Tx, user_id: UserId, app_id: str, token: str
) -> tuple[bool, bool, bool]:
    """Whether the app has Web Push, waits for this token, and the token is good."""
    row = await tx.fetchrow(
        """
        SELECT count(*) > 0, coalesce(bool_or(token = $3 AND NOT activated), false),
               coalesce(bool_or(token = $3 AND token_until > clock_timestamp()), false)
          FROM pushers WHERE user_id = $1 AND app_id = $2 AND kind = 'webpush'
        """,
        user_id,
        to_text(app_id),
        to_text(token),
    )
    return (row[0], row[1], row[2]) if row is not None else (False, False, False)


# ── Who sends ────────────────────────────────────────────────────────────────────────


async def users_with_pushers(tx: Tx, most: int) -> list[UserId]:
    """Everybody who has a pusher, or so many of them."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT user_id FROM pushers
         WHERE kind <> 'email' AND enabled AND (activated OR NOT token_sent)
         LIMIT $1
        """,
        most,
    )
    return [row["user_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A pusher that is ours to send for now; everything up to `position` was told.

    `token` is what is to be pushed before anything else; "" when it is too late.
    """

    pusher: Pusher
    position: int
    failures: int
    token: str | None = None


async def claim(tx: Tx, user_id: UserId, holder: str, seconds: float) -> list[Claimed]:
    """Take the user's pushers that nobody holds and that may be tried."""
    rows = await tx.fetch(
        """
        UPDATE pushers AS p
           SET holder = $2, until = clock_timestamp() + $3
          FROM (SELECT app_id, pushkey FROM pushers
                 WHERE user_id = $1 AND kind <> 'email' AND enabled
                   AND (activated OR NOT token_sent)
                   AND (retry_at IS NULL OR retry_at <= clock_timestamp())
                   AND (holder IS NULL OR holder = $2 OR until < clock_timestamp())
                   FOR UPDATE SKIP LOCKED) AS free
         WHERE p.user_id = $1 AND p.app_id = free.app_id AND p.pushkey = free.pushkey
        RETURNING p.app_id, p.pushkey, p.position, p.failures,
                  CASE WHEN p.activated THEN NULL
                       WHEN p.token_until < clock_timestamp() THEN ''
                       ELSE p.token END AS token
        """,
        user_id,
        holder,
        timedelta(seconds=seconds),
    )
    ours = {(from_text(r["app_id"]), from_text(r["pushkey"])): r for r in rows}
    claimed = []
    for pusher in await read_pushers(tx, user_id) if ours else ():
        row = ours.get((pusher.app_id, pusher.pushkey))
        if row is not None:
            claimed.append(
                Claimed(pusher, row["position"], row["failures"], row["token"])
            )
    return claimed


async def renew(
    tx: Tx, user_ids: Sequence[UserId], holder: str, seconds: float
) -> None:
    """Hold what is ours a while longer."""
    await tx.execute(
        """
        UPDATE pushers SET until = clock_timestamp() + $3
         WHERE user_id = ANY($1) AND holder = $2
        """,
        user_ids,
        holder,
        timedelta(seconds=seconds),
    )


async def save(tx: Tx, pusher: Pusher, holder: str, position: int) -> bool:
    """Note that all up to a position was told; False: the pusher is not ours now."""
    done = await tx.fetchval(
        """
        UPDATE pushers
           SET position = greatest(position, $5), failures = 0, retry_at = NULL
         WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND holder = $4
        RETURNING true
        """,
        pusher.user_id,
        to_text(pusher.app_id),
        to_text(pusher.pushkey),
        holder,
        position,
    )
    return bool(done)


async def note_token_sent(tx: Tx, pusher: Pusher, holder: str) -> None:
    """Note that nothing is to be pushed until the client acknowledges; let go."""
    await tx.execute(
        """
        UPDATE pushers
           SET token_sent = true, holder = NULL, until = NULL, failures = 0,
               retry_at = NULL
         WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND holder = $4
           AND NOT activated
        """,
        pusher.user_id,
        to_text(pusher.app_id),
        to_text(pusher.pushkey),
        holder,
    )


async def note_failure(tx: Tx, pusher: Pusher, holder: str, delay: float) -> None:
    """Note that the gateway failed and when to try again, and let go."""
    await tx.execute(
        """
        UPDATE pushers
           SET failures = failures + 1, retry_at = clock_timestamp() + $5,
               holder = NULL, until = NULL
         WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND holder = $4
        """,
        pusher.user_id,
        to_text(pusher.app_id),
        to_text(pusher.pushkey),
        holder,
        timedelta(seconds=delay),
    )


async def release(tx: Tx, cursors: Sequence[tuple[UserId, int]], holder: str) -> None:
    """Let go of users' pushers, whose users have been told all up to a position."""
    await tx.execute(
        """
        UPDATE pushers p
           SET holder = NULL, until = NULL, position = greatest(p.position, u.position)
          FROM unnest($1::text[], $2::bigint[]) AS u (user_id, position)
         WHERE p.user_id = u.user_id AND p.holder = $3
        """,
        [user_id for user_id, _ in cursors],
        [position for _, position in cursors],
        holder,
    )


async def due(tx: Tx, limit: int) -> list[UserId]:
    """Users with pushers that nobody holds and to whom there may be news to tell."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT user_id FROM pushers p
         WHERE kind <> 'email' AND enabled AND (activated OR NOT token_sent)
           AND (holder IS NULL OR until < clock_timestamp())
           AND (retry_at IS NULL OR retry_at <= clock_timestamp())
           AND (NOT activated
                OR EXISTS (SELECT FROM memberships m JOIN rooms r USING (room_nid)
                            WHERE m.user_id = p.user_id AND m.local
                              AND m.membership IN ('join', 'invite')
                              AND r.last_position > p.position))
         LIMIT $1
        """,
        limit,
    )
    return [row["user_id"] for row in rows]


async def orphaned(tx: Tx, limit: int) -> list[UserId]:
    """Users whose pushers somebody held who is gone."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT user_id FROM pushers
         WHERE holder IS NOT NULL AND until < clock_timestamp()
           AND kind <> 'email' AND enabled AND (activated OR NOT token_sent)
           AND (retry_at IS NULL OR retry_at <= clock_timestamp())
         LIMIT $1
        """,
        limit,
    )
    return [row["user_id"] for row in rows]


async def failed(tx: Tx, limit: int) -> list[UserId]:
    """Users with pushers whose gateway failed and may be tried again."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT user_id FROM pushers
         WHERE retry_at IS NOT NULL AND retry_at <= clock_timestamp()
           AND kind <> 'email' AND enabled
           AND (holder IS NULL OR until < clock_timestamp())
         LIMIT $1
        """,
        limit,
    )
    return [row["user_id"] for row in rows]
