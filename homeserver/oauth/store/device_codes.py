"""The table `oauth_device_codes`: devices that wait to be allowed on another one."""

from dataclasses import dataclass
from datetime import timedelta

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A device that waits: what it asks for, and who has said what."""

    client_id: str
    device_id: DeviceId
    scope: str
    user_id: UserId | None = None
    allowed: bool | None = None
    sign_on: int | None = None  # the log-in elsewhere that the answer is due to
    is_expired: bool = False
    is_too_fast: bool = False


async def add(
    tx: Tx,
    code_hash: bytes,
    user_code: str,
    wanted: DeviceCode,
    lifetime: timedelta,
) -> bool:
    """Keep a device that waits; False when the user code is taken."""
    return bool(
        await tx.fetchval(
            """
            INSERT INTO oauth_device_codes (code_hash, user_code, client_id, device_id,
                                            scope, expires_at, poll_after)
            VALUES ($1, $2, $3, $4, $5, now() + $6::interval, now())
            ON CONFLICT (user_code) DO NOTHING
            RETURNING true
            """,
            code_hash,
            user_code,
            wanted.client_id,
            wanted.device_id,
            wanted.scope,
            lifetime,
        )
    )


async def poll(tx: Tx, code_hash: bytes, interval: timedelta) -> DeviceCode | None:
    """How it stands, for the device itself, which must wait before it asks again."""
    return await fetch_one_as(
        tx,
        DeviceCode,
        """
        UPDATE oauth_device_codes d
           SET poll_after = now() + $2::interval
          FROM (SELECT code_hash, poll_after
                  FROM oauth_device_codes WHERE code_hash = $1 FOR UPDATE) AS old
         WHERE d.code_hash = old.code_hash
        RETURNING client_id, device_id, scope, user_id, allowed, sign_on,
                  expires_at <= now() AS is_expired,
                  old.poll_after > now() AS is_too_fast
        """,
        code_hash,
        interval,
    )


async def by_user_code(tx: Tx, user_code: str) -> DeviceCode | None:
    """The device that shows this code and has no answer yet."""
    return await fetch_one_as(
        tx,
        DeviceCode,
        """
        SELECT client_id, device_id, scope
          FROM oauth_device_codes
         WHERE user_code = $1 AND allowed IS NULL AND expires_at > now()
        """,
        user_code,
    )


async def answer(
    tx: Tx,
    user_code: str,
    user_id: UserId,
    *,
    allowed: bool,
    sign_on: int | None = None,
) -> bool:
    """Allow the device, or not; False when it waits no longer."""
    return bool(
        await tx.fetchval(
            """
            UPDATE oauth_device_codes
               SET user_id = $2, allowed = $3, sign_on = $4
             WHERE user_code = $1 AND allowed IS NULL AND expires_at > now()
            RETURNING true
            """,
            user_code,
            user_id,
            allowed,
            sign_on,
        )
    )


async def delete(tx: Tx, code_hash: bytes) -> bool:
    """The device has its answer; False when another request has taken it."""
    return bool(
        await tx.fetchval(
            "DELETE FROM oauth_device_codes WHERE code_hash = $1 RETURNING true",
            code_hash,
        )
    )


async def delete_old(tx: Tx, keep: timedelta) -> None:
    """Forget devices that nobody has answered."""
    await tx.execute(
        "DELETE FROM oauth_device_codes WHERE expires_at < now() - $1::interval", keep
    )
