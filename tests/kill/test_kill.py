"""What was answered with 200 survives SIGKILL of the server and of PostgreSQL.

Senders run and a reader follows with /sync. Again and again the server, its PostgreSQL,
or both are killed without warning, and go on with the same data.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kill.senders import Sender, Sent
from tests.support.api import eventually, path
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.hearth import Hearth

ROUNDS = int(os.environ.get("HEARTH_KILL_ROUNDS", "20"))
SENDERS = 4
WIDE = json.dumps({"room": {"timeline": {"limit": 1000}}})

pytestmark = pytest.mark.timeout(60 + 15 * ROUNDS)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Hearth]:
    async with Hearth(tmp_path / "hearth", CertificateAuthority.create()) as hearth:
        yield hearth


async def test_no_acknowledged_event_is_lost_or_doubled(server: Hearth) -> None:
    alice = await server.registers("alice")
    room = await alice.creates_room(preset="public_chat")
    up, done = asyncio.Event(), asyncio.Event()
    up.set()
    senders = []
    for n in range(SENDERS):
        client = await server.registers(f"sender{n}")
        await client.joins(room)
        senders.append(Sender(client, room, up))
    await alice.syncs(filter=WIDE)
    running = [asyncio.create_task(s.sends_until(done)) for s in senders]
    for number in range(ROUNDS):
        await asyncio.sleep(random.uniform(0.15, 0.5))
        answered = [s.sent[-2] for s in senders if len(s.sent) > 1]
        kill = KILLS[number % len(KILLS)]
        if kill is not kill_the_database:
            up.clear()
        await kill(server, alice)
        await retries_give_the_same_events(senders, answered)
        up.set()
        await alice.syncs(filter=WIDE)
    done.set()
    await asyncio.gather(*running)
    await follows_to_the_end(alice, room, senders)
    messages = [e for e in await alice.history(room, most=100_000) if is_message(e)]
    assert_all_there_once(messages, senders)
    assert_in_order([e["event_id"] for e in messages], senders)
    seen = [e for e in alice.seen.room(room).timeline if is_message(e)]
    assert_all_there_once(seen, senders)
    assert_in_order([e["event_id"] for e in seen], senders)


async def kill_the_server(server: Hearth, _: Client) -> None:
    await server.kill()
    await server.start()


async def kill_both(server: Hearth, _: Client) -> None:
    await server.kill_with_database()
    await server.start()


async def kill_the_database(server: Hearth, alice: Client) -> None:
    """The server lives on, starts PostgreSQL again and goes on where it was."""
    pid = server.child.pid
    await server.kill_database()

    async def can_write() -> bool:
        where = path("user", alice.user_id, "account_data", "org.example.alive")
        status, _ = await alice.answer("PUT", where, {"alive": True})
        return status == 200

    await eventually(can_write, "the server has its database again", seconds=60)
    assert server.child.pid == pid


KILLS = (kill_the_server, kill_both, kill_the_database)


async def retries_give_the_same_events(
    senders: list[Sender], answered: list[Sent]
) -> None:
    """A client that missed its answer asks again with its transaction ID."""
    for sender in senders:
        for message in answered:
            if message in sender.sent and message.event_id:
                assert await sender.repeats(message) == message.event_id


async def follows_to_the_end(who: Client, room: str, senders: list[Sender]) -> None:
    for sender in senders:
        last = sender.sent[-1].event_id
        while who.seen.room(room).event(last) is None:
            await who.syncs(wait=1, filter=WIDE)
    assert not who.seen.room(room).gaps, "the reader was too slow for this test"


def is_message(event: dict[str, object]) -> bool:
    return event["type"] == "m.room.message"


def assert_all_there_once(
    messages: list[dict[str, object]], senders: list[Sender]
) -> None:
    acknowledged = [m.event_id for sender in senders for m in sender.sent]
    assert len(set(acknowledged)) == len(acknowledged)
    assert any(m.tries > 1 for sender in senders for m in sender.sent)
    found = Counter(str(event["event_id"]) for event in messages)
    assert found == Counter(acknowledged)


def assert_in_order(event_ids: list[str], senders: list[Sender]) -> None:
    """What was answered before another was asked for comes before it."""
    place = {event_id: n for n, event_id in enumerate(event_ids)}
    everything = [m for sender in senders for m in sender.sent]
    by_begin = sorted(everything, key=lambda m: m.began)
    by_end = sorted(everything, key=lambda m: m.ended)
    latest = -1  # the last place of all that was answered before `message` began
    answered = 0
    for message in by_begin:
        while by_end[answered].ended < message.began:
            latest = max(latest, place[by_end[answered].event_id])
            answered += 1
        assert place[message.event_id] > latest, message
