"""The tables `presence` and `presence_devices`. Time is the database's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text
from homeserver.live.changes import Positioned, Reach

# A device that says nothing for so long is gone.
GONE_SECONDS: Final = 60
# Who does nothing for so long is idle; for so short, currently active.
IDLE_SECONDS: Final = 300
ACTIVE_SECONDS: Final = 60
# Other servers are told again of those who are there, and forget who is not.
REPEAT_SECONDS: Final = 25 * 60
SILENT_SECONDS: Final = 35 * 60
KEEP_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Note:
    """How a user of ours is now.

    `rank` is what the device says; None: it says nothing, look again. `is_active`: the
    user does something. `status` counts when `has_status`.
    """

    user_id: UserId
    device_id: str = ""
    rank: int | None = None
    is_active: bool = False
    has_status: bool = False
    status: str | None = None
    reach: Reach = field(default_factory=Reach)


@dataclass(frozen=True, slots=True)
class Told:
    """How a user of another server is, as that says."""

    user_id: UserId
    rank: int
    last_active_ago_ms: int
    currently_active: bool
    status: str | None
    reach: Reach = field(default_factory=Reach)


async def note(tx: Tx, batch: Sequence[Positioned[Note]]) -> None:
    """Note what devices say, and what becomes of their users. For the committer."""
    # One user twice in a batch: the statement below sees each once, with all of it.
    await _note_devices(tx, [each.item for each in batch])
    last: dict[UserId, Positioned[Note]] = {}
    for each in batch:
        before = last.get(each.item.user_id)
        last[each.item.user_id] = each if before is None else _joined(before, each)
    notes = list(last.values())
    moved = await tx.fetch(
        """
        WITH wanted AS (
            SELECT * FROM unnest($1::text[], $2::bigint[], $3::boolean[],
                                 $4::boolean[], $5::text[])
                   AS w (user_id, position, is_active, has_status, status)
        ), devices AS (
            SELECT user_id, max(rank) AS rank FROM presence_devices
             WHERE user_id = ANY($1) AND seen_at > now() - $6 * interval '1 s'
             GROUP BY user_id
        ), found AS (
            SELECT w.user_id, w.position, coalesce(d.rank, 0) AS rank,
                   p.user_id IS NULL AS is_new,
                   CASE WHEN w.is_active THEN now() ELSE p.last_active END
                     AS last_active,
                   CASE WHEN w.has_status THEN w.status ELSE p.status END AS status
              FROM wanted w
              LEFT JOIN presence p USING (user_id)
              LEFT JOIN devices d USING (user_id)
        ), judged AS (
            SELECT user_id, position, last_active, status,
                   CASE WHEN rank = 2 AND (last_active IS NULL OR
                             last_active < now() - $7 * interval '1 s')
                        THEN 1 ELSE rank END AS rank,
                   rank >= 2 AND coalesce(
                       last_active > now() - $8 * interval '1 s', false) AS active
              FROM found
             -- That somebody is not there who never was is no news.
             WHERE NOT (is_new AND rank = 0 AND status IS NULL)
        )
        INSERT INTO presence AS old (user_id, rank, status, last_active,
                                     currently_active, position, local, told_at)
        SELECT user_id, rank, status, last_active, active, position, true, now()
          FROM judged
        ON CONFLICT (user_id) DO UPDATE
           SET rank = EXCLUDED.rank, status = EXCLUDED.status,
               last_active = EXCLUDED.last_active,
               currently_active = EXCLUDED.currently_active,
               told_at = CASE WHEN (old.rank, old.status, old.currently_active)
                                   IS DISTINCT FROM
                                   (EXCLUDED.rank, EXCLUDED.status,
                                    EXCLUDED.currently_active)
                                OR old.told_at < now() - $9 * interval '1 s'
                              THEN now() ELSE old.told_at END,
               position = CASE WHEN (old.rank, old.status, old.currently_active)
                                    IS DISTINCT FROM
                                    (EXCLUDED.rank, EXCLUDED.status,
                                     EXCLUDED.currently_active)
                                 OR old.told_at < now() - $9 * interval '1 s'
                               THEN EXCLUDED.position ELSE old.position END
        RETURNING user_id, position
        """,
        [each.item.user_id for each in notes],
        [each.position for each in notes],
        [each.item.is_active for each in notes],
        [each.item.has_status for each in notes],
        [_text(each.item.status) for each in notes],
        GONE_SECONDS,
        IDLE_SECONDS,
        ACTIVE_SECONDS,
        REPEAT_SECONDS,
    )
    await _reach(tx, notes, [(row[0], row[1]) for row in moved])


def _joined(one: Positioned[Note], two: Positioned[Note]) -> Positioned[Note]:
    """Two notes of one user as one, at the later position."""
    status = two.item if two.item.has_status else one.item
    return Positioned(
        two.position,
        Note(
            two.item.user_id,
            is_active=one.item.is_active or two.item.is_active,
            has_status=status.has_status,
            status=status.status,
            reach=two.item.reach,
        ),
    )


async def _note_devices(tx: Tx, notes: Sequence[Note]) -> None:
    said = {(n.user_id, n.device_id): n for n in notes if n.rank is not None}
    active = {n.user_id for n in notes if n.is_active}
    if said:
        await tx.execute(
            """
            INSERT INTO presence_devices AS old (user_id, device_id, rank, seen_at)
            SELECT u.user_id, u.device_id, u.rank, now()
              FROM unnest($1::text[], $2::text[], $3::smallint[])
                   AS u (user_id, device_id, rank)
            ON CONFLICT (user_id, device_id) DO UPDATE
               SET rank = EXCLUDED.rank, seen_at = EXCLUDED.seen_at
            """,
            [key[0] for key in said],
            [key[1] for key in said],
            [each.rank for each in said.values()],
        )
    woken = active - {user_id for user_id, _ in said}
    if woken:
        # "Any activity on any of the user's clients": they are no longer idle.
        await tx.execute(
            """
            UPDATE presence_devices SET rank = 2
             WHERE user_id = ANY($1) AND rank = 1
               AND seen_at > now() - $2 * interval '1 s'
            """,
            list(woken),
            GONE_SECONDS,
        )


async def put_told(tx: Tx, batch: Sequence[Positioned[Told]]) -> None:
    """Note what other servers say. For the committer."""
    last = {each.item.user_id: each for each in batch}
    told = list(last.values())
    moved = await tx.fetch(
        """
        INSERT INTO presence AS old (user_id, rank, status, last_active,
                                     currently_active, position, local, told_at)
        SELECT u.user_id, u.rank, u.status, now() - u.ago * interval '1 ms', u.active,
               u.position, false, now()
          FROM unnest($1::text[], $2::smallint[], $3::text[], $4::bigint[],
                      $5::boolean[], $6::bigint[])
               AS u (user_id, rank, status, ago, active, position)
        ON CONFLICT (user_id) DO UPDATE
           SET rank = EXCLUDED.rank, status = EXCLUDED.status,
               last_active = EXCLUDED.last_active, told_at = now(),
               currently_active = EXCLUDED.currently_active,
               position = EXCLUDED.position
        RETURNING user_id, position
        """,
        [each.item.user_id for each in told],
        [each.item.rank for each in told],
        [_text(each.item.status) for each in told],
        [each.item.last_active_ago_ms for each in told],
        [each.item.currently_active for each in told],
        [each.position for each in told],
    )
    await _reach(tx, told, [(row[0], row[1]) for row in moved])


async def _reach(
    tx: Tx,
    batch: Sequence[Positioned[Note]] | Sequence[Positioned[Told]],
    moved: Sequence[tuple[str, int]],
) -> None:
    """Say in which rooms those who moved are seen."""
    places = set(moved)
    by_user = {
        each.item.user_id: each.item.reach
        for each in batch
        if (str(each.item.user_id), each.position) in places
    }
    if not by_user:
        return
    rows = await tx.fetch(
        """
        SELECT user_id, room_nid FROM memberships
         WHERE user_id = ANY($1) AND membership = 'join'
        """,
        list(by_user),
    )
    for user_id, room_nid in rows:
        by_user[user_id].rooms.add(room_nid)


def _text(status: str | None) -> str | None:
    return None if status is None else to_text(status)


# ── Without positions ────────────────────────────────────────────────────────────────


async def still_there(
    tx: Tx, devices: Sequence[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Say that those devices are still there; those of which nothing was known."""
    rows = await tx.fetch(
        """
        UPDATE presence_devices d SET seen_at = now()
          FROM unnest($1::text[], $2::text[]) AS u (user_id, device_id)
         WHERE d.user_id = u.user_id AND d.device_id = u.device_id
        RETURNING d.user_id, d.device_id
        """,
        [user_id for user_id, _ in devices],
        [device_id for _, device_id in devices],
    )
    return set(devices) - {(user_id, device_id) for user_id, device_id in rows}


async def touch(tx: Tx, user_ids: Sequence[str]) -> list[UserId]:
    """Say that those users do something; for whom others see a difference."""
    rows = await tx.fetch(
        """
        UPDATE presence SET last_active = now()
         WHERE user_id = ANY($1) AND local AND rank > 0
        RETURNING user_id, currently_active AND rank >= 2
        """,
        user_ids,
    )
    return [UserId(user_id) for user_id, is_seen in rows if not is_seen]


async def repeated(tx: Tx, told: Sequence[Told]) -> list[Told]:
    """Note those that change nothing but the time; the others come back."""
    rows = await tx.fetch(
        """
        UPDATE presence p
           SET last_active = now() - u.ago * interval '1 ms', told_at = now()
          FROM unnest($1::text[], $2::smallint[], $3::text[], $4::bigint[],
                      $5::boolean[]) AS u (user_id, rank, status, ago, active)
         WHERE p.user_id = u.user_id
           AND (p.rank, p.status, p.currently_active)
               IS NOT DISTINCT FROM (u.rank, u.status, u.active)
        RETURNING p.user_id
        """,
        [each.user_id for each in told],
        [each.rank for each in told],
        [_text(each.status) for each in told],
        [each.last_active_ago_ms for each in told],
        [each.currently_active for each in told],
    )
    known = {row[0] for row in rows}
    return [each for each in told if each.user_id not in known]


async def here(tx: Tx, user_ids: Sequence[str]) -> set[str]:
    """Those of the users who are joined members of a room that we know."""
    rows = await tx.fetch(
        """
        SELECT u.user_id FROM unnest($1::text[]) AS u (user_id)
         WHERE EXISTS (SELECT FROM memberships m
                        WHERE m.user_id = u.user_id AND m.membership = 'join')
        """,
        user_ids,
    )
    return {row[0] for row in rows}


# ── Time ─────────────────────────────────────────────────────────────────────────────


async def overdue(tx: Tx, limit: int) -> list[UserId]:
    """Users of ours who are no longer what is noted, or are to be told of again."""
    rows = await tx.fetch(
        """
        (SELECT p.user_id FROM presence p
         WHERE p.local AND p.rank > 0
           AND (p.told_at < now() - $1 * interval '1 s'
                OR p.currently_active AND p.last_active < now() - $4 * interval '1 s'
                OR p.rank = 2 AND p.last_active < now() - $3 * interval '1 s'
                OR NOT EXISTS (SELECT FROM presence_devices d
                                WHERE d.user_id = p.user_id AND d.rank > 0
                                  AND d.seen_at > now() - $2 * interval '1 s'))
         ORDER BY p.told_at LIMIT $5)
         UNION
        (SELECT p.user_id FROM presence p JOIN presence_devices d USING (user_id)
          WHERE p.local AND p.rank = 0 AND d.rank > 0
            AND d.seen_at > now() - $2 * interval '1 s'
          LIMIT $5)
        """,
        REPEAT_SECONDS,
        GONE_SECONDS,
        IDLE_SECONDS,
        ACTIVE_SECONDS,
        limit,
    )
    return [UserId(row[0]) for row in rows]


async def silent(tx: Tx, limit: int) -> list[Told]:
    """Other servers' users of whom nothing was heard for long, as offline."""
    rows = await tx.fetch(
        """
        SELECT user_id, status,
               extract(epoch FROM now() - last_active)::bigint * 1000
          FROM presence
         WHERE NOT local AND rank > 0 AND told_at < now() - $1 * interval '1 s'
         ORDER BY told_at LIMIT $2
        """,
        SILENT_SECONDS,
        limit,
    )
    return [
        Told(
            UserId(user_id),
            0,
            ago,
            currently_active=False,
            status=None if status is None else from_text(status),
        )
        for user_id, status, ago in rows
    ]


async def forget_old(tx: Tx) -> None:
    """Forget devices that are gone, and others' users who are not there any more."""
    await tx.execute(
        "DELETE FROM presence_devices WHERE seen_at < now() - interval '1 hour'"
    )
    await tx.execute(
        """
        DELETE FROM presence
         WHERE NOT local AND rank = 0 AND told_at < now() - $1 * interval '1 day'
        """,
        KEEP_DAYS,
    )
