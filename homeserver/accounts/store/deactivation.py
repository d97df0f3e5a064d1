"""Deactivating accounts; the table `farewells`."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.live.changes import Positioned


@dataclass(frozen=True, slots=True)
class Deactivation:
    """A user goes for good; `erase`: and with all that can be erased."""

    user_id: UserId
    erase: bool


async def deactivate(tx: Tx, batch: Sequence[Positioned[Deactivation]]) -> None:
    """End accounts, and leave word that their users are to leave. For the committer."""
    user_ids = [each.item.user_id for each in batch]
    erased = [each.item.user_id for each in batch if each.item.erase]
    await tx.execute(
        """
        UPDATE users
           SET deactivated = true, password_hash = NULL,
               erased = erased OR user_id = ANY($2)
         WHERE user_id = ANY($1)
        """,
        user_ids,
        erased,
    )
    await tx.execute("DELETE FROM openid_tokens WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM login_tokens WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM sign_on_links WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM pushers WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM user_directory WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM profile_tellings WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM user_threepids WHERE user_id = ANY($1)", user_ids)
    if erased:
        await _erase(tx, erased)
    await tx.execute(
        """
        INSERT INTO farewells (user_id) SELECT * FROM unnest($1::text[])
        ON CONFLICT (user_id) DO NOTHING
        """,
        user_ids,
    )


async def _erase(tx: Tx, user_ids: Sequence[UserId]) -> None:
    """Delete what is not events."""
    await tx.execute("DELETE FROM account_data WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM push_rules WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM profiles WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM filters WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM key_backups WHERE user_id = ANY($1)", user_ids)
    await tx.execute("DELETE FROM presence WHERE user_id = ANY($1)", user_ids)


async def claim_farewells(tx: Tx, seconds: float, limit: int) -> list[UserId]:
    """Some users who are to leave, for so long; nobody else takes them meanwhile."""
    rows = await tx.fetch(
        """
        UPDATE farewells f
           SET claimed_until = now() + $1 * interval '1 s', tries = tries + 1
          FROM (SELECT user_id FROM farewells
                 WHERE claimed_until IS NULL OR claimed_until < now()
                 LIMIT $2 FOR UPDATE SKIP LOCKED) AS due
         WHERE f.user_id = due.user_id
        RETURNING f.user_id
        """,
        seconds,
        limit,
    )
    return [UserId(row["user_id"]) for row in rows]


async def renew_farewells(tx: Tx, user_ids: Sequence[UserId], seconds: float) -> None:
    """Keep users for so long from now on."""
    await tx.execute(
        """
        UPDATE farewells SET claimed_until = now() + $2 * interval '1 s'
         WHERE user_id = ANY($1)
        """,
        user_ids,
        seconds,
    )


async def finish_farewell(tx: Tx, user_id: UserId) -> None:
    """The user has left everything."""
    await tx.execute("DELETE FROM farewells WHERE user_id = $1", user_id)


async def put_farewell_off(tx: Tx, user_id: UserId, most_tries: int) -> None:
    """Try again later, each time after a longer while; give up after so many times."""
    await tx.execute(
        """
        UPDATE farewells
           SET claimed_until = now() + least(60 * 2 ^ tries, 86400) * interval '1 s'
         WHERE user_id = $1
        """,
        user_id,
    )
    await tx.execute(
        "DELETE FROM farewells WHERE user_id = $1 AND tries >= $2", user_id, most_tries
    )
