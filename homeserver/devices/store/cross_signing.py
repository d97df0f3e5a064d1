"""The tables `cross_signing_keys` and `key_signatures`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from federation.canonical_json import JsonObject
from federation.ids import DeviceId, UserId
from homeserver.accounts.store import device_lists
from homeserver.accounts.store.device_lists import ListChange
from homeserver.db.pool import Tx
from homeserver.live.changes import Positioned, Reach


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A cross-signing key: its public part and its JSON as uploaded."""

    public_key: str
    key: JsonObject


async def signing_keys(tx: Tx, user_id: UserId) -> dict[str, SigningKey]:
    """A user's keys, by usage."""
    rows = await tx.fetch(
        "SELECT usage, public_key, key FROM cross_signing_keys WHERE user_id = $1",
        user_id,
    )
    return {usage: SigningKey(public, orjson.loads(key)) for usage, public, key in rows}


async def has_device(tx: Tx, user_id: UserId, names: Sequence[str]) -> bool:
    """Whether the user has a device with one of those names as its ID."""
    found: bool = await tx.fetchval(
        """
        SELECT EXISTS (SELECT FROM devices WHERE user_id = $1 AND device_id = ANY($2))
        """,
        user_id,
        names,
    )
    return found


@dataclass(slots=True)
class NewKeys:
    """Keys that a user uploads, by usage: (public part, JSON).

    `master` is the master key that the user was taken to have; `is_outdated` says that
    there was another by then, and nothing was stored.
    """

    user_id: UserId
    master: str | None
    keys: Mapping[str, tuple[str, str]]
    reach: Reach = field(default_factory=Reach)
    is_outdated: bool = False


async def put(tx: Tx, batch: Sequence[Positioned[NewKeys]]) -> None:
    """Replace cross-signing keys. For the committer."""
    changes = []
    for each in batch:
        item = each.item
        current = await tx.fetchval(
            """
            SELECT public_key FROM cross_signing_keys
             WHERE user_id = $1 AND usage = 'master'
            """,
            item.user_id,
        )
        item.is_outdated = current != item.master
        if not item.is_outdated:
            await _put(tx, item)
            change = ListChange(item.user_id, None, item.reach)
            changes.append(Positioned(each.position, change))
    await device_lists.note(tx, changes)


async def _put(tx: Tx, item: NewKeys) -> None:
    """Keys that a new master key did not sign go with the old one."""
    replaced = list(item.keys)
    if "master" in item.keys:
        replaced = ["master", "self_signing", "user_signing"]
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM cross_signing_keys
             WHERE user_id = $1 AND usage = ANY($2)
            RETURNING usage, public_key
        )
        DELETE FROM key_signatures s USING old
         WHERE NOT old.public_key = ANY($3)
           AND (s.user_id = $1 AND s.key_id = old.public_key
                OR s.signer = $1 AND s.signer_key = 'ed25519:' || old.public_key)
        """,
        item.user_id,
        replaced,
        [public for public, _ in item.keys.values()],
    )
    await tx.execute(
        """
        INSERT INTO cross_signing_keys (user_id, usage, public_key, key)
        SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])
        """,
        item.user_id,
        list(item.keys),
        [public for public, _ in item.keys.values()],
        [key for _, key in item.keys.values()],
    )


# ── Signatures ───────────────────────────────────────────────────────────────────────


async def device_keys(
    tx: Tx, user_id: UserId, device_ids: Sequence[str]
) -> dict[str, JsonObject]:
    """Identity keys of a user's devices, as uploaded."""
    rows = await tx.fetch(
        """
        SELECT device_id, keys FROM device_keys
         WHERE user_id = $1 AND device_id = ANY($2)
        """,
        user_id,
        device_ids,
    )
    return {device_id: orjson.loads(keys) for device_id, keys in rows}


async def master_keys(tx: Tx, user_ids: Sequence[str]) -> dict[str, JsonObject]:
    """Master keys of users here and of those elsewhere whose lists are followed."""
    rows = await tx.fetch(
        """
        SELECT user_id, key FROM cross_signing_keys
         WHERE user_id = ANY($1) AND usage = 'master'
         UNION ALL
        SELECT user_id, master_key FROM remote_device_lists
         WHERE user_id = ANY($1) AND master_key IS NOT NULL
        """,
        user_ids,
    )
    return {user_id: orjson.loads(key) for user_id, key in rows}


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of one key with another, which has been verified."""

    user_id: UserId
    key_id: str
    signer_key: str
    signature: str


@dataclass(frozen=True, slots=True)
class NewSignatures:
    """Signatures that a user made; `devices` are the user's own that were signed."""

    signer: UserId
    signatures: Sequence[Signature]
    devices: Sequence[DeviceId]
    reach: Reach = field(default_factory=Reach)


async def sign(tx: Tx, batch: Sequence[Positioned[NewSignatures]]) -> None:
    """Keep signatures. For the committer."""
    changes = []
    for each in batch:
        item = each.item
        rows = await tx.fetch(
            """
            INSERT INTO key_signatures AS s
                   (user_id, key_id, signer, signer_key, signature, position)
            SELECT u.user_id, u.key_id, $1, u.signer_key, u.signature, $2
              FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])
                   AS u (user_id, key_id, signer_key, signature)
            ON CONFLICT (user_id, key_id, signer, signer_key) DO UPDATE
               SET signature = EXCLUDED.signature, position = EXCLUDED.position
             WHERE s.signature <> EXCLUDED.signature
            RETURNING user_id, key_id
            """,
            item.signer,
            each.position,
            [signature.user_id for signature in item.signatures],
            [signature.key_id for signature in item.signatures],
            [signature.signer_key for signature in item.signatures],
            [signature.signature for signature in item.signatures],
        )
        own = {row["key_id"] for row in rows if row["user_id"] == item.signer}
        devices = sorted(own.intersection(item.devices))
        if own:
            change = ListChange(
                item.signer,
                DeviceId(devices[0]) if devices else None,
                item.reach,
                count=len(own),
            )
            changes.append(Positioned(each.position, change))
    await device_lists.note(tx, changes)
