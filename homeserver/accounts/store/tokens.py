"""The tables `access_tokens` and `refresh_tokens`: hashes, never the tokens.

A refresh makes a new pair. The old refresh token stays good until one of the new pair
is used, so that a client that lost the answer can ask again.

Spec: client-server-api#refreshing-access-tokens
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as, to_text
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class NewSession:
    """A device that logs in: the tokens that it gets instead of any it had."""

    user_id: UserId
    device_id: DeviceId
    # For a new device only.
    display_name: str | None
    access_hash: bytes
    expires_at: datetime | None = None
    refresh_hash: bytes | None = None
    ip: str | None = None  # from where


@dataclass(frozen=True, slots=True)
class KnownToken:
    """What the database says of an access token."""

    user_id: UserId
    device_id: DeviceId
    expires_at: datetime | None
    # A refresh token that is good no longer once this access token is used.
    revokes: bytes | None
    refresh_hash: bytes | None
    is_locked: bool
    is_suspended: bool
    is_admin: bool
    is_deactivated: bool
    is_guest: bool


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Whose a refresh token is, and which one it replaces until it is used."""

    user_id: UserId
    device_id: DeviceId
    replaces: bytes | None


async def open_sessions(tx: Tx, batch: Sequence[Positioned[NewSession]]) -> None:
    """Log devices in; tokens that they had go away. For the committer."""
    # Of one device, the last wins, as it would one after the other. Done twice, it
    # comes to the same: the committer repeats what it does not know to be committed.
    last = {(each.item.user_id, each.item.device_id): each.item for each in batch}
    new = list(last.values())
    await tx.execute(
        """
        WITH new AS (
            SELECT *
              FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[],
                          $5::timestamptz[], $6::bytea[], $7::text[])
                   AS n (user_id, device_id, display_name, access_hash, expires_at,
                         refresh_hash, ip)
        ), device AS (
            INSERT INTO devices
                   (user_id, device_id, display_name, last_seen_at, last_seen_ip)
            SELECT user_id, device_id, display_name, now(), ip FROM new
            ON CONFLICT (user_id, device_id) DO UPDATE
               SET last_seen_at = EXCLUDED.last_seen_at,
                   last_seen_ip = EXCLUDED.last_seen_ip
        ), old_access AS (
            DELETE FROM access_tokens t
             USING new
             WHERE t.user_id = new.user_id AND t.device_id = new.device_id
               AND t.token_hash <> new.access_hash
        ), old_refresh AS (
            DELETE FROM refresh_tokens t
             USING new
             WHERE t.user_id = new.user_id AND t.device_id = new.device_id
               AND t.token_hash IS DISTINCT FROM new.refresh_hash
        ), spent AS (
            DELETE FROM spent_refresh_tokens t
             USING new
             WHERE t.user_id = new.user_id AND t.device_id = new.device_id
        ), otherwise AS (
            DELETE FROM oauth_sessions o
             USING new
             WHERE o.user_id = new.user_id AND o.device_id = new.device_id
        ), refresh AS (
            INSERT INTO refresh_tokens (token_hash, user_id, device_id)
            SELECT refresh_hash, user_id, device_id
              FROM new
             WHERE refresh_hash IS NOT NULL
            ON CONFLICT (token_hash) DO NOTHING
        )
        INSERT INTO access_tokens
               (token_hash, user_id, device_id, expires_at, refresh_hash)
        SELECT access_hash, user_id, device_id, expires_at, refresh_hash
          FROM new
        ON CONFLICT (token_hash) DO NOTHING
        """,
        [each.user_id for each in new],
        [each.device_id for each in new],
        [
            to_text(each.display_name) if each.display_name is not None else None
            for each in new
        ],
        [each.access_hash for each in new],
        [each.expires_at for each in new],
        [each.refresh_hash for each in new],
        [each.ip for each in new],
    )


async def known_token(tx: Tx, token_hash: bytes) -> KnownToken | None:
    """What an access token stands for, also when it has expired."""
    return await fetch_one_as(
        tx,
        KnownToken,
        """
        SELECT a.user_id, a.device_id, a.expires_at, r.replaces AS revokes,
               a.refresh_hash, u.locked AS is_locked, u.suspended AS is_suspended,
               u.admin AS is_admin, u.deactivated AS is_deactivated,
               u.guest AS is_guest
          FROM access_tokens a
          JOIN users u ON u.user_id = a.user_id
          LEFT JOIN refresh_tokens r ON r.token_hash = a.refresh_hash
         WHERE a.token_hash = $1
        """,
        token_hash,
    )


async def revoke_replaced(tx: Tx, refresh_hash: bytes) -> None:
    """One of a pair is used: the refresh token that it replaces is good no longer.

    It is kept in mind, so that a thief who comes later is noticed.
    """
    await tx.execute(
        """
        WITH used AS (
            UPDATE refresh_tokens r
               SET replaces = NULL
              FROM (SELECT token_hash, replaces
                      FROM refresh_tokens
                     WHERE token_hash = $1 AND replaces IS NOT NULL
                       FOR UPDATE) AS old
             WHERE r.token_hash = old.token_hash
            RETURNING old.replaces
        ), spent AS (
            DELETE FROM refresh_tokens
             WHERE token_hash IN (SELECT replaces FROM used)
            RETURNING token_hash, user_id, device_id
        )
        INSERT INTO spent_refresh_tokens (token_hash, user_id, device_id)
        SELECT token_hash, user_id, device_id FROM spent
        ON CONFLICT (token_hash) DO NOTHING
        """,
        refresh_hash,
    )


async def stolen_from(
    tx: Tx, token_hash: bytes, grace: timedelta
) -> tuple[UserId, DeviceId] | None:
    """Whose session it was in which this refresh token was replaced.

    Not within the grace: two programs of one client may refresh at once.
    """
    found = await tx.fetchrow(
        """
        SELECT user_id, device_id FROM spent_refresh_tokens
         WHERE token_hash = $1 AND spent_at < now() - $2::interval
        """,
        token_hash,
        grace,
    )
    return None if found is None else (found["user_id"], found["device_id"])


async def end_tokens(
    tx: Tx, batch: Sequence[Positioned[tuple[UserId, DeviceId]]]
) -> None:
    """Log devices out softly: they stay, their tokens go. For the committer."""
    for table in ("access_tokens", "refresh_tokens", "spent_refresh_tokens"):
        await tx.execute(
            f"""
            DELETE FROM {table} t
             USING unnest($1::text[], $2::text[]) AS gone (user_id, device_id)
             WHERE t.user_id = gone.user_id AND t.device_id = gone.device_id
            """,  # noqa: S608 - names of ours
            [each.item[0] for each in batch],
            [each.item[1] for each in batch],
        )


async def take_refresh_token(tx: Tx, token_hash: bytes) -> RefreshToken | None:
    """Whose it is; nobody else can use it until the transaction ends."""
    return await fetch_one_as(
        tx,
        RefreshToken,
        """
        SELECT user_id, device_id, replaces
          FROM refresh_tokens
         WHERE token_hash = $1
           FOR UPDATE
        """,
        token_hash,
    )


async def replace_pair(tx: Tx, old_hash: bytes, new: NewSession) -> None:
    """Add the pair that replaces a refresh token, instead of one never used.

    Access tokens that ran out over a day ago are forgotten; younger ones are kept, so
    that a late request is told of a soft logout.
    """
    await tx.execute(
        """
        WITH unused AS (
            DELETE FROM refresh_tokens WHERE replaces = $1 RETURNING token_hash
        )
        DELETE FROM access_tokens
         WHERE refresh_hash IN (SELECT token_hash FROM unused)
            OR (user_id = $2 AND device_id = $3
                AND expires_at < now() - interval '1 day')
        """,
        old_hash,
        new.user_id,
        new.device_id,
    )
    await tx.execute(
        """
        INSERT INTO refresh_tokens (token_hash, user_id, device_id, replaces)
        VALUES ($1, $2, $3, $4)
        """,
        new.refresh_hash,
        new.user_id,
        new.device_id,
        old_hash,
    )
    await tx.execute(
        """
        INSERT INTO access_tokens
               (token_hash, user_id, device_id, expires_at, refresh_hash)
        VALUES ($1, $2, $3, $4, $5)
        """,
        new.access_hash,
        new.user_id,
        new.device_id,
        new.expires_at,
        new.refresh_hash,
    )


async def delete_expired(tx: Tx) -> None:
    """Forget access tokens that ran out so long ago that nobody refreshes them."""
    await tx.execute(
        "DELETE FROM access_tokens WHERE expires_at < now() - interval '30 days'"
    )
    await tx.execute(
        "DELETE FROM spent_refresh_tokens WHERE spent_at < now() - interval '30 days'"
    )
