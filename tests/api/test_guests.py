"""Guests, and rooms that anybody may read."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client

REGISTER = "/_matrix/client/v3/register?kind=guest"
OPEN = {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}
READABLE = {
    "type": "m.room.history_visibility",
    "content": {"history_visibility": "world_readable"},
}


@pytest.fixture
async def welcoming(another):
    """A server that lets guests in."""
    registration = {"mode": "open", "guests": True, "shared_secret": "shared secret"}
    return await another(registration=registration)


async def a_guest(server) -> Client:
    reply = await server.nobody.post(REGISTER, {})
    user = server.user(reply)
    return Client(user.http, user.base_url, user.access_token, user_id=user.user_id)


async def refused(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


FORBIDDEN = (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_without_the_configuration_there_are_no_guests(hearth):
    assert await refused(hearth.nobody.post(REGISTER, {})) == (403, "M_FORBIDDEN")


async def test_a_guest_comes_talks_and_goes(welcoming, person):
    alice, guest = await person(welcoming), await a_guest(welcoming)
    whoami = await guest.get(path("account", "whoami"))
    assert (whoami["user_id"], whoami["is_guest"]) == (guest.user_id, True)
    room = await alice.creates_room(preset="public_chat", initial_state=[OPEN])
    await guest.joins(room)
    await guest.sends(room, "hello")
    await alice.sees(room, "hello", by=guest)
    await alice.sends(room, "welcome")
    await guest.sees(room, "welcome", by=alice)
    name = path("profile", guest.user_id, "displayname")
    await guest.put(name, {"displayname": "Guest"})
    await guest.leaves(room)
    await alice.sees_member(room, guest, "leave")
    await guest.post(path("logout"))
    assert (await refused(guest.get(path("account", "whoami"))))[0] == 401


async def test_what_guests_may_not_do(welcoming, person):
    alice, guest = await person(welcoming), await a_guest(welcoming)
    closed = await alice.creates_room(preset="public_chat")
    assert await refused(guest.joins(closed)) == FORBIDDEN
    for call in (
        guest.creates_room(),
        guest.get(path("joined_rooms")),
        guest.put(path("profile", guest.user_id, "avatar_url"), {"avatar_url": ""}),
        guest.post(path("user_directory", "search"), {"search_term": "a"}),
        guest.invites(closed, alice),
        guest.put(path("user", guest.user_id, "account_data", "m.x"), {}),
    ):
        assert await refused(call) == FORBIDDEN


async def test_guests_leave_a_room_that_closes(welcoming, person):
    alice, bob = await person(welcoming), await person(welcoming)
    guest = await a_guest(welcoming)
    room = await alice.creates_room(preset="public_chat", initial_state=[OPEN])
    await guest.joins(room)
    await bob.joins(room)
    where = path("rooms", room, "state", "m.room.guest_access", "")
    await alice.put(where, {"guest_access": "forbidden"})
    await alice.sees_member(room, guest, "leave")
    assert (await alice.members(room))[bob.user_id] == "join"
    assert await refused(guest.joins(room)) == FORBIDDEN


async def test_a_guest_makes_an_account_and_keeps_their_name(welcoming):
    guest = await a_guest(welcoming)
    form = {
        "guest_access_token": guest.access_token,
        "password": "a long enough password",
        "auth": {"type": "m.login.dummy"},
    }
    register = "/_matrix/client/v3/register"
    other = {**form, "username": "another"}
    assert (await refused(welcoming.nobody.post(register, other)))[0] == 400
    unknown = {**form, "guest_access_token": "x", "username": "x"}
    assert (await refused(welcoming.nobody.post(register, unknown)))[0] == 403
    localpart = guest.user_id[1:].partition(":")[0]
    reply = await welcoming.nobody.post(register, {**form, "username": localpart})
    assert reply["user_id"] == guest.user_id
    assert await guest.creates_room()
    whoami = await guest.get(path("account", "whoami"))
    assert whoami["is_guest"] is False
    assert (await refused(welcoming.nobody.post(register, form)))[0] == 403


# ── Reading without being a member ───────────────────────────────────────────────────


async def test_anybody_reads_a_room_that_the_world_may_read(welcoming, person):
    alice, bob = await person(welcoming), await person(welcoming)
    guest = await a_guest(welcoming)
    room = await alice.creates_room(name="N", initial_state=[READABLE])
    said = await alice.sends(room, "to the world")
    base = path("rooms", room)
    for reader in (bob, guest):
        assert (await reader.get(f"{base}/state/m.room.name/")) == {"name": "N"}
        state = await reader.answer("GET", f"{base}/state")
        assert state[0] == 200
        members = await reader.get(f"{base}/members")
        assert [m["state_key"] for m in members["chunk"]] == [alice.user_id]
        page = await reader.get(f"{base}/messages", dir="b")
        assert page["chunk"][0]["event_id"] == said
        assert (await reader.get(f"{base}/event/{said}"))["event_id"] == said
        context = await reader.get(f"{base}/context/{said}")
        assert context["event"]["event_id"] == said
        assert (await refused(reader.sends(room, "me too")))[0] == 403
    where = f"{base}/state/m.room.history_visibility/"
    await alice.put(where, {"history_visibility": "shared"})
    later = await alice.sends(room, "among us")
    for call in (
        bob.get(f"{base}/messages", dir="b"),
        bob.get(f"{base}/event/{later}"),
        bob.get(f"{base}/members"),
    ):
        assert (await refused(call))[0] in (403, 404)
