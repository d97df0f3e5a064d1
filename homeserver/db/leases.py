"""Work that any process may do, and one at a time does: a lease with an end.

The holder renews in time or loses it; a process that dies frees its leases by doing
nothing. Time is the database's, so that clocks of different hosts do not matter.

Table: `leases(name, holder, until)`.
"""

from collections.abc import Sequence
from datetime import timedelta

from homeserver.db.pool import Tx


async def claim(tx: Tx, name: str, holder: str, seconds: float) -> bool:
    """Take the lease, or prolong it when it is ours; False: somebody else has it.

    Never waits: a row that another process is just writing counts as taken.
    """
    got = await tx.fetchval(
        """
        WITH free AS (
            SELECT name
              FROM leases
             WHERE name = $1 AND (holder = $2 OR until < clock_timestamp())
               FOR UPDATE SKIP LOCKED
        ), renewed AS (
            UPDATE leases
               SET holder = $2, until = clock_timestamp() + $3
              FROM free
             WHERE leases.name = free.name
            RETURNING leases.name
        ), fresh AS (
            INSERT INTO leases (name, holder, until)
            SELECT $1, $2, clock_timestamp() + $3
             WHERE NOT EXISTS (SELECT FROM leases WHERE name = $1)
            ON CONFLICT (name) DO NOTHING
            RETURNING name
        )
        SELECT EXISTS (SELECT FROM renewed UNION ALL SELECT FROM fresh)
        """,
        name,
        holder,
        timedelta(seconds=seconds),
    )
    return bool(got)


async def renew(tx: Tx, names: Sequence[str], holder: str, seconds: float) -> set[str]:
    """Prolong these leases of ours; what is missing in the answer has been lost."""
    rows = await tx.fetch(
        """
        UPDATE leases
           SET until = clock_timestamp() + $3
         WHERE name = ANY($1::text[]) AND holder = $2 AND until >= clock_timestamp()
        RETURNING name
        """,
        names,
        holder,
        timedelta(seconds=seconds),
    )
    return {row["name"] for row in rows}


async def release(tx: Tx, names: Sequence[str], holder: str) -> None:
    """Give leases back; those that are not ours stay as they are."""
    await tx.execute(
        "DELETE FROM leases WHERE name = ANY($1::text[]) AND holder = $2", names, holder
    )


async def holder_of(tx: Tx, name: str) -> str | None:
    """Who holds the lease now, or None."""
    holder: str | None = await tx.fetchval(
        "SELECT holder FROM leases WHERE name = $1 AND until >= clock_timestamp()", name
    )
    return holder
