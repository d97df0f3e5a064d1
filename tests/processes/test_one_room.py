"""Several processes write to one room at the same time."""

import asyncio
from itertools import pairwise

from tests.processes.conftest import Pair
from tests.support.api import Json, path
from tests.support.app import User

SENDERS = 10
EACH = 8


async def says(user: User, room: str, txn_id: str) -> str:
    where = path("rooms", room, "send", "m.room.message", txn_id)
    reply = await user.put(where, {"msgtype": "m.text", "body": txn_id})
    return str(reply["event_id"])


async def test_two_processes_take_turns_at_a_room_and_nothing_is_lost(
    pair: Pair,
) -> None:
    alice = await pair.one.registers()
    reply = await alice.post(path("createRoom"), {"preset": "public_chat"})
    room = reply["room_id"]

    async def speaks(user: User, name: str) -> list[str]:
        return [await says(user, room, f"{name} {n}") for n in range(EACH)]

    sent = await asyncio.gather(
        *(speaks(alice, f"one {n}") for n in range(SENDERS)),
        *(speaks(pair.at_two(alice), f"two {n}") for n in range(SENDERS)),
    )
    events = {event_id for each in sent for event_id in each}
    assert len(events) == 2 * SENDERS * EACH
    # One line of events: each builds on the one before, whoever wrote it.
    for process in (pair.one, pair.two):
        await process.ctx.live.follower.pull()
    here = await pair.one.ctx.live.room(room)
    there = await pair.two.ctx.live.room(room)
    assert here.head == there.head
    assert len(here.head.extremities) == 1
    told = await history(pair.at_two(alice), room, len(events))
    assert set(told) == events
    for each in sent:
        places = [told.index(event_id) for event_id in each]
        assert all(earlier < later for earlier, later in pairwise(places))


async def history(user: User, room: str, count: int) -> list[str]:
    """The newest messages, in their order."""
    query = {"dir": "b", "limit": str(count)}
    reply: Json = await user.get(path("rooms", room, "messages"), **query)
    return [event["event_id"] for event in reply["chunk"]][::-1]


async def test_one_transaction_id_at_two_processes_at_once_is_one_event(
    pair: Pair,
) -> None:
    alice = await pair.one.registers()
    reply = await alice.post(path("createRoom"), {})
    for n in range(5):
        one, two = await asyncio.gather(
            says(alice, reply["room_id"], f"same {n}"),
            says(pair.at_two(alice), reply["room_id"], f"same {n}"),
        )
        assert one == two


async def test_one_name_registered_at_two_processes_at_once_is_one_account(
    pair: Pair,
) -> None:
    body = {"username": "once", "password": "a long enough one 1"}
    body |= {"auth": {"type": "m.login.dummy"}}
    answers = await asyncio.gather(
        *(p.nobody.answer("POST", path("register"), body) for p in (pair.one, pair.two))
    )
    assert sorted(status for status, _ in answers) == [200, 400]
    assert {reply.get("errcode") for _, reply in answers} == {None, "M_USER_IN_USE"}
