"""The table `outbox`: messages that nobody has taken from us yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as

# How long it is tried to send a message.
GIVE_UP: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Message:
    """An e-mail or, with the medium `msisdn`, a text message.

    `unsubscribe` is where its reader can have no more of its kind sent.
    """

    message_id: int
    medium: str
    recipient: str
    subject: str
    plain: str
    html: str
    tries: int
    unsubscribe: str = ""


async def add(
    tx: Tx,
    medium: str,
    recipient: str,
    subject: str,
    plain: str,
    html: str = "",
    unsubscribe: str = "",
) -> None:
    """Have a message sent once the transaction is committed."""
    await tx.execute(
        """
        INSERT INTO outbox (medium, recipient, subject, plain, html, unsubscribe)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        medium,
        recipient,
        subject,
        plain,
        html,
        unsubscribe,
    )


async def claim(tx: Tx, seconds: float, limit: int) -> list[Message]:
    """Take messages that are due, for so long; nobody else gets them meanwhile."""
    return await fetch_as(
        tx,
        Message,
        """
        UPDATE outbox o
           SET tries = tries + 1, due_at = now() + $2 * interval '1 s'
          FROM (SELECT message_id FROM outbox WHERE due_at <= now()
                 ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS due
         WHERE o.message_id = due.message_id
        RETURNING o.message_id, medium, recipient, subject, plain, html, tries,
                  unsubscribe
        """,
        limit,
        seconds,
    )


async def renew(tx: Tx, messages: Sequence[Message], seconds: float) -> None:
    """Keep messages for so long from now on."""
    await tx.execute(
        """
        UPDATE outbox SET due_at = now() + $2 * interval '1 s'
         WHERE message_id = ANY($1)
        """,
        [message.message_id for message in messages],
        seconds,
    )


async def delete(tx: Tx, message_id: int) -> None:
    """The message is sent, or will never be."""
    await tx.execute("DELETE FROM outbox WHERE message_id = $1", message_id)


async def put_off(tx: Tx, message: Message) -> bool:
    """Try again later, each time after a longer while; False: it has been given up."""
    kept = await tx.fetchval(
        """
        UPDATE outbox
           SET due_at = now() + least(15 * 2 ^ $2::integer, 3600) * interval '1 s'
         WHERE message_id = $1 AND created_at > now() - $3::interval
        RETURNING true
        """,
        message.message_id,
        message.tries,
        GIVE_UP,
    )
    if not kept:
        await delete(tx, message.message_id)
    return bool(kept)
