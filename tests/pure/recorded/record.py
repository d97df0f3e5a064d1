"""Record a room of every version as two real Synapses make it.

    python -m tests.pure.recorded.record [VERSION ...]

writes `v1.jsonl` … `v12.jsonl` beside this file. Run it again only to tell another
story: recorded rooms are fixed cases. The first line of a file is about the room; then
one line for each event in the order in which server A stored it; the last line is the
state that A ended with. A line with `state_after` holds the IDs of the room state that
A computed after that event; the events that join branches have it.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from federation.ids import KeyId
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.signatures import SigningKey, encode_base64
from tests.pure.recorded.story import ACTS, Act, Cast
from tests.pure.recorded.third_party import IdentityServer, read_signing_key
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.synapse import Synapse

HERE = Path(__file__).parent
ON_A = ("alice", "anna", "carl")
ON_B = ("bob", "bella", "dave", "eve", "mallory")


async def main(versions: list[RoomVersion]) -> None:
    with tempfile.TemporaryDirectory(prefix="hearth-record-") as folder:
        authority = CertificateAuthority.create()
        a = Synapse(Path(folder) / "a", authority)
        b = Synapse(Path(folder) / "b", authority)
        await a.start()
        await b.start()
        identity = await IdentityServer(
            SigningKey.generate("0"), b, _key_of(b), a
        ).start()
        try:
            casts = [await _cast(version, a, b, identity) for version in versions]
            for act in ACTS:
                await _play(act, casts, a, b)
        finally:
            await identity.stop()
            await a.stop()
            await b.stop()
        for cast in casts:
            write(cast, a, b)


def say(what: str) -> None:
    sys.stderr.write(what + "\n")


def _key_of(server: Synapse) -> SigningKey:
    return read_signing_key((server.directory / "signing.key").read_text())


async def _cast(
    version: RoomVersion, a: Synapse, b: Synapse, identity: IdentityServer
) -> Cast:
    async def users(server: Synapse, names: tuple[str, ...]) -> dict[str, Client]:
        return {n: await server.registers(f"{n}_v{version}") for n in names}

    return Cast(version, await users(a, ON_A), await users(b, ON_B), identity)


async def _play(
    act: Act | tuple[Act, Act], casts: list[Cast], a: Synapse, b: Synapse
) -> None:
    if isinstance(act, tuple):
        on_a, on_b = act
        await b.stop()
        await asyncio.gather(*(on_a(cast) for cast in casts))
        await a.stop()
        await b.start()
        await asyncio.gather(*(on_b(cast) for cast in casts))
        await a.start()
        say(f"{on_a.__name__} / {on_b.__name__}")
    else:
        await asyncio.gather(*(act(cast) for cast in casts))
        say(act.__name__)
    await asyncio.gather(*(_heal(cast) for cast in casts))


async def _heal(cast: Cast) -> None:
    """Go on talking until each side has heard the other, and so all before it."""
    alice, bob, room = cast.alice, cast.bob, cast.room
    if (await alice.members(room))[bob.user_id] != "join":
        return
    for n in range(30):
        said_a = await alice.sends(room, f"Alice asks again, {n}")
        said_b = await bob.sends(room, f"Bob asks again, {n}")
        await asyncio.sleep(1)
        if await _has(bob, room, said_a) and await _has(alice, room, said_b):
            # One message more joins the branches, if they are not joined yet.
            last = await alice.sends(room, "there you are")
            await bob.sees_id(room, last)
            return
    raise AssertionError(f"the room of version {cast.version} did not heal")


async def _has(who: Client, room: str, event_id: str) -> bool:
    await who.syncs()
    return who.seen.room(room).event(event_id) is not None


def write(cast: Cast, a: Synapse, b: Synapse) -> None:
    """Write what server A holds of the room."""
    with closing(sqlite3.connect(a.sqlite_file)) as db:
        lines = [
            _about(cast, a, b),
            *_events(db, cast.room),
            {"current_state": _current_state(db, cast.room)},
        ]
    file = HERE / f"v{cast.version}.jsonl"
    file.write_text(
        "".join(
            json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n"
            for line in lines
        )
    )
    say(f"{file.name}: {len(lines) - 2} events, {file.stat().st_size} bytes")


def _about(cast: Cast, *servers: Synapse) -> dict[str, Any]:
    def keys(server: Synapse) -> dict[KeyId, str]:
        key = _key_of(server)
        return {key.key_id: encode_base64(key.public)}

    return {
        "room_version": cast.version.identifier,
        "room_id": cast.room,
        "servers": {server.name: keys(server) for server in servers},
    }


def _events(db: sqlite3.Connection, room: str) -> Iterator[dict[str, Any]]:
    rows = db.execute(
        """
        SELECT event_id, json, internal_metadata, outlier, state_group,
               events.rejection_reason
          FROM events
          JOIN event_json USING (event_id)
          LEFT JOIN event_to_state_groups USING (event_id)
         WHERE events.room_id = ?
         ORDER BY stream_ordering
        """,
        (room,),
    ).fetchall()
    known: set[str] = set()
    for event_id, text, metadata, outlier, group, rejection in rows:
        assert not outlier, f"{event_id} of {room} is an outlier: the branch was long"
        event = json.loads(text)
        event.pop("unsigned", None)
        # Versions 1 and 2 name an event together with its hash.
        previous = [p if isinstance(p, str) else p[0] for p in event["prev_events"]]
        assert known.issuperset(previous), f"{event_id} came before its past"
        known.add(event_id)
        line: dict[str, Any] = {"event_id": event_id, "event": event}
        if rejection:
            line["rejected"] = rejection
        if json.loads(metadata).get("soft_failed"):
            line["soft_failed"] = True
        if len(previous) > 1:
            line["state_after"] = _state_of_group(db, group)
        yield line


def _state_of_group(db: sqlite3.Connection, group: int) -> list[str]:
    """The event IDs of a state: each group holds what differs from the one before."""
    state: dict[tuple[str, str], str] = {}
    next_group: int | None = group
    while next_group is not None:
        for kind, key, event_id in db.execute(
            "SELECT type, state_key, event_id FROM state_groups_state "
            "WHERE state_group = ?",
            (next_group,),
        ):
            state.setdefault((kind, key), event_id)
        row = db.execute(
            "SELECT prev_state_group FROM state_group_edges WHERE state_group = ?",
            (next_group,),
        ).fetchone()
        next_group = row[0] if row else None
    return sorted(state.values())


def _current_state(db: sqlite3.Connection, room: str) -> list[str]:
    rows = db.execute(
        "SELECT event_id FROM current_state_events WHERE room_id = ?", (room,)
    )
    return sorted(event_id for (event_id,) in rows)


if __name__ == "__main__":
    asyncio.run(main([ROOM_VERSIONS[v] for v in sys.argv[1:] or ROOM_VERSIONS]))
