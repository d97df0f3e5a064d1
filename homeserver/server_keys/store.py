"""The table of other servers' keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.ids import KeyId, ServerName
from federation.server_keys import ServerKeys
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of one server; `valid_until` is its expiry when it is retired."""

    server_name: ServerName
    key_id: KeyId
    public_key: bytes
    valid_until: int
    retired: bool


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A key document as it came, how long it is valid, and when it came (ms)."""

    document: str
    valid_until: int
    fetched_at: int

    @property
    def json(self) -> JsonObject:
        """The document, signed by its server."""
        return canonical_json.parse_object(self.document)


async def read_keys(tx: Tx, servers: Sequence[ServerName]) -> list[KeyRow]:
    """All keys of those servers that were ever seen."""
    return await fetch_as(
        tx,
        KeyRow,
        """
        SELECT server_name, key_id, public_key, valid_until, retired
          FROM server_keys WHERE server_name = ANY($1)
        """,
        servers,
    )


async def upsert_keys(
    tx: Tx, documents: Sequence[ServerKeys], *, from_themselves: bool
) -> None:
    """Keep the keys of checked documents.

    A notary may bring keys and prolong them, but only the server itself may say that a
    key of a name we know is another one, or that a retired key is in use again.
    """
    rows = [
        (keys.server_name, key_id, public, keys.valid_until_ts, False, keys)
        for keys in documents
        for key_id, public in keys.verify_keys.items()
    ] + [
        (keys.server_name, key_id, old.public, old.expired_ts, True, keys)
        for keys in documents
        for key_id, old in keys.old_verify_keys.items()
    ]
    # A statement may touch a row once; of several documents the last one counts.
    rows = list({row[:2]: row for row in sorted(rows, key=lambda r: r[3])}.values())
    await tx.execute(
        """
        INSERT INTO server_keys AS k
               (server_name, key_id, public_key, valid_until, retired, document)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[],
                             $5::boolean[], $6::text[])
        ON CONFLICT (server_name, key_id) DO UPDATE
           SET public_key = EXCLUDED.public_key,
               valid_until = CASE
                   WHEN k.public_key = EXCLUDED.public_key
                        AND NOT k.retired AND NOT EXCLUDED.retired
                   THEN greatest(k.valid_until, EXCLUDED.valid_until)
                   ELSE EXCLUDED.valid_until
               END,
               retired = EXCLUDED.retired, document = EXCLUDED.document,
               fetched_at = now()
         WHERE $7 OR (k.public_key = EXCLUDED.public_key AND NOT k.retired)
        """,
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        [row[4] for row in rows],
        [canonical_json.encode(row[5].json).decode() for row in rows],
        from_themselves,
    )


async def read_documents(
    tx: Tx, server: ServerName, key_ids: Sequence[KeyId]
) -> list[DocumentRow]:
    """The newest document of a server, and those that hold these keys; newest first."""
    return await fetch_as(
        tx,
        DocumentRow,
        """
        SELECT document, max(valid_until) AS valid_until,
               max(extract(epoch FROM fetched_at) * 1000)::bigint AS fetched_at
          FROM server_keys
         WHERE server_name = $1
           AND (key_id = ANY($2) OR fetched_at = (
                   SELECT max(fetched_at) FROM server_keys WHERE server_name = $1))
         GROUP BY document
         ORDER BY 3 DESC
        """,
        server,
        key_ids,
    )
