"""Two servers, one room: what people on both say and do reaches the others."""

import pytest

from federation.room_versions import ROOM_VERSIONS
from tests.support.client import Client
from tests.support.sites import Site, agree, eventually


@pytest.mark.parametrize("version", list(ROOM_VERSIONS))
async def test_a_remote_user_joins_and_both_talk(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(preset="public_chat", room_version=version)
    await alice.sends(room, "is anybody there?")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await bob.sends(room, "I am")
    await alice.sees(room, "I am", by=bob)
    hello = await alice.sends(room, "hello bob")
    await bob.sees(room, "hello bob", by=alice)
    await alice.sets_state(room, "m.room.topic", {"topic": "us"})
    await bob.sees_state(room, "m.room.topic", {"topic": "us"})
    await alice.redacts(room, hello)

    async def is_redacted() -> bool:
        event = await bob.reads_event(room, hello)
        return event["content"] == {} and "redacted_because" in event["unsigned"]

    await eventually(is_redacted, "the redaction reaches b")
    await agree(room, a, b)
