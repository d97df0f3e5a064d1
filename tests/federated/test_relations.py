"""An edit and a thread across two servers."""

from tests.support.api import Json
from tests.support.client import Client
from tests.support.sites import Site, eventually


async def relates(client: Client, room: str, relation: Json, body: str) -> str:
    content: Json = {
        "msgtype": "m.text",
        "body": body,
        "m.new_content": {"msgtype": "m.text", "body": body},
        "m.relates_to": relation,
    }
    return await client.sends_event(room, "m.room.message", content)


async def told(client: Client, room: str, event_id: str) -> Json:
    event = await client.reads_event(room, event_id)
    relations: Json = event["unsigned"].get("m.relations", {})
    return relations


async def test_both_servers_tell_the_same_edit_and_thread(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    root = await alice.sends(room, "how is the wether?")
    await bob.sees(room, "how is the wether?")
    thread = {"rel_type": "m.thread", "event_id": root}
    replace = {"rel_type": "m.replace", "event_id": root}
    reply = await relates(bob, room, thread, "fine")
    await alice.sees(room, "fine")
    edit = await relates(alice, room, replace, "how is the weather?")
    await bob.sees(room, "how is the weather?")
    await relates(bob, room, replace, "not mine to edit")
    await alice.sees(room, "not mine to edit")
    for reader in (alice, bob):
        seen = await told(reader, room, root)
        assert seen["m.replace"]["event_id"] == edit
        assert seen["m.thread"]["latest_event"]["event_id"] == reply
        assert (seen["m.thread"]["count"]) == 1
        assert seen["m.thread"]["current_user_participated"]
        where = f"/_matrix/client/v1/rooms/{room}/threads"
        (shown,) = (await reader.get(where))["chunk"]
        assert shown["event_id"] == root

    await bob.redacts(room, reply)

    async def is_gone() -> bool:
        return "m.thread" not in await told(alice, room, root)

    await eventually(is_gone, "the redacted reply is no thread any more")


async def test_who_joins_later_is_told_what_came_before(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    root = await alice.sends(room, "root")
    for number in range(3):
        await relates(
            alice, room, {"rel_type": "m.thread", "event_id": root}, str(number)
        )
    await alice.sends(room, "last")
    await bob.joins(room, via=alice)
    page = {event["event_id"]: event for event in await bob.history(room)}
    thread = page[root]["unsigned"].get("m.relations", {}).get("m.thread", {})
    thread = thread or (await told(bob, room, root))["m.thread"]
    assert thread["count"] == 3


async def test_a_ban_redacts_on_every_server(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    carol = await b.person("carol")
    await carol.joins(room, via=alice)
    event_id = await bob.sends(room, "spam")
    await alice.sees(room, "spam")
    where = f"/_matrix/client/v3/rooms/{room}/ban"
    await alice.post(where, {"user_id": bob.user_id, "redact_events": True})

    async def is_gone() -> bool:
        return (await carol.reads_event(room, event_id))["content"] == {}

    assert (await alice.reads_event(room, event_id))["content"] == {}
    await eventually(is_gone, "the other server has redacted it too")
