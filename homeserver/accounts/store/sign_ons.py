"""The tables `sign_on_links`, `sign_ons` and `sign_on_devices`.

They stand here since what asks for more than a token (user-interactive authentication)
has to know who can show elsewhere who they are.
"""

from dataclasses import dataclass
from datetime import timedelta

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


@dataclass(frozen=True, slots=True)
class Link:
    """Who a user is at a provider."""

    provider: str
    subject: str


@dataclass(frozen=True, slots=True)
class SignOn:
    """A log-in of a user through a provider."""

    sign_on: int
    user_id: UserId


async def links_of(tx: Tx, user_id: UserId) -> list[Link]:
    """Who the user is elsewhere."""
    return await fetch_as(
        tx,
        Link,
        """
        SELECT provider, subject FROM sign_on_links
         WHERE user_id = $1 ORDER BY provider, subject
        """,
        user_id,
    )


async def linked_user(tx: Tx, provider: str, subject: str) -> UserId | None:
    """Whose account it is."""
    user_id: UserId | None = await tx.fetchval(
        "SELECT user_id FROM sign_on_links WHERE provider = $1 AND subject = $2",
        provider,
        subject,
    )
    return user_id


async def link(tx: Tx, provider: str, subject: str, user_id: UserId) -> bool:
    """From now on it is this account; False when it is another's already."""
    owner = await tx.fetchval(
        """
        INSERT INTO sign_on_links AS l (provider, subject, user_id)
        VALUES ($1, $2, $3)
        ON CONFLICT (provider, subject) DO UPDATE SET user_id = l.user_id
        RETURNING user_id
        """,
        provider,
        subject,
        user_id,
    )
    return bool(owner == user_id)


async def unlink(tx: Tx, provider: str, subject: str) -> UserId | None:
    """It is nobody's account any more; whose it was."""
    user_id: UserId | None = await tx.fetchval(
        """
        DELETE FROM sign_on_links WHERE provider = $1 AND subject = $2
        RETURNING user_id
        """,
        provider,
        subject,
    )
    return user_id


# ── Log-ins through a provider ───────────────────────────────────────────────────────


async def begin(tx: Tx, provider: str, subject: str, sid: str, user_id: UserId) -> int:
    """Somebody has come in; the number of that."""
    return int(
        await tx.fetchval(
            """
            INSERT INTO sign_ons (provider, subject, sid, user_id)
            VALUES ($1, $2, $3, $4) RETURNING sign_on
            """,
            provider,
            subject,
            sid,
            user_id,
        )
    )


async def note_device(
    tx: Tx, user_id: UserId, device_id: DeviceId, sign_on: int | None
) -> bool:
    """The device began with this log-in, or with none; False when that has ended."""
    await tx.execute(
        "DELETE FROM sign_on_devices WHERE user_id = $1 AND device_id = $2",
        user_id,
        device_id,
    )
    if sign_on is None:
        return True
    return bool(
        await tx.fetchval(
            """
            INSERT INTO sign_on_devices (user_id, device_id, sign_on)
            SELECT $1, $2, sign_on FROM sign_ons WHERE sign_on = $3 FOR KEY SHARE
            RETURNING true
            """,
            user_id,
            device_id,
            sign_on,
        )
    )


async def ending(tx: Tx, provider: str, subject: str, sid: str) -> list[SignOn]:
    """The log-ins that have ended elsewhere: all of somebody, or of one session."""
    return await fetch_as(
        tx,
        SignOn,
        """
        SELECT sign_on, user_id FROM sign_ons
         WHERE provider = $1 AND ($2 = '' OR subject = $2) AND ($3 = '' OR sid = $3)
         ORDER BY sign_on
           FOR UPDATE
        """,
        provider,
        subject,
        sid,
    )


async def devices_of(tx: Tx, sign_ons: list[int]) -> list[tuple[UserId, DeviceId]]:
    """The devices that began with them."""
    rows = await tx.fetch(
        "SELECT user_id, device_id FROM sign_on_devices WHERE sign_on = ANY($1)",
        sign_ons,
    )
    return [(UserId(row["user_id"]), DeviceId(row["device_id"])) for row in rows]


async def end_browsers(tx: Tx, sign_ons: list[int]) -> None:
    """Nobody is logged in with a browser through them any more, or about to be."""
    for statement in (
        "DELETE FROM browser_sessions WHERE sign_on = ANY($1)",
        "DELETE FROM login_tokens WHERE sign_on = ANY($1)",
        "DELETE FROM oauth_codes WHERE sign_on = ANY($1) AND NOT used",
        "DELETE FROM oauth_device_codes WHERE sign_on = ANY($1)",
    ):
        await tx.execute(statement, sign_ons)


async def end(tx: Tx, sign_ons: list[int]) -> None:
    """They are over."""
    await tx.execute("DELETE FROM sign_ons WHERE sign_on = ANY($1)", sign_ons)


async def delete_old(tx: Tx, lifetime: timedelta) -> None:
    """Forget log-ins that nothing of ours rests on any more."""
    await tx.execute(
        """
        DELETE FROM sign_ons s
         WHERE created_at < now() - $1::interval
           AND NOT EXISTS (SELECT FROM sign_on_devices d WHERE d.sign_on = s.sign_on)
           AND NOT EXISTS (SELECT FROM browser_sessions b WHERE b.sign_on = s.sign_on)
        """,
        lifetime,
    )
