"""Presence between servers."""

from tests.support.api import eventually, path

PUBLIC = {"preset": "public_chat"}


async def test_presence_goes_to_the_servers_in_the_users_rooms(a, b, c, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room, via=alice)
    carol = await c.person("carol")
    await alice.syncs(set_presence="offline")
    where = path("presence", bob.user_id, "status")
    await bob.put(where, {"presence": "online", "status_msg": "hi"})

    async def is_shown() -> bool:
        reply = await alice.get(where)
        return reply["presence"] == "online" and reply["status_msg"] == "hi"

    await eventually(is_shown, "bob is online for alice")
    shown = {}
    for _ in range(10):
        reply = await alice.syncs(wait=2, set_presence="offline")
        for event in reply.get("presence", {}).get("events", []):
            shown[event["sender"]] = event["content"]
        if bob.user_id in shown:
            break
    assert shown[bob.user_id]["status_msg"] == "hi"
    # Carol's server shares no room with bob yet; when she comes, it hears of him.
    await carol.joins(room, via=alice)

    async def has_heard() -> bool:
        reply = await carol.get(where)
        return bool(reply["presence"] == "online")

    await eventually(has_heard, "bob is online for carol")
