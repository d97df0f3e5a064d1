"""mautrix, the library of bridges and bots that others wrote: a day of two people."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from mautrix.client import Client, InternalEventType
from mautrix.client.state_store import MemoryStateStore, MemorySyncStore
from mautrix.errors import MForbidden, MNotFound
from mautrix.types import (
    EventID,
    EventType,
    Membership,
    MessageType,
    PaginationDirection,
    PresenceState,
    RelationType,
    RoomCreatePreset,
    RoomID,
    TextMessageEventContent,
)

from tests.support.client import PASSWORD
from tests.support.hearth import Hearth

SECONDS = 15
_numbers = itertools.count(1)


class Person:
    """A client that syncs, and what it has heard."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list = []
        self._news = asyncio.Event()
        client.add_event_handler(EventType.ALL, self._hear)
        for kind in (InternalEventType.INVITE, InternalEventType.JOIN):
            client.add_event_handler(kind, self._hear)

    async def _hear(self, event) -> None:
        self.heard.append(event)
        self._news.set()

    async def hears(self, wanted: Callable[..., bool], what: str):
        """Wait for an event."""
        async with asyncio.timeout(SECONDS):
            while True:
                self._news.clear()
                for event in self.heard:
                    if wanted(event):
                        return event
                try:
                    await self._news.wait()
                except asyncio.CancelledError:
                    raise AssertionError(f"never heard {what}") from None

    async def hears_id(self, event_id: EventID):
        return await self.hears(
            lambda e: getattr(e, "event_id", None) == event_id, event_id
        )


@pytest.fixture
async def person(
    server: Hearth,
) -> AsyncIterator[Callable[[str], Awaitable[Person]]]:
    clients: list[Client] = []

    async def log_in(name: str) -> Person:
        localpart = f"{name}mau{next(_numbers)}"
        await server.registers(localpart)
        client = Client(
            base_url=server.base_url,
            sync_store=MemorySyncStore(),
            state_store=MemoryStateStore(),
        )
        clients.append(client)
        await client.login(localpart, password=PASSWORD, device_name="mautrix")
        # What was before the first sync is told as well.
        client.ignore_initial_sync = False
        client.ignore_first_sync = False
        found = Person(client)
        client.start(None)
        return found

    yield log_in
    for client in clients:
        client.stop()
        await client.api.session.close()


async def room_of(alice: Person, bob: Person) -> RoomID:
    room = await alice.client.create_room(
        name="A day", topic="with mautrix", invitees=[bob.client.mxid]
    )
    await bob.hears(
        lambda e: (
            getattr(e, "room_id", None) == room
            and e.type == EventType.ROOM_MEMBER
            and e.content.membership == Membership.INVITE
        ),
        "the invite",
    )
    await bob.client.join_room(room)
    return room


async def test_talking_editing_reacting_redacting(person) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    said = await alice.client.send_text(room, "Good morning")
    assert (await bob.hears_id(said)).content.body == "Good morning"
    edited = TextMessageEventContent(msgtype=MessageType.TEXT, body="Good noon")
    edited.set_edit(said)
    heard = await bob.hears_id(await alice.client.send_message(room, edited))
    assert heard.content.relates_to.rel_type == RelationType.REPLACE
    assert heard.content.relates_to.event_id == said
    reaction = await bob.client.react(room, said, "👍")
    assert (await alice.hears_id(reaction)).content.relates_to.key == "👍"
    redaction = await bob.client.redact(room, reaction)
    assert (await alice.hears_id(redaction)).redacts == reaction
    gone = await alice.client.get_event(room, reaction)
    assert not gone.content.serialize()
    reply = TextMessageEventContent(msgtype=MessageType.TEXT, body="In the thread")
    reply.set_thread_parent(said)
    heard = await alice.hears_id(await bob.client.send_message(room, reply))
    assert heard.content.get_thread_parent() == said
    await bob.client.send_receipt(room, said)
    await bob.client.set_typing(room, timeout=5000)
    await alice.hears(
        lambda e: e.type == EventType.TYPING and bob.client.mxid in e.content.user_ids,
        "that bob types",
    )


async def test_state_members_and_history(person) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    members = await alice.client.get_joined_members(room)
    assert set(members) == {alice.client.mxid, bob.client.mxid}
    levels = await alice.client.get_state_event(room, EventType.ROOM_POWER_LEVELS)
    with pytest.raises(MForbidden):
        await bob.client.send_state_event(
            room, EventType.ROOM_TOPIC, {"topic": "not allowed"}
        )
    levels.users[bob.client.mxid] = 50
    await alice.client.send_state_event(room, EventType.ROOM_POWER_LEVELS, levels)
    await bob.client.send_state_event(room, EventType.ROOM_TOPIC, {"topic": "allowed"})
    topic = await alice.client.get_state_event(room, EventType.ROOM_TOPIC)
    assert topic.topic == "allowed"
    for number in range(15):
        await bob.client.send_text(room, f"line {number}")
    page = await alice.client.get_messages(
        room, direction=PaginationDirection.BACKWARD, limit=10
    )
    assert [event.content.body for event in page.events] == [
        f"line {number}" for number in range(14, 4, -1)
    ]
    context = await alice.client.get_event_context(room, page.events[5].event_id)
    assert context.event.event_id == page.events[5].event_id
    await alice.client.kick_user(room, bob.client.mxid, "enough")
    with pytest.raises(MForbidden):
        await bob.client.send_text(room, "still here?")


async def test_aliases_profiles_and_account_data(person, server: Hearth) -> None:
    alice, bob = await person("alice"), await person("bob")
    localpart = f"day{next(_numbers)}"
    room = await alice.client.create_room(
        alias_localpart=localpart, preset=RoomCreatePreset.PUBLIC
    )
    found = await bob.client.resolve_room_alias(f"#{localpart}:{server.name}")
    assert found.room_id == room
    assert await bob.client.join_room(f"#{localpart}:{server.name}") == room
    with pytest.raises(MNotFound):
        await bob.client.resolve_room_alias(f"#nothing{localpart}:{server.name}")
    await alice.client.set_displayname("Alice")
    assert await bob.client.get_displayname(alice.client.mxid) == "Alice"
    kind = EventType.find("org.example.day", EventType.Class.ACCOUNT_DATA)
    await alice.client.set_account_data(kind, {"n": 1})
    assert await alice.client.get_account_data(kind) == {"n": 1}
    await alice.client.set_presence(PresenceState.ONLINE, status="here")
    assert (await alice.client.whoami()).user_id == alice.client.mxid
    await alice.client.set_room_tag(room, "m.favourite")
