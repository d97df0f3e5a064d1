"""The tables `sign_on_requests`, `sign_on_arrivals` and `sign_on_used`."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_one_as, from_text, to_text

# So long somebody may take at the provider, and to choose a name.
LIFETIME: Final = timedelta(minutes=20)


@dataclass(frozen=True, slots=True)
class Request:
    """A browser that was sent to a provider; the last two are JSON."""

    provider: str
    browser: bytes
    secrets: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody whom nobody here knows yet; `identity` is JSON."""

    identity: str
    onward: str


async def add_request(tx: Tx, state_hash: bytes, request: Request) -> None:
    """Remember what a browser was sent away with."""
    await tx.execute(
        """
        INSERT INTO sign_on_requests (state_hash, provider, browser, secrets, purpose,
                                      expires_at)
        VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
        """,
        state_hash,
        request.provider,
        request.browser,
        request.secrets,
        request.purpose,
        LIFETIME,
    )


async def take_request(
    tx: Tx, state_hash: bytes, provider: str, browser: bytes
) -> Request | None:
    """What it was sent away with, once; None when that was another, or long ago."""
    return await fetch_one_as(
        tx,
        Request,
        """
        DELETE FROM sign_on_requests
         WHERE state_hash = $1 AND provider = $2 AND browser = $3 AND expires_at > now()
        RETURNING provider, browser, secrets, purpose
        """,
        state_hash,
        provider,
        browser,
    )


async def add_secret(
    tx: Tx, state_hash: bytes, provider: str, name: str, value: str
) -> bool:
    """Lay what has come beside the request it answers, once; False: there is none."""
    return bool(
        await tx.fetchval(
            """
            UPDATE sign_on_requests
               SET secrets = (secrets::jsonb || jsonb_build_object($3::text, $4::text))
             WHERE state_hash = $1 AND provider = $2 AND expires_at > now()
               AND NOT secrets::jsonb ? $3
            RETURNING true
            """,
            state_hash,
            provider,
            name,
            value,
        )
    )


async def put_arrival(tx: Tx, browser: bytes, arrival: Arrival) -> None:
    """Keep somebody who has come, until they have chosen a name."""
    await tx.execute(
        """
        INSERT INTO sign_on_arrivals (browser, identity, onward, expires_at)
        VALUES ($1, $2, $3, now() + $4::interval)
        ON CONFLICT (browser) DO UPDATE
           SET identity = EXCLUDED.identity, onward = EXCLUDED.onward,
               expires_at = EXCLUDED.expires_at
        """,
        browser,
        to_text(arrival.identity),
        arrival.onward,
        LIFETIME,
    )


async def arrival(tx: Tx, browser: bytes) -> Arrival | None:
    """Who has come with this browser."""
    found = await fetch_one_as(
        tx,
        Arrival,
        """
        SELECT identity, onward FROM sign_on_arrivals
         WHERE browser = $1 AND expires_at > now()
        """,
        browser,
    )
    return found and Arrival(from_text(found.identity), found.onward)


async def end_arrival(tx: Tx, browser: bytes) -> bool:
    """They are somebody here now; False when another request was faster."""
    return bool(
        await tx.fetchval(
            "DELETE FROM sign_on_arrivals WHERE browser = $1 RETURNING true", browser
        )
    )


async def use(tx: Tx, token_hash: bytes, lifetime: timedelta) -> bool:
    """Use a token of somebody else up; False when it was used before."""
    return bool(
        await tx.fetchval(
            """
            INSERT INTO sign_on_used (token_hash, expires_at)
            VALUES ($1, now() + $2::interval)
            ON CONFLICT (token_hash) DO NOTHING
            RETURNING true
            """,
            token_hash,
            lifetime,
        )
    )


async def delete_expired(tx: Tx) -> None:
    """Forget who has not come back, or not gone on, and tokens that have run out."""
    for statement in (
        "DELETE FROM sign_on_requests WHERE expires_at < now()",
        "DELETE FROM sign_on_arrivals WHERE expires_at < now()",
        "DELETE FROM sign_on_used WHERE expires_at < now()",
    ):
        await tx.execute(statement)
