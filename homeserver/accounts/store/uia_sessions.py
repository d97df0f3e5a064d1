"""The table `uia_sessions`: user-interactive authentication under way."""

from dataclasses import dataclass, field
from datetime import timedelta

import orjson

from federation.canonical_json import JsonObject
from homeserver.db.pool import Tx


@dataclass(slots=True)
class UiaSession:
    """What a client has completed so far, for one operation of one user."""

    session_id: str
    operation: str
    # None where nobody is logged in yet.
    user_id: str | None
    completed: list[str]
    details: JsonObject
    # What the client was shown, for the fallback pages.
    flows: list[list[str]] = field(default_factory=list)


async def session(tx: Tx, session_id: str, max_age: timedelta) -> UiaSession | None:
    """The session, unless it has run out; it is ours until the transaction ends."""
    found = await tx.fetchrow(
        """
        SELECT session_id, operation, user_id, completed, details, flows
          FROM uia_sessions
         WHERE session_id = $1 AND created_at > now() - $2::interval
           FOR UPDATE
        """,
        session_id,
        max_age,
    )
    if found is None:
        return None
    return UiaSession(
        found["session_id"],
        found["operation"],
        found["user_id"],
        list(found["completed"]),
        orjson.loads(found["details"]),
        orjson.loads(found["flows"]),
    )


async def save(tx: Tx, session: UiaSession) -> None:
    """Keep the session as it is now."""
    await tx.execute(
        """
        INSERT INTO uia_sessions
               (session_id, operation, user_id, completed, details, flows)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (session_id) DO UPDATE
           SET completed = EXCLUDED.completed, details = EXCLUDED.details
        """,
        session.session_id,
        session.operation,
        session.user_id,
        session.completed,
        orjson.dumps(session.details).decode(),
        orjson.dumps(session.flows).decode(),
    )


async def delete(tx: Tx, session_id: str) -> bool:
    """Forget a session; False when it was not there any more."""
    return bool(
        await tx.fetchval(
            "DELETE FROM uia_sessions WHERE session_id = $1 RETURNING true", session_id
        )
    )


async def delete_old(tx: Tx, max_age: timedelta) -> list[JsonObject]:
    """Forget sessions that have run out; their details."""
    rows = await tx.fetch(
        """
        DELETE FROM uia_sessions
         WHERE created_at < now() - $1::interval
        RETURNING details
        """,
        max_age,
    )
    return [orjson.loads(row["details"]) for row in rows]
