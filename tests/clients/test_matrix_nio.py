"""matrix-nio, a client library that others wrote and many bots run on."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import nio
import pytest

from tests.support.client import PASSWORD
from tests.support.hearth import Hearth

T = TypeVar("T")
People = Callable[[str], Awaitable[nio.AsyncClient]]
_numbers = itertools.count(1)


@pytest.fixture
async def person(server: Hearth) -> AsyncIterator[People]:
    clients: list[nio.AsyncClient] = []

    async def log_in(name: str) -> nio.AsyncClient:
        localpart = f"{name}{next(_numbers)}"
        registered = await server.registers(localpart)
        # nio wants every device to have a name, which the specification does not.
        await registered.logs_out()
        client = nio.AsyncClient(server.base_url, f"@{localpart}:{server.name}")
        clients.append(client)
        ok(await client.login(PASSWORD, device_name="nio"), nio.LoginResponse)
        return client

    yield log_in
    for client in clients:
        await client.close()


def ok(reply: object, kind: type[T]) -> T:
    """The reply, which must be of the kind that means success."""
    assert isinstance(reply, kind), reply
    return reply


async def room_of(host: nio.AsyncClient, *guests: nio.AsyncClient) -> str:
    made = ok(
        await host.room_create(
            name="nio's room",
            topic="client libraries",
            preset=nio.RoomPreset.public_chat,
            invite=[guest.user_id for guest in guests],
        ),
        nio.RoomCreateResponse,
    )
    for guest in guests:
        ok(await guest.join(made.room_id), nio.JoinResponse)
    return str(made.room_id)


async def says(client: nio.AsyncClient, room: str, body: str) -> str:
    content = {"msgtype": "m.text", "body": body}
    reply = await client.room_send(room, "m.room.message", content)
    return str(ok(reply, nio.RoomSendResponse).event_id)


async def synced(client: nio.AsyncClient, wait: int = 0) -> nio.SyncResponse:
    return ok(await client.sync(timeout=wait), nio.SyncResponse)


def heard(reply: nio.SyncResponse, room: str) -> list[str]:
    joined = reply.rooms.join.get(room)
    events = joined.timeline.events if joined else []
    return [e.body for e in events if isinstance(e, nio.RoomMessageText)]


async def test_log_in_and_out(person: People, server: Hearth) -> None:
    alice = await person("alice")
    who = ok(await alice.whoami(), nio.WhoamiResponse)
    assert who.user_id == alice.user_id
    devices = ok(await alice.devices(), nio.DevicesResponse)
    assert "nio" in {device.display_name for device in devices.devices}
    token = alice.access_token
    ok(await alice.logout(), nio.LogoutResponse)
    alice.access_token = token
    assert isinstance(await alice.whoami(), nio.WhoamiError)


async def test_a_wrong_password_is_refused(person: People, server: Hearth) -> None:
    alice = await person("alice")
    stranger = nio.AsyncClient(server.base_url, alice.user_id)
    try:
        refused = ok(await stranger.login("wrong"), nio.LoginError)
        assert refused.status_code == "M_FORBIDDEN"
    finally:
        await stranger.close()


async def test_a_room_is_made_and_shown(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    await synced(alice)
    shown = alice.rooms[room]
    assert shown.name == "nio's room"
    assert shown.topic == "client libraries"
    assert {alice.user_id, bob.user_id} <= set(shown.users)
    assert shown.power_levels.get_user_level(bob.user_id) == 0
    names = ok(await alice.joined_members(room), nio.JoinedMembersResponse)
    assert {member.user_id for member in names.members} == {
        alice.user_id,
        bob.user_id,
    }


async def test_messages_arrive_while_waiting(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    await synced(bob)

    async def next_heard() -> list[str]:
        while not (texts := heard(await synced(bob, wait=30_000), room)):
            pass  # that somebody came online is news too
        return texts

    waiting = asyncio.create_task(next_heard())
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await says(alice, room, "hello Bob")
    async with asyncio.timeout(10):
        assert await waiting == ["hello Bob"]
    # Nothing happens: the long poll ends empty when its time is over.
    await synced(bob)
    assert heard(await synced(bob, wait=100), room) == []


async def test_callbacks_tell_the_story_in_order(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    await synced(bob)
    told: list[str] = []

    async def remember(_: nio.MatrixRoom, event: nio.Event) -> None:
        told.append(f"{event.sender}: {event.source['content']['body']}")

    bob.add_event_callback(remember, nio.RoomMessageText)
    follow = asyncio.create_task(bob.sync_forever(timeout=30_000))
    try:
        for n in range(10):
            await says(alice, room, f"line {n}")
        async with asyncio.timeout(20):
            while len(told) < 10:
                await asyncio.sleep(0.05)
    finally:
        follow.cancel()
    assert told == [f"{alice.user_id}: line {n}" for n in range(10)]


async def test_the_past_is_paged(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    for n in range(30):
        await says(alice, room, f"line {n}")
    first = await synced(bob)
    timeline = first.rooms.join[room].timeline
    assert timeline.limited
    bodies = heard(first, room)
    start: str | None = timeline.prev_batch
    while start:
        page = ok(
            await bob.room_messages(room, start, limit=7), nio.RoomMessagesResponse
        )
        bodies[:0] = [
            e.body for e in reversed(page.chunk) if isinstance(e, nio.RoomMessageText)
        ]
        start = page.end
    assert bodies == [f"line {n}" for n in range(30)]


async def test_invite_refuse_kick_and_ban(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    made = ok(
        await alice.room_create(preset=nio.RoomPreset.private_chat),
        nio.RoomCreateResponse,
    )
    room = made.room_id
    ok(await alice.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    await synced(bob)
    assert bob.invited_rooms[room].inviter == alice.user_id
    ok(await bob.room_leave(room), nio.RoomLeaveResponse)
    ok(await alice.room_invite(room, bob.user_id), nio.RoomInviteResponse)
    ok(await bob.join(room), nio.JoinResponse)
    ok(await alice.room_kick(room, bob.user_id, "out"), nio.RoomKickResponse)
    ok(await alice.room_ban(room, bob.user_id), nio.RoomBanResponse)
    assert isinstance(await bob.join(room), nio.JoinError)
    ok(await alice.room_unban(room, bob.user_id), nio.RoomUnbanResponse)


async def test_redaction_typing_and_receipts(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    slip = await says(alice, room, "a slip")
    await synced(bob)
    ok(await alice.room_redact(room, slip, "slip"), nio.RoomRedactResponse)
    ok(await alice.room_typing(room, typing_state=True), nio.RoomTypingResponse)
    ok(
        await alice.room_read_markers(room, slip, slip),
        nio.RoomReadMarkersResponse,
    )
    shown = bob.rooms[room]
    async with asyncio.timeout(20):
        while not (shown.typing_users and alice.user_id in shown.read_receipts):
            await synced(bob, wait=2_000)
    assert shown.typing_users == [alice.user_id]
    assert shown.read_receipts[alice.user_id].event_id == slip
    event = ok(await bob.room_get_event(room, slip), nio.RoomGetEventResponse).event
    assert isinstance(event, nio.RedactedEvent)
    assert event.redacter == alice.user_id


async def test_profile_alias_and_state(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    ok(await alice.set_displayname("Alice A."), nio.ProfileSetDisplayNameResponse)
    profile = ok(await bob.get_profile(alice.user_id), nio.ProfileGetResponse)
    assert profile.displayname == "Alice A."
    room = await room_of(alice, bob)
    alias = f"#nio{next(_numbers)}:{alice.user_id.partition(':')[2]}"
    ok(await alice.room_put_alias(alias, room), nio.RoomPutAliasResponse)
    found = ok(await bob.room_resolve_alias(alias), nio.RoomResolveAliasResponse)
    assert found.room_id == room
    ok(
        await alice.room_put_state(room, "m.room.topic", {"topic": "new"}),
        nio.RoomPutStateResponse,
    )
    state = ok(
        await bob.room_get_state_event(room, "m.room.topic"),
        nio.RoomGetStateEventResponse,
    )
    assert state.content["topic"] == "new"
