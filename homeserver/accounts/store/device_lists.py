"""The table `device_lists`: that somebody's devices changed, and telling other servers.

What other servers are told is written in the same transaction as the change. Each list
of ours has its own count, `stream_id`. A change of several devices at once is told as
one, whose `prev_id` nobody has seen, so that other servers fetch the list anew.

Spec: server-server-api#device-management
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from federation import canonical_json
from federation.canonical_json import JsonObject
from federation.edu import DeviceListUpdate, Edu, SigningKeyUpdate
from federation.ids import DeviceId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import from_text
from homeserver.live.changes import Positioned, Reach


@dataclass(frozen=True, slots=True)
class ListChange:
    """A user of ours has other keys than before.

    `device_id` is the device that changed or went; None: the cross-signing keys did.
    `count` is how many changed at once, of which `device_id` is one.
    """

    user_id: UserId
    device_id: DeviceId | None
    reach: Reach
    deleted: bool = False
    count: int = 1


async def note(tx: Tx, changes: Sequence[Positioned[ListChange]]) -> None:
    """Move the lists, and leave word for every server that shares a room."""
    if not changes:
        return
    streams = await _advance(tx, changes)
    devices = await _shown_devices(tx, [each.item for each in changes])
    signing = await _signing_keys(
        tx, {each.item.user_id for each in changes if each.item.device_id is None}
    )
    edus: list[tuple[int, str, str]] = []
    for each, stream_id in zip(changes, streams, strict=True):
        change = each.item
        if change.device_id is None and change.count == 1:
            edu = SigningKeyUpdate(change.user_id, *signing[change.user_id]).to_edu()
        else:
            edu = _update(change, stream_id, stream_id - 1, devices)
        text = canonical_json.encode(edu.json).decode()
        edus.append((each.position, change.user_id, text))
    await _queue(tx, edus, {each.position: each.item.reach for each in changes})


def _update(
    change: ListChange,
    stream_id: int,
    prev_id: int,
    devices: Mapping[tuple[str, str], tuple[JsonObject, str | None]],
) -> Edu:
    device_id = change.device_id or DeviceId("")
    keys, name = devices.get((change.user_id, device_id), (None, None))
    return DeviceListUpdate(
        user_id=change.user_id,
        device_id=device_id,
        stream_id=stream_id,
        prev_id=(prev_id,),
        deleted=change.deleted or keys is None,
        device_display_name=None if change.deleted else name,
        keys=None if change.deleted else keys,
    ).to_edu()


async def _advance(tx: Tx, changes: Sequence[Positioned[ListChange]]) -> list[int]:
    """The stream ID of each change; the cross-signing keys' updates have none."""
    steps: dict[str, int] = {}
    latest: dict[str, int] = {}
    for each in changes:
        user_id, count = each.item.user_id, each.item.count
        if each.item.device_id is None and count == 1:
            count = 0
        steps[user_id] = steps.get(user_id, 0) + count
        latest[user_id] = each.position
    rows = await tx.fetch(
        """
        INSERT INTO device_lists AS d (user_id, position, stream_id)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
        ON CONFLICT (user_id) DO UPDATE
           SET position = EXCLUDED.position,
               stream_id = d.stream_id + EXCLUDED.stream_id
        RETURNING user_id, stream_id
        """,
        list(steps),
        [latest[user_id] for user_id in steps],
        list(steps.values()),
    )
    at = {user_id: stream_id - steps[user_id] for user_id, stream_id in rows}
    streams = []
    for each in changes:
        if each.item.device_id is not None or each.item.count > 1:
            at[each.item.user_id] += each.item.count
        streams.append(at[each.item.user_id])
    return streams


async def _queue(
    tx: Tx, edus: Sequence[tuple[int, str, str]], reaches: Mapping[int, Reach]
) -> None:
    """Leave EDUs for the servers in the users' rooms, and note whom it concerns."""
    rows = await tx.fetch(
        """
        WITH edu AS (
            SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
                AS u (position, user_id, edu)
        ), room AS (
            SELECT edu.position, m.room_nid
              FROM edu JOIN memberships m
                ON m.user_id = edu.user_id AND m.membership = 'join'
        ), told AS (
            INSERT INTO outgoing_edus (server_name, position, edu)
            SELECT s.server_name, edu.position, edu.edu
              FROM edu JOIN (
                   SELECT DISTINCT room.position, s.server_name
                     FROM room JOIN room_servers s USING (room_nid)
                    WHERE s.joined > 0
                   ) AS s USING (position)
            ON CONFLICT (server_name, position) DO NOTHING
            RETURNING server_name, position
        )
        SELECT position, room_nid, NULL AS server_name FROM room
         UNION ALL
        SELECT position, NULL, server_name FROM told
        """,
        [position for position, _, _ in edus],
        [user_id for _, user_id, _ in edus],
        [edu for _, _, edu in edus],
    )
    for position, room_nid, server_name in rows:
        if room_nid is not None:
            reaches[position].rooms.add(room_nid)
        else:
            reaches[position].servers.add(server_name)


async def introduce(tx: Tx, joins: Sequence[tuple[int, UserId, int]]) -> None:
    """Tell servers that begin to share a room with a user of ours of the user's list.

    `joins` are (position, user, room) of users who have just joined. What is told
    changes nothing, and rests on itself: a server that knows an old list lacks that,
    so it fetches the new one; any other has seen it.
    """
    rows = await tx.fetch(
        """
        SELECT u.position, s.server_name, d.user_id, d.stream_id,
               (SELECT min(k.device_id) FROM device_keys k
                 WHERE k.user_id = d.user_id) AS device_id
          FROM unnest($1::bigint[], $2::text[], $3::bigint[])
               AS u (position, user_id, room_nid)
          JOIN device_lists d USING (user_id)
          JOIN room_servers s ON s.room_nid = u.room_nid AND s.joined > 0
         WHERE NOT EXISTS (
               SELECT FROM memberships m
                 JOIN room_servers o ON o.room_nid = m.room_nid AND o.joined > 0
                WHERE m.user_id = u.user_id AND m.membership = 'join'
                  AND m.room_nid <> u.room_nid AND o.server_name = s.server_name)
        """,
        [position for position, _, _ in joins],
        [user_id for _, user_id, _ in joins],
        [room_nid for _, _, room_nid in joins],
    )
    told = [row for row in rows if row["device_id"] is not None]
    if not told:
        return
    users = [
        ListChange(UserId(row["user_id"]), DeviceId(row["device_id"]), Reach())
        for row in told
    ]
    devices = await _shown_devices(tx, users)
    await tx.execute(
        """
        INSERT INTO outgoing_edus (server_name, position, edu)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
        ON CONFLICT DO NOTHING
        """,
        [row["server_name"] for row in told],
        [row["position"] for row in told],
        [
            canonical_json.encode(
                _update(user, row["stream_id"], row["stream_id"], devices).json
            ).decode()
            for user, row in zip(users, told, strict=True)
        ],
    )


async def note_others(
    tx: Tx, changes: Sequence[Positioned[tuple[UserId, Reach]]]
) -> None:
    """Move lists of other servers' users, which only clients of ours have to hear."""
    latest = {each.item[0]: each.position for each in changes}
    await tx.execute(
        """
        INSERT INTO device_lists (user_id, position)
        SELECT * FROM unnest($1::text[], $2::bigint[])
        ON CONFLICT (user_id) DO UPDATE SET position = EXCLUDED.position
        """,
        list(latest),
        list(latest.values()),
    )
    rows = await tx.fetch(
        """
        SELECT user_id, room_nid FROM memberships
         WHERE user_id = ANY($1) AND membership = 'join'
        """,
        list(latest),
    )
    for each in changes:
        user_id, reach = each.item
        reach.rooms.update(row["room_nid"] for row in rows if row["user_id"] == user_id)


# ── What is told ─────────────────────────────────────────────────────────────────────


async def _shown_devices(
    tx: Tx, changes: Sequence[ListChange]
) -> dict[tuple[str, str], tuple[JsonObject, str | None]]:
    """Keys, with what their user signed, and names of devices that changed."""
    wanted = [
        (change.user_id, change.device_id)
        for change in changes
        if change.device_id is not None and not change.deleted
    ]
    rows = await tx.fetch(
        """
        SELECT k.user_id, k.device_id, k.keys, d.display_name
          FROM unnest($1::text[], $2::text[]) AS u (user_id, device_id)
          JOIN device_keys k USING (user_id, device_id)
          JOIN devices d USING (user_id, device_id)
        """,
        [user_id for user_id, _ in wanted],
        [device_id for _, device_id in wanted],
    )
    signatures = await own_signatures(tx, [row["user_id"] for row in rows])
    return {
        (user_id, device_id): (
            signed(orjson.loads(keys), signatures.get((user_id, device_id), ())),
            None if name is None else from_text(name),
        )
        for user_id, device_id, keys, name in rows
    }


async def _signing_keys(
    tx: Tx, user_ids: Iterable[str]
) -> dict[str, tuple[JsonObject | None, JsonObject | None]]:
    wanted = list(user_ids)
    rows = await tx.fetch(
        """
        SELECT user_id, usage, public_key, key FROM cross_signing_keys
         WHERE user_id = ANY($1) AND usage IN ('master', 'self_signing')
        """,
        wanted,
    )
    signatures = await own_signatures(tx, [row["user_id"] for row in rows])
    found: dict[tuple[str, str], JsonObject] = {
        (user_id, usage): signed(
            orjson.loads(key), signatures.get((user_id, public_key), ())
        )
        for user_id, usage, public_key, key in rows
    }
    return {
        user_id: (found.get((user_id, "master")), found.get((user_id, "self_signing")))
        for user_id in wanted
    }


Signature = tuple[str, str, str]  # signer, the key it was made with, the signature


async def own_signatures(
    tx: Tx, user_ids: Sequence[str], viewer: str | None = None
) -> dict[tuple[str, str], list[Signature]]:
    """Signatures by (user, key ID): those of the keys' own users and of the viewer."""
    rows = await tx.fetch(
        """
        SELECT user_id, key_id, signer, signer_key, signature FROM key_signatures
         WHERE user_id = ANY($1) AND (signer = user_id OR signer = $2)
        """,
        user_ids,
        viewer,
    )
    found: dict[tuple[str, str], list[Signature]] = {}
    for user_id, key_id, *signature in rows:
        found.setdefault((user_id, key_id), []).append(tuple(signature))
    return found


def signed(key: JsonObject, added: Iterable[Signature]) -> JsonObject:
    """The key with signatures added to those it has."""
    given = key.get("signatures")
    signatures: JsonObject = dict(given) if isinstance(given, dict) else {}
    for signer, signer_key, signature in added:
        of_signer = signatures.get(signer)
        known = dict(of_signer) if isinstance(of_signer, dict) else {}
        signatures[signer] = {**known, signer_key: signature}
    return {**key, "signatures": signatures} if signatures else key
