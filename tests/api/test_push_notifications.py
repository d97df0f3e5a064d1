"""GET /notifications: what the user was notified of, in pages."""

import pytest

from homeserver.push import notifications_api
from tests.support.api import Json, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
LOUD = {"set_tweak": "highlight"}


async def notifications(client: Client, **query: str | int) -> Json:
    return await client.get(path("notifications"), **query)


def ids(page: Json) -> list[str]:
    return [each["event"]["event_id"] for each in page["notifications"]]


async def mentions(client: Client, room: str, who: Client) -> str:
    content = {"body": "x", "m.mentions": {"user_ids": [who.user_id]}}
    return await client.sends_event(room, "m.room.message", content)


async def test_what_notified_is_listed_with_why(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await alice.sends(room, "before")
    await bob.joins(room)
    await carol.joins(room)
    plain = await alice.sends(room, "x")
    loud = await mentions(alice, room, bob)
    await bob.sends(room, "own")
    await alice.sets_state(room, "m.room.name", {"name": "silent"})
    redacted = await alice.sends(room, "y")
    await alice.redacts(room, redacted)
    page = await notifications(bob)
    assert ids(page) == [loud, plain]
    assert "next_token" not in page
    first, second = page["notifications"]
    assert second["actions"] == ["notify"]
    assert first["actions"][-1] == LOUD
    assert first["event"]["content"]["m.mentions"] == {"user_ids": [bob.user_id]}
    assert "room_id" not in first["event"]
    assert (first["room_id"], first["read"]) == (room, False)
    assert first["ts"] == first["event"]["origin_server_ts"]
    assert ids(await notifications(bob, only="highlight")) == [loud]
    await bob.post(path("rooms", room, "receipt", "m.read", plain), {})
    read = {
        each["event"]["event_id"]: each["read"]
        for each in (await notifications(bob))["notifications"]
    }
    assert read == {loud: False, plain: True}
    await bob.leaves(room)
    assert await notifications(bob) == {"notifications": []}


async def test_pages_go_back_through_all_rooms(alice, bob, monkeypatch):
    monkeypatch.setattr(notifications_api, "_AT_ONCE", 5)
    monkeypatch.setattr(notifications_api, "_GOES", 2)
    rooms = [await alice.creates_room(**PUBLIC) for _ in range(3)]
    for room in rooms:
        await bob.joins(room)
    sent = [await alice.sends(rooms[n % 3], str(n)) for n in range(20)]
    for n in range(15):  # nothing of interest in between
        await alice.sets_state(rooms[0], "m.room.name", {"name": str(n)})
    sent += [await alice.sends(rooms[0], str(n)) for n in range(2)]
    shown: list[str] = []
    token: dict[str, str] = {}
    for _ in range(30):
        page = await notifications(bob, limit=3, **token)
        assert len(page["notifications"]) <= 3
        shown += ids(page)
        if "next_token" not in page:
            break
        token = {"from": page["next_token"]}
    assert shown == sent[::-1]


@pytest.mark.parametrize("token", ["x", "-1", "s5", "9" * 30, "\N{SUPERSCRIPT TWO}"])
async def test_a_token_that_is_none_is_refused(alice, token):
    where = path("notifications")
    status, body = await alice.answer("GET", where, query={"from": token})
    assert (status, body["errcode"]) == (400, "M_INVALID_PARAM")


async def test_somebody_without_rooms_has_no_notifications(alice):
    assert await notifications(alice, limit=1) == {"notifications": []}
