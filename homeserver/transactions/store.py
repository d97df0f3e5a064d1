"""The table `received_transactions`."""

from federation.ids import ServerName
from homeserver.db.pool import Tx
from homeserver.db.rows import to_text


async def find_response(tx: Tx, origin: ServerName, txn_id: str) -> str | None:
    """The answer that this transaction got before, as JSON."""
    found: str | None = await tx.fetchval(
        "SELECT response FROM received_transactions WHERE origin = $1 AND txn_id = $2",
        origin,
        to_text(txn_id),
    )
    return found


async def insert_response(
    tx: Tx, origin: ServerName, txn_id: str, response: str
) -> None:
    """Remember an answer."""
    await tx.execute(
        """
        INSERT INTO received_transactions (origin, txn_id, response)
        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
        """,
        origin,
        to_text(txn_id),
        response,
    )


async def delete_old(tx: Tx, keep: str) -> None:
    """Forget answers that are older than that interval."""
    await tx.execute(
        """
        DELETE FROM received_transactions
         WHERE received_at < now() - $1::text::interval
        """,
        keep,
    )
