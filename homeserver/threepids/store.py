"""The table `threepid_sessions`: addresses that are being shown to be somebody's."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session as a client asks for it, with the token that is sent."""

    session_id: str
    purpose: str
    medium: str
    address: str
    secret_hash: bytes
    send_attempt: int
    token_hash: bytes
    next_link: str | None
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of a session that has not run out."""

    session_id: str
    purpose: str
    medium: str
    address: str
    secret_hash: bytes
    token_hash: bytes
    tries: int
    next_link: str | None
    validated_at: datetime | None


async def begin(tx: Tx, new: NewSession) -> tuple[str, bool]:
    """The session's ID, and whether its token is to be sent.

    It is not when the client only asks again. A session that is over begins anew.
    """
    await tx.execute(
        """
        DELETE FROM threepid_sessions
         WHERE purpose = $1 AND medium = $2 AND address = $3 AND secret_hash = $4
           AND expires_at < now()
        """,
        new.purpose,
        new.medium,
        new.address,
        new.secret_hash,
    )
    begun: str | None = await tx.fetchval(
        """
        INSERT INTO threepid_sessions AS s
               (session_id, purpose, medium, address, secret_hash, send_attempt,
                token_hash, next_link, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::interval)
        ON CONFLICT (purpose, medium, address, secret_hash) DO UPDATE
           SET send_attempt = EXCLUDED.send_attempt, token_hash = EXCLUDED.token_hash,
               next_link = EXCLUDED.next_link, expires_at = EXCLUDED.expires_at,
               tries = 0
         WHERE s.send_attempt < EXCLUDED.send_attempt AND s.validated_at IS NULL
        RETURNING session_id
        """,
        new.session_id,
        new.purpose,
        new.medium,
        new.address,
        new.secret_hash,
        new.send_attempt,
        new.token_hash,
        new.next_link,
        new.lifetime,
    )
    if begun is not None:
        return begun, True
    known: str = await tx.fetchval(
        """
        SELECT session_id FROM threepid_sessions
         WHERE purpose = $1 AND medium = $2 AND address = $3 AND secret_hash = $4
        """,
        new.purpose,
        new.medium,
        new.address,
        new.secret_hash,
    )
    return known, False


async def session(tx: Tx, session_id: str) -> Session | None:
    """The session, unless it has run out; it is ours until the transaction ends."""
    return await fetch_one_as(
        tx,
        Session,
        """
        SELECT session_id, purpose, medium, address, secret_hash, token_hash, tries,
               next_link, validated_at
          FROM threepid_sessions
         WHERE session_id = $1 AND expires_at > now()
           FOR UPDATE
        """,
        session_id,
    )


async def note_try(tx: Tx, session_id: str, *, is_right: bool) -> None:
    """Somebody has shown a token."""
    await tx.execute(
        """
        UPDATE threepid_sessions
           SET tries = tries + 1,
               validated_at = CASE WHEN $2 THEN coalesce(validated_at, now())
                                   ELSE validated_at END
         WHERE session_id = $1
        """,
        session_id,
        is_right,
    )


async def delete(tx: Tx, session_id: str) -> bool:
    """The session is used up; False: somebody else has used it."""
    return bool(
        await tx.fetchval(
            "DELETE FROM threepid_sessions WHERE session_id = $1 RETURNING true",
            session_id,
        )
    )


async def delete_expired(tx: Tx) -> None:
    """Forget sessions that have run out."""
    await tx.execute("DELETE FROM threepid_sessions WHERE expires_at < now()")
