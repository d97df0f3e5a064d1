"""Whose a token is, be it of either kind."""

from dataclasses import dataclass

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as


@dataclass(frozen=True, slots=True)
class Owner:
    """The device that a token belongs to."""

    user_id: UserId
    device_id: DeviceId


async def device_of(tx: Tx, token_hash: bytes) -> Owner | None:
    """The device of an access or refresh token."""
    return await fetch_one_as(
        tx,
        Owner,
        """
        SELECT user_id, device_id FROM access_tokens WHERE token_hash = $1
        UNION ALL
        SELECT user_id, device_id FROM refresh_tokens WHERE token_hash = $1
        LIMIT 1
        """,
        token_hash,
    )
