"""The table `oauth_clients`."""

from datetime import timedelta

from homeserver.db.pool import Tx
from homeserver.db.rows import from_text, to_text


async def put(tx: Tx, client_id: str, metadata: str) -> None:
    """Keep a client; one that says the same of itself is the same client."""
    await tx.execute(
        """
        INSERT INTO oauth_clients (client_id, metadata) VALUES ($1, $2)
        ON CONFLICT (client_id) DO UPDATE SET registered_at = now()
        """,
        client_id,
        to_text(metadata),
    )


async def metadata(tx: Tx, client_id: str) -> str | None:
    """What a client says of itself, as JSON."""
    found = await tx.fetchval(
        "SELECT metadata FROM oauth_clients WHERE client_id = $1", client_id
    )
    return from_text(found) if isinstance(found, str) else None


async def delete_unused(tx: Tx, max_age: timedelta) -> None:
    """Forget clients that registered long ago and have no session.

    Spec: client-server-api#dynamic-client-registration-flow: those that have one "MUST
    NOT" be deleted.
    """
    await tx.execute(
        """
        DELETE FROM oauth_clients c
         WHERE registered_at < now() - $1::interval
           AND NOT EXISTS (SELECT FROM oauth_sessions s
                            WHERE s.client_id = c.client_id)
        """,
        max_age,
    )
