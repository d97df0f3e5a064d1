"""The table `oauth_codes`: authorization codes, good once and for a moment."""

from dataclasses import dataclass
from datetime import timedelta

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class Code:
    """What a code was given for."""

    client_id: str
    user_id: UserId
    device_id: DeviceId
    scope: str
    redirect_uri: str
    challenge: str
    sign_on: int | None = None  # the log-in elsewhere that it is due to


@dataclass(frozen=True, slots=True)
class StoredCode(Code):
    """A code as it is now."""

    is_used: bool = False
    is_expired: bool = False


async def add(tx: Tx, code_hash: bytes, code: Code, lifetime: timedelta) -> None:
    """Keep a new code."""
    await tx.execute(
        """
        INSERT INTO oauth_codes (code_hash, client_id, user_id, device_id, scope,
                                 redirect_uri, challenge, sign_on, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::interval)
        """,
        code_hash,
        code.client_id,
        code.user_id,
        code.device_id,
        code.scope,
        code.redirect_uri,
        code.challenge,
        code.sign_on,
        lifetime,
    )


async def take(tx: Tx, code_hash: bytes) -> StoredCode | None:
    """The code; nobody else can use it until the transaction ends."""
    return await fetch_one_as(
        tx,
        StoredCode,
        """
        SELECT client_id, user_id, device_id, scope, redirect_uri, challenge, sign_on,
               used AS is_used, expires_at <= now() AS is_expired
          FROM oauth_codes
         WHERE code_hash = $1
           FOR UPDATE
        """,
        code_hash,
    )


async def use(tx: Tx, code_hash: bytes) -> None:
    """The code has been used."""
    await tx.execute(
        "UPDATE oauth_codes SET used = true WHERE code_hash = $1", code_hash
    )


async def delete_old(tx: Tx, keep: timedelta) -> None:
    """Forget codes so old that nobody tries them any more."""
    await tx.execute(
        "DELETE FROM oauth_codes WHERE expires_at < now() - $1::interval", keep
    )
