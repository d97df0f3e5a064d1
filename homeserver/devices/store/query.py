"""Reading identity and cross-signing keys of users here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.accounts.store.device_lists import own_signatures, signed
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text


@dataclass(slots=True)
class FoundKeys:
    """Keys of users, as clients and servers get them."""

    devices: dict[str, dict[str, JsonObject]] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    master: dict[str, JsonObject] = field(default_factory=dict)
    self_signing: dict[str, JsonObject] = field(default_factory=dict)
    user_signing: dict[str, JsonObject] = field(default_factory=dict)

    def add(self, other: "FoundKeys") -> None:
        """Take in what was found elsewhere."""
        self.devices.update(other.devices)
        self.names.update(other.names)
        self.master.update(other.master)
        self.self_signing.update(other.self_signing)
        self.user_signing.update(other.user_signing)

    def devices_json(self) -> JsonObject:
        """Devices by user and ID, with their names in `unsigned`."""
        return {
            user_id: {
                device_id: self._with_name(user_id, device_id, keys)
                for device_id, keys in by_device.items()
            }
            for user_id, by_device in self.devices.items()
        }

    def _with_name(self, user_id: str, device_id: str, keys: JsonObject) -> JsonObject:
        name = self.names.get((user_id, device_id))
        return keys if name is None else {**keys, "unsigned": _named(name)}


def _named(name: str) -> JsonObject:
    return {"device_display_name": name}


async def local_keys(
    tx: Tx, wanted: Mapping[UserId, Sequence[str]], viewer: UserId | None
) -> FoundKeys:
    """Keys of users of ours; no device IDs mean all. The viewer sees own signatures.

    Users who do not exist are left out.
    """
    user_ids = list(wanted)
    signatures = await own_signatures(tx, user_ids, viewer)
    found = FoundKeys()
    rows = await tx.fetch("SELECT user_id FROM users WHERE user_id = ANY($1)", user_ids)
    for (user_id,) in rows:
        found.devices[user_id] = {}
    rows = await tx.fetch(
        """
        SELECT k.user_id, k.device_id, k.keys, d.display_name
          FROM device_keys k JOIN devices d USING (user_id, device_id)
         WHERE k.user_id = ANY($1)
         ORDER BY k.user_id, k.device_id
        """,
        user_ids,
    )
    for user_id, device_id, keys, name in rows:
        if wanted[user_id] and device_id not in wanted[user_id]:
            continue
        added = signatures.get((user_id, device_id), ())
        found.devices[user_id][device_id] = signed(orjson.loads(keys), added)
        if name is not None:
            found.names[user_id, device_id] = from_text(name)
    rows = await tx.fetch(
        """
        SELECT user_id, usage, public_key, key FROM cross_signing_keys
         WHERE user_id = ANY($1) AND (usage <> 'user_signing' OR user_id = $2)
        """,
        user_ids,
        viewer,
    )
    by_usage = {
        "master": found.master,
        "self_signing": found.self_signing,
        "user_signing": found.user_signing,
    }
    for user_id, usage, public_key, key in rows:
        added = signatures.get((user_id, public_key), ())
        by_usage[usage][user_id] = signed(orjson.loads(key), added)
    return found


async def stream_id_of(tx: Tx, user_id: UserId) -> int:
    """How often the user's device list has changed."""
    found: int | None = await tx.fetchval(
        "SELECT stream_id FROM device_lists WHERE user_id = $1", user_id
    )
    return found or 0
