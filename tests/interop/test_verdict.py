"""After all that: what Synapse thinks of every event that it was given.

Runs last of the folder, so that it judges what the other tests did.
"""

import json
import sqlite3
from contextlib import closing

from tests.support.homeserver import Homeserver
from tests.support.synapse import Synapse


def test_synapse_rejected_nothing(
    ours: Homeserver, peer: Synapse, overruled: dict[str, str]
) -> None:
    with closing(sqlite3.connect(peer.sqlite_file)) as db:
        from_us = db.execute(
            "SELECT count(*) FROM events WHERE sender LIKE ?", (f"%:{ours.name}",)
        ).fetchone()[0]
        rejected = db.execute(
            "SELECT event_id, type, sender, rejection_reason FROM events"
            " WHERE rejection_reason IS NOT NULL"
        ).fetchall()
        soft_failed = [
            (event_id, kind, sender)
            for event_id, kind, sender, room_id, metadata in db.execute(
                "SELECT event_id, type, sender, events.room_id, internal_metadata"
                " FROM events JOIN event_json USING (event_id)"
            )
            if json.loads(metadata).get("soft_failed")
            and overruled.get(room_id) != sender
        ]
    assert from_us > 0
    assert rejected == []
    assert soft_failed == []
