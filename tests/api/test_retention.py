"""Messages whose time is over: they are not shown, then deleted. MSC1763."""

from dataclasses import replace

import pytest

from homeserver.retention import tasks
from tests.support.api import RefusedError, path

KIND = "m.room.retention"
CONFIGURATION = "/_matrix/client/unstable/org.matrix.msc1763/retention/configuration"


def texts(events: list[dict]) -> list[str]:
    return [e["content"]["body"] for e in events if "body" in e["content"]]


async def kept_texts(server, room: str) -> list[str]:
    """The messages of the room that are in the database, by their JSON."""
    async with server.ctx.db.read() as tx:
        rows = await tx.fetch(
            """
            SELECT j.json FROM event_json j JOIN events e USING (event_nid)
              JOIN rooms r USING (room_nid)
             WHERE r.room_id = $1 AND e.type = 'm.room.message' ORDER BY e.position
            """,
            room,
        )
    return [row["json"] for row in rows]


@pytest.fixture
async def forgetful(another):
    """A server that deletes what rooms want to have deleted."""
    return await another(retention={"enabled": True})


async def test_what_is_over_is_not_shown_and_then_deleted(forgetful, person):
    alice = await person(forgetful)
    room = await alice.creates_room(name="N")
    first = await alice.sends(room, "first")
    await alice.sends(room, "second")
    await alice.sets_state(room, KIND, {"max_lifetime": 0})
    assert texts((await alice.messages(room))["chunk"]) == []
    reply = await alice.get(path("sync"))
    assert texts(reply["rooms"]["join"][room]["timeline"]["events"]) == []
    with pytest.raises(RefusedError) as refused:
        await alice.reads_event(room, first)
    assert refused.value.errcode == "M_NOT_FOUND"
    assert any("first" in text for text in await kept_texts(forgetful, room))
    await tasks.purge(forgetful.ctx)
    kept = await kept_texts(forgetful, room)
    assert len(kept) == 2
    assert not any("first" in text or "second" in text for text in kept)
    assert await alice.state_of(room, "m.room.name") == {"name": "N"}
    # The room goes on, and does not show them again when it keeps messages longer.
    newest = await alice.sends(room, "newest")
    assert texts((await alice.messages(room))["chunk"]) == ["newest"]
    await tasks.purge(forgetful.ctx)
    assert (await alice.reads_event(room, newest))["content"]["body"] == "newest"
    await alice.sets_state(room, KIND, {})
    assert texts((await alice.messages(room))["chunk"]) == ["newest"]


async def test_another_process_forgets_the_text_too(
    forgetful, another, person, monkeypatch
):
    alice = await person(forgetful)
    room = await alice.creates_room()
    said = await alice.sends(room, "secret")
    other = await another(
        dsn=forgetful.server._dsn,
        retention={"enabled": True},
    )
    elsewhere = replace(alice, base_url=other.base_url)
    assert (await elsewhere.reads_event(room, said))["content"]["body"] == "secret"
    await alice.sets_state(room, KIND, {"max_lifetime": 0})
    await tasks.purge(forgetful.ctx)
    await elsewhere.sets_state(room, KIND, {})
    assert texts((await elsewhere.messages(room))["chunk"]) == []


async def test_what_is_over_is_no_notification_any_more(forgetful, person):
    alice, bob = await person(forgetful), await person(forgetful)
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    await alice.sends(room, "over soon")
    told = (await bob.get(path("notifications")))["notifications"]
    assert texts([each["event"] for each in told]) == ["over soon"]
    await alice.sets_state(room, KIND, {"max_lifetime": 0})
    assert (await bob.get(path("notifications")))["notifications"] == []


async def test_rooms_that_keep_their_messages_keep_them(forgetful, person):
    alice = await person(forgetful)
    room = await alice.creates_room()
    await alice.sends(room, "for ever")
    long = await alice.creates_room()
    await alice.sets_state(long, KIND, {"max_lifetime": 3_600_000})
    await alice.sends(long, "an hour")
    await tasks.purge(forgetful.ctx)
    assert texts((await alice.messages(room))["chunk"]) == ["for ever"]
    assert texts((await alice.messages(long))["chunk"]) == ["an hour"]


async def test_without_the_configuration_nothing_is_deleted(hearth, alice):
    room = await alice.creates_room()
    await alice.sends(room, "kept")
    await alice.sets_state(room, KIND, {"max_lifetime": 0})
    await tasks.purge(hearth.ctx)
    assert texts((await alice.messages(room))["chunk"]) == ["kept"]
    assert await alice.get(CONFIGURATION) == {"policies": {}, "limits": {}}


async def test_much_goes_in_parts(forgetful, person, monkeypatch):
    monkeypatch.setattr(tasks, "MOST", 3)
    monkeypatch.setattr(tasks, "_AT_ONCE", 2)
    alice = await person(forgetful)
    room = await alice.creates_room()
    for number in range(7):
        await alice.sends(room, f"text {number}")
    await alice.sets_state(room, KIND, {"max_lifetime": 0})
    left = []
    for _ in range(3):
        await tasks.purge(forgetful.ctx)
        kept = await kept_texts(forgetful, room)
        left.append(sum("text" in text for text in kept))
    assert left[0] in (3, 4)
    assert left[-1] == 0


async def test_limits_and_a_default(another, person):
    hour = 3_600_000
    server = await another(
        retention={
            "enabled": True,
            "default_hours": 48,
            "least_hours": 24,
            "most_hours": 720,
        }
    )
    alice = await person(server)
    assert await alice.get(CONFIGURATION) == {
        "policies": {"*": {"max_lifetime": 48 * hour}},
        "limits": {"max_lifetime": {"min": 24 * hour, "max": 720 * hour}},
    }
    room = await alice.creates_room()
    await alice.sends(room, "kept for a day")
    await alice.sets_state(room, KIND, {"max_lifetime": 0})
    await tasks.purge(server.ctx)
    assert texts((await alice.messages(room))["chunk"]) == ["kept for a day"]
