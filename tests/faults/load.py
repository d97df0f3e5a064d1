"""People who go on talking while their server breaks, and the judge of what they saw.

Each sends one message after the other, and repeats with the same transaction ID what
got no answer, at whichever process answers. Some also follow with /sync, one answer's
token after the other, now at this process and now at that.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from tests.faults.fleet import MOST_RESIDENT, Fleet
from tests.support.api import RefusedError
from tests.support.client import Client

# While a server is going down or coming up, calls fail in these ways.
DOWN: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)
_WIDE: Final = json.dumps({"room": {"timeline": {"limit": 2000}}})
_ANSWER_SECONDS: Final = 30.0


@dataclass
class Sent:
    """One message: asked for at `began` for the first time, answered at `ended`."""

    txn_id: str
    body: str
    began: float
    event_id: str = ""
    ended: float = 0
    tries: int = 0


@dataclass
class Talker:
    """Somebody who sends."""

    client: Client
    room: str
    fleet: Fleet
    pause_s: float
    sent: list[Sent] = field(default_factory=list)

    async def talks_until(self, done: asyncio.Event) -> None:
        """Go on until told to stop; then all that was begun is answered."""
        loop = asyncio.get_running_loop()
        while not done.is_set():
            n = len(self.sent)
            message = Sent(f"txn{n}", f"{self.client.user_id} {n}", loop.time())
            self.sent.append(message)
            while not message.event_id:
                message.tries += 1
                event_id = await self._tries(message)
                if event_id is not None:
                    message.event_id, message.ended = event_id, loop.time()
            if n and random.random() < 0.1:  # an answer that was lost on the way
                former = self.sent[n - 1]
                again = await self._tries(former)
                assert again in (None, former.event_id), "sent twice"
            await asyncio.sleep(self.pause_s)

    async def _tries(self, message: Sent) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self.client.sends(
                    self.room, message.body, txn_id=message.txn_id
                )
        except DOWN:
            self.fleet.turns(self.client)
        except RefusedError as refused:
            # Who has lost the database may say so, and nothing else.
            if refused.status != 503:
                raise
            self.fleet.turns(self.client)
        await asyncio.sleep(0.02)
        return None


@dataclass
class Follower:
    """Somebody who follows."""

    client: Client
    fleet: Fleet
    failures: int = 0

    async def follows_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.looks(wait=0.5)

    async def looks(self, wait: float) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self.client.syncs(wait=wait, filter=_WIDE)
        except DOWN:
            await self._moves_on()
        except RefusedError as refused:
            if refused.status != 503:
                raise
            await self._moves_on()
        else:
            if random.random() < 0.3:
                self.fleet.turns(self.client)

    async def _moves_on(self) -> None:
        self.failures += 1
        self.fleet.turns(self.client)
        await asyncio.sleep(0.05)


class Load:
    """All of them, and what is judged in the end."""

    def __init__(
        self, fleet: Fleet, rooms: Sequence[str], reader: Client, most: int
    ) -> None:
        self.fleet = fleet
        self.rooms = rooms
        self.reader = reader
        self.talkers: list[Talker] = []
        self.followers: list[Follower] = []
        self.most_resident = most
        self._done = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def goes_on(self, messages: int = 2, seconds: float = 150) -> float:
        """Wait until everybody has sent so many more and followed; how long it took.

        Raises: AssertionError when it takes longer; and what went wrong with them.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        before = [self._answered(talker) for talker in self.talkers]
        seen = [follower.client.seen.since for follower in self.followers]
        while any(
            self._answered(t) < n + messages
            for t, n in zip(self.talkers, before, strict=True)
        ) or any(
            f.client.seen.since == since
            for f, since in zip(self.followers, seen, strict=True)
        ):
            for task in self._tasks:
                if task.done() and task.exception() is not None:
                    self.fleet.assert_said()  # a surprise says more
                    task.result()
            if loop.time() - began > seconds:
                raise AssertionError(
                    f"no recovery within {seconds} s:\n{self.fleet.logs()[-6000:]}"
                )
            await asyncio.sleep(0.02)
            self._weigh()
        return loop.time() - began

    def _answered(self, talker: Talker) -> int:
        return len(talker.sent) - (not talker.sent[-1].event_id) if talker.sent else 0

    def _weigh(self) -> None:
        for resident in self.fleet.resident():
            assert resident < self.most_resident, f"{resident / 2**20:.0f} MiB"

    async def ends(self) -> None:
        """Stop, and judge."""
        self._done.set()
        await asyncio.gather(*self._tasks)
        for room in self.rooms:
            mine = [t for t in self.talkers if t.room == room]
            self.fleet.turns(self.reader)
            history = await self._history(room, mine)
            judge(mine, [str(event["event_id"]) for event in history], history)
            for follower in self.followers:
                await self._arrives(follower, room, mine)
                self._judge_follower(follower, room, mine, len(history))

    async def _history(
        self, room: str, mine: Sequence[Talker]
    ) -> list[dict[str, object]]:
        """All messages, once the process that is asked has heard of the last ones."""
        last = {talker.sent[-1].event_id for talker in mine}
        history: list[dict[str, object]] = []
        with contextlib.suppress(TimeoutError):  # then the judge says what is lacking
            async with asyncio.timeout(_ANSWER_SECONDS):
                while last - {event["event_id"] for event in history}:
                    history = [
                        event
                        for event in await self.reader.history(room, most=1_000_000)
                        if event["type"] == "m.room.message"
                    ]
        return history

    async def _arrives(self, who: Follower, room: str, mine: Sequence[Talker]) -> None:
        last = {talker.sent[-1].event_id for talker in mine}
        async with asyncio.timeout(_ANSWER_SECONDS):
            while last - {e["event_id"] for e in who.client.seen.room(room).timeline}:
                await who.looks(wait=1)

    def _judge_follower(
        self, who: Follower, room: str, mine: Sequence[Talker], stored: int
    ) -> None:
        seen = who.client.seen.room(room)
        assert not seen.gaps, "a follower was too slow for this test"
        messages = [e for e in seen.timeline if e["type"] == "m.room.message"]
        assert len(messages) == stored, "what is stored and what was seen differ"
        judge(mine, [str(event["event_id"]) for event in messages], messages)
        # Everybody sees one order.
        first = self.followers[0].client.seen.room(room).timeline
        theirs = [e["event_id"] for e in first if e["type"] == "m.room.message"]
        assert [e["event_id"] for e in messages] == theirs


@asynccontextmanager
async def load(
    fleet: Fleet,
    *,
    talkers: int = 4,
    followers: int = 2,
    rooms: int = 1,
    pause_s: float = 0.01,
    most_resident: int = MOST_RESIDENT,
) -> AsyncIterator[Load]:
    """People who talk and follow while the block lasts; judged when it ends well."""
    alice = await fleet.registers("alice")
    places = [await alice.creates_room(preset="public_chat") for _ in range(rooms)]
    made = Load(fleet, places, alice, most_resident)
    for n in range(followers):
        client = await fleet.registers(f"follower{n}")
        for room in places:
            await client.joins(room)
        await client.syncs(filter=_WIDE)
        made.followers.append(Follower(client, fleet))
    for n in range(talkers):
        client = await fleet.registers(f"talker{n}")
        room = places[n % rooms]
        await client.joins(room)
        made.talkers.append(Talker(client, room, fleet, pause_s))
    done = made._done
    made._tasks = [
        *(asyncio.create_task(t.talks_until(done)) for t in made.talkers),
        *(asyncio.create_task(f.follows_until(done)) for f in made.followers),
    ]
    try:
        await made.goes_on()
        yield made
        await made.ends()
    finally:
        for task in made._tasks:
            task.cancel()
        await asyncio.gather(*made._tasks, return_exceptions=True)


def judge(
    talkers: Sequence[Talker],
    event_ids: Sequence[str],
    events: Sequence[dict[str, object]],
) -> None:
    """Nothing that was answered is missing, nothing is there twice, all in order.

    In order: what was answered before another was asked for comes before it.
    """
    everything = [message for talker in talkers for message in talker.sent]
    acknowledged = Counter(message.event_id for message in everything)
    found = Counter(event_ids)
    assert not [event for event, n in found.items() if n > 1], "there twice"
    assert acknowledged == found, (
        f"lost: {sorted((acknowledged - found).elements())[:5]},"
        f" unasked: {sorted((found - acknowledged).elements())[:5]}"
    )
    bodies = Counter(str(event["content"]["body"]) for event in events)  # type: ignore[index]
    assert max(bodies.values(), default=1) == 1, "one message became two events"
    place = {event_id: n for n, event_id in enumerate(event_ids)}
    by_end = sorted(everything, key=lambda message: message.ended)
    latest, answered = -1, 0
    for message in sorted(everything, key=lambda message: message.began):
        while by_end[answered].ended < message.began:
            latest = max(latest, place[by_end[answered].event_id])
            answered += 1
        assert place[message.event_id] > latest, message
