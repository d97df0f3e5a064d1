"""E-mails about what is unread: which pushers are due, and which rooms keep silent.

A pusher with the kind `email` stands at a position like any other: all up to it was
told, or read. `retry_at` is when to look what is still unread after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, fetch_one_as, to_text

# Who has not been mailed about a room for so long is told of it at once again.
_QUIET_S: Final = 12 * 3600


@dataclass(frozen=True, slots=True)
class DuePusher:
    """A pusher whose e-mail is due, ours for now; `pushkey` is the address."""

    user_id: UserId
    app_id: str
    pushkey: str
    lang: str
    data: str
    token: str
    position: int


async def schedule(tx: Tx, delay: timedelta, limit: int) -> int:
    """Set when to look at pushers for whom something has happened; how many."""
    done = await tx.fetch(
        """
        UPDATE pushers p SET retry_at = clock_timestamp() + $1
          FROM (SELECT user_id, app_id, pushkey FROM pushers q
                 WHERE kind = 'email' AND enabled AND retry_at IS NULL
                   AND EXISTS (SELECT FROM memberships m JOIN rooms r USING (room_nid)
                                WHERE m.user_id = q.user_id AND m.local
                                  AND m.membership IN ('join', 'invite')
                                  AND r.last_position > q.position)
                 LIMIT $2 FOR UPDATE SKIP LOCKED) AS moved
         WHERE (p.user_id, p.app_id, p.pushkey)
               = (moved.user_id, moved.app_id, moved.pushkey)
        RETURNING true
        """,
        delay,
        limit,
    )
    return len(done)


async def claim(tx: Tx, holder: str, lease: timedelta, limit: int) -> list[DuePusher]:
    """Take pushers whose time has come."""
    return await fetch_as(
        tx,
        DuePusher,
        """
        UPDATE pushers p SET holder = $1, until = clock_timestamp() + $2
          FROM (SELECT user_id, app_id, pushkey FROM pushers
                 WHERE kind = 'email' AND enabled AND retry_at <= clock_timestamp()
                   AND (holder IS NULL OR until < clock_timestamp())
                 ORDER BY retry_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS due
         WHERE (p.user_id, p.app_id, p.pushkey)
               = (due.user_id, due.app_id, due.pushkey)
        RETURNING p.user_id, p.app_id, p.pushkey, p.lang, p.data,
                  coalesce(p.token, '') AS token, p.position
        """,
        holder,
        lease,
        limit,
    )


async def silent_s(tx: Tx, due: DuePusher, rooms: Sequence[int]) -> dict[int, float]:
    """For how many seconds yet each of the rooms keeps silent; those that do."""
    rows = await tx.fetch(
        """
        SELECT room_nid,
               extract(epoch FROM sent_at - clock_timestamp())::float8 + wait_s
          FROM push_mails
         WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND room_nid = ANY($4)
        """,
        due.user_id,
        due.app_id,
        due.pushkey,
        rooms,
    )
    return {nid: left for nid, left in rows if left > 0}


async def note_sent(
    tx: Tx, due: DuePusher, rooms: Sequence[int], first_s: int, most_s: int
) -> None:
    """The rooms that an e-mail told of keep silent, each time for longer."""
    await tx.execute(
        """
        INSERT INTO push_mails AS old (user_id, app_id, pushkey, room_nid, wait_s)
        SELECT $1, $2, $3, u.room_nid, $5 FROM unnest($4::bigint[]) AS u (room_nid)
        ON CONFLICT (user_id, app_id, pushkey, room_nid) DO UPDATE
           SET wait_s = CASE WHEN old.sent_at + make_interval(secs => old.wait_s + $7)
                                  < now()
                        THEN $5 ELSE least(old.wait_s * 3, $6) END,
               sent_at = now()
        """,
        due.user_id,
        due.app_id,
        due.pushkey,
        rooms,
        first_s,
        most_s,
        _QUIET_S,
    )


async def finish(
    tx: Tx, due: DuePusher, holder: str, position: int, look_in_s: float | None
) -> bool:
    """Note how far it was told, and when to look again; False: it is not ours."""
    done = await tx.fetchval(
        """
        UPDATE pushers
           SET position = $6, holder = NULL, until = NULL,
               retry_at = clock_timestamp() + make_interval(secs => $7::float8)
         WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND holder = $4
           AND position = $5
        RETURNING true
        """,
        due.user_id,
        due.app_id,
        due.pushkey,
        holder,
        due.position,
        position,
        look_in_s,
    )
    return bool(done)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whom the e-mails with a token go to, and how they chose to read it."""

    user_id: UserId
    pushkey: str
    lang: str


async def by_token(tx: Tx, token: str) -> Subscription | None:
    """Whose e-mails have this token at their end."""
    return await fetch_one_as(
        tx,
        Subscription,
        """
        SELECT user_id, pushkey, lang FROM pushers
         WHERE token = $1 AND kind = 'email'
        """,
        to_text(token),
    )


async def unsubscribe(tx: Tx, token: str) -> None:
    """Send no more e-mails with this token."""
    await tx.execute(
        "DELETE FROM pushers WHERE token = $1 AND kind = 'email'", to_text(token)
    )
