"""The tables `appservices` and `appservice_rooms`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, from_text, to_text
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Files:
    """What the files say: registrations as JSON by ID; others are off from now on."""

    registrations: dict[str, str]


async def registrations(tx: Tx) -> list[str]:
    """The registrations that hold, as JSON."""
    rows = await tx.fetch(
        "SELECT registration FROM appservices WHERE active ORDER BY service_id"
    )
    return [from_text(row["registration"]) for row in rows]


async def take_files(tx: Tx, batch: Sequence[Positioned[Files]]) -> None:
    """Have what the files say hold. For the committer.

    A service that is new, or back after it was off, is told of what comes from now on.
    """
    for each in batch:
        found = each.item.registrations
        await tx.execute(
            """
            UPDATE appservices
               SET active = false, registration = '{}', pending = NULL,
                   pending_upto = NULL, holder = NULL, until = NULL
             WHERE active AND NOT by_admin AND service_id <> ALL($1)
            """,
            [to_text(service_id) for service_id in found],
        )
        await tx.execute(
            """
            INSERT INTO appservices AS a (service_id, registration, active, position)
            SELECT u.service_id, u.registration, true, $3
              FROM unnest($1::text[], $2::text[]) AS u (service_id, registration)
            ON CONFLICT (service_id) DO UPDATE
               SET registration = EXCLUDED.registration, active = true,
                   failures = 0, retry_at = NULL, by_admin = false,
                   position = CASE WHEN a.active THEN a.position ELSE $3 END,
                   pending = CASE WHEN a.active THEN a.pending END,
                   pending_upto = CASE WHEN a.active THEN a.pending_upto END
            """,
            [to_text(service_id) for service_id in found],
            [to_text(text) for text in found.values()],
            each.position,
        )


async def of_files(tx: Tx) -> list[str]:
    """The registrations that files said last, as JSON."""
    rows = await tx.fetch(
        "SELECT registration FROM appservices WHERE active AND NOT by_admin"
    )
    return [from_text(row["registration"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Told:
    """How it stands with a service."""

    service_id: str
    by_admin: bool
    failures: int


async def overview(tx: Tx) -> dict[str, Told]:
    """How it stands with each, by ID."""
    rows = await tx.fetch(
        "SELECT service_id, by_admin, failures FROM appservices WHERE active"
    )
    return {
        from_text(service_id): Told(from_text(service_id), by_admin, failures)
        for service_id, by_admin, failures in rows
    }


@dataclass(frozen=True, slots=True)
class Added:
    """A registration that an administrator adds; None: takes out."""

    service_id: str
    registration: str | None


async def take_added(tx: Tx, batch: Sequence[Positioned[Added]]) -> None:
    """Have it hold, or no longer; what files say stays. For the committer."""
    for each in batch:
        service_id = to_text(each.item.service_id)
        if each.item.registration is None:
            await tx.execute(
                """
                UPDATE appservices
                   SET active = false, registration = '{}', pending = NULL,
                       pending_upto = NULL, holder = NULL, until = NULL
                 WHERE service_id = $1 AND active AND by_admin
                """,
                service_id,
            )
            continue
        await tx.execute(
            """
            INSERT INTO appservices AS a
                   (service_id, registration, active, position, by_admin)
            VALUES ($1, $2, true, $3, true)
            ON CONFLICT (service_id) DO UPDATE
               SET registration = EXCLUDED.registration, active = true,
                   failures = 0, retry_at = NULL, by_admin = true,
                   position = CASE WHEN a.active THEN a.position ELSE $3 END,
                   pending = CASE WHEN a.active THEN a.pending END,
                   pending_upto = CASE WHEN a.active THEN a.pending_upto END
             WHERE a.by_admin OR NOT a.active
            """,
            service_id,
            to_text(each.item.registration),
            each.position,
        )


async def is_user(tx: Tx, user_id: str) -> bool:
    """Whether there is, or was, such a user."""
    return bool(await tx.fetchval("SELECT true FROM users WHERE user_id = $1", user_id))


# ── Who sends ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Claimed:
    """A service that this process tells what happens.

    Everything up to `position` has been told. A transaction that may have arrived is
    kept as it was sent: `pending`, number `txn`, after which `pending_upto` is told.
    """

    service_id: str
    position: int
    txn: int
    pending: str | None
    pending_upto: int | None
    failures: int


async def claim(
    tx: Tx, holder: str, seconds: float, service_ids: Sequence[str]
) -> list[Claimed]:
    """Take those that nobody holds and that may be tried."""
    found = await fetch_as(
        tx,
        Claimed,
        """
        UPDATE appservices AS a
           SET holder = $1, until = clock_timestamp() + $2
          FROM (SELECT service_id FROM appservices
                 WHERE active AND service_id = ANY($3)
                   AND (holder IS NULL OR holder = $1 OR until < clock_timestamp())
                   AND (retry_at IS NULL OR retry_at <= clock_timestamp())
                   FOR UPDATE SKIP LOCKED) AS free
         WHERE a.service_id = free.service_id
        RETURNING a.service_id, a.position, a.txn, a.pending, a.pending_upto,
                  a.failures
        """,
        holder,
        timedelta(seconds=seconds),
        [to_text(each) for each in service_ids],
    )
    return [
        Claimed(
            from_text(each.service_id),
            each.position,
            each.txn,
            each.pending,
            each.pending_upto,
            each.failures,
        )
        for each in found
    ]


async def renew(
    tx: Tx, holder: str, seconds: float, service_ids: Sequence[str]
) -> set[str]:
    """Hold what is ours a while longer; what is missing in the answer is not ours."""
    rows = await tx.fetch(
        """
        UPDATE appservices SET until = clock_timestamp() + $2
         WHERE holder = $1 AND service_id = ANY($3) RETURNING service_id
        """,
        holder,
        timedelta(seconds=seconds),
        [to_text(each) for each in service_ids],
    )
    return {from_text(row["service_id"]) for row in rows}


async def prepare(
    tx: Tx, service_id: str, holder: str, position: int, upto: int, body: str
) -> int | None:
    """Keep a transaction that is about to be sent; its number.

    Everything up to `position` has been told. None: the service is not ours any more.
    """
    number: int | None = await tx.fetchval(
        """
        UPDATE appservices
           SET position = greatest(position, $3), txn = txn + 1, pending = $5,
               pending_upto = $4
         WHERE service_id = $1 AND holder = $2
        RETURNING txn
        """,
        to_text(service_id),
        holder,
        position,
        upto,
        body,
    )
    return number


async def save(tx: Tx, service_id: str, holder: str, position: int) -> bool:
    """Note that all up to a position was told; False: the service is not ours now."""
    return bool(
        await tx.fetchval(
            """
            UPDATE appservices
               SET position = greatest(position, $3), pending = NULL,
                   pending_upto = NULL, failures = 0, retry_at = NULL
             WHERE service_id = $1 AND holder = $2
            RETURNING true
            """,
            to_text(service_id),
            holder,
            position,
        )
    )


async def note_failure(tx: Tx, service_id: str, holder: str, delay: float) -> None:
    """Note that the service failed and when to try again, and let go."""
    await tx.execute(
        """
        UPDATE appservices
           SET failures = failures + 1, retry_at = clock_timestamp() + $3,
               holder = NULL, until = NULL
         WHERE service_id = $1 AND holder = $2
        """,
        to_text(service_id),
        holder,
        timedelta(seconds=delay),
    )


async def wake(tx: Tx, service_id: str) -> None:
    """Try it again at once: it has shown that it is there."""
    await tx.execute(
        """
        UPDATE appservices SET failures = 0, retry_at = NULL
         WHERE service_id = $1 AND retry_at IS NOT NULL
        """,
        to_text(service_id),
    )


async def release(tx: Tx, holder: str) -> None:
    """Let go of all that this process holds."""
    await tx.execute(
        "UPDATE appservices SET holder = NULL, until = NULL WHERE holder = $1", holder
    )


# ── Rooms of third-party networks ────────────────────────────────────────────────────


async def list_room(tx: Tx, service_id: str, network_id: str, room_nid: int) -> None:
    """Publish a room in the service's list of a network."""
    await tx.execute(
        """
        INSERT INTO appservice_rooms (service_id, network_id, room_nid)
        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
        """,
        to_text(service_id),
        to_text(network_id),
        room_nid,
    )


async def unlist_room(tx: Tx, service_id: str, network_id: str, room_nid: int) -> None:
    """Take a room from the service's list of a network."""
    await tx.execute(
        """
        DELETE FROM appservice_rooms
         WHERE service_id = $1 AND network_id = $2 AND room_nid = $3
        """,
        to_text(service_id),
        to_text(network_id),
        room_nid,
    )
