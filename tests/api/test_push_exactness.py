"""Whatever happens in a room, everybody counts what a plain model counts."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from homeserver.push import counts as push_counts
from homeserver.push import pages as push_pages
from tests.api.test_push_counts import by_thread, marks, puts_rule
from tests.support.api import path
from tests.support.client import Client

STEPS = 90
_NOTHING = (0, 0)


@dataclass
class Sent:
    """An event, and what it means to each reader when nobody has read it."""

    event_id: str
    sender: str
    thread: str
    means: dict[str, tuple[int, int]]
    is_redacted: bool = False


@dataclass
class Model:
    """All that happened, and how far everybody has read it: numbers of events."""

    sent: list[Sent] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    threads: dict[tuple[str, str], int] = field(default_factory=dict)

    def unread(self, user_id: str) -> dict[str, tuple[int, int]]:
        """By thread; the main timeline is always there."""
        counts = {"main": _NOTHING}
        for number, each in enumerate(self.sent, 1):
            if each.sender == user_id:
                counts[each.thread] = _NOTHING
                continue
            read = self.threads.get((user_id, each.thread), 0)
            if number <= max(self.read.get(user_id, 0), read) or each.is_redacted:
                continue
            n, h = counts.get(each.thread, _NOTHING)
            more, loud = each.means[user_id]
            counts[each.thread] = (n + more, h + loud)
        return {t: c for t, c in counts.items() if t == "main" or c != _NOTHING}


@dataclass
class Story:
    """Random people in a room, and the model of what they do."""

    chance: random.Random
    room: str
    people: list[Client]
    mutes: str  # whoever has a rule of their own
    model: Model = field(default_factory=Model)
    is_muted: bool = False

    async def step(self) -> None:
        """Something happens."""
        does = self.chance.choices(
            (self.send, self.read, self.redact, self.mute), (12, 4, 2, 1)
        )
        await does[0]()

    async def send(self) -> None:
        who = self.chance.choice(self.people)
        content: dict[str, Any] = {"msgtype": "m.text", "body": "x"}
        mentioned = self.chance.choice([[], [], self.chance.choice(self.people)])
        if mentioned:
            content["m.mentions"] = {"user_ids": [mentioned.user_id]}
        elif self.chance.random() < 0.2:
            content["msgtype"] = "m.notice"
        thread = "main"
        mains = [each for each in self.model.sent if each.thread == "main"]
        roots = [each.event_id for each in mains if each.event_id]
        if roots and self.chance.random() < 0.4:
            thread = self.chance.choice(roots[:3])
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        event_id = await who.sends_event(self.room, "m.room.message", content)
        means = {}
        for each in self.people:
            silent = content["msgtype"] == "m.notice" or (
                self.is_muted and each.user_id == self.mutes
            )
            loud = bool(mentioned) and mentioned.user_id == each.user_id
            means[each.user_id] = (1, 1) if loud else (0 if silent else 1, 0)
        self.model.sent.append(Sent(event_id, who.user_id, thread, means))

    async def read(self) -> None:
        if not any(each.event_id for each in self.model.sent):
            return
        who = self.chance.choice(self.people)
        numbers = [n for n, each in enumerate(self.model.sent, 1) if each.event_id]
        number = self.chance.choice(numbers)
        each = self.model.sent[number - 1]
        kind = self.chance.choice(("m.read", "m.read.private"))
        if self.chance.random() < 0.5:
            await marks(who, self.room, each.event_id, kind, thread_id=each.thread)
            key = (who.user_id, each.thread)
            self.model.threads[key] = max(self.model.threads.get(key, 0), number)
        else:
            await marks(who, self.room, each.event_id, kind)
            old = self.model.read.get(who.user_id, 0)
            self.model.read[who.user_id] = max(old, number)

    async def redact(self) -> None:
        there = [each for each in self.model.sent if not each.is_redacted]
        # Roots and own events stay: what they are to their threads is another story.
        there = [each for each in there if each.thread != "main"]
        if there:
            each = self.chance.choice(there)
            await self.people[0].redacts(self.room, each.event_id)
            each.is_redacted = True
            # A redaction is an event of the one who redacts, in the main timeline.
            means = {person.user_id: _NOTHING for person in self.people}
            who = self.people[0].user_id
            self.model.sent.append(Sent("", who, "main", means, is_redacted=True))

    async def mute(self) -> None:
        who = next(each for each in self.people if each.user_id == self.mutes)
        self.is_muted = not self.is_muted
        if self.is_muted:
            await puts_rule(who, "room", self.room, actions=[])
        else:
            await who.delete(path("pushrules", "global", "room", self.room))


@pytest.mark.parametrize("seed", range(3))
async def test_everybody_counts_what_the_model_counts(
    alice, bob, carol, another_process, monkeypatch, seed
):
    monkeypatch.setattr(push_pages, "PAGE", 8)
    monkeypatch.setattr(push_counts, "_LONG_WAY", 10)
    chance = random.Random(seed)
    people = [alice, bob, carol]
    room = await alice.creates_room(preset="public_chat")
    for other in (bob, carol):
        await other.joins(room)
    story = Story(chance, room, people, carol.user_id)
    there = another_process
    elsewhere = [
        Client(
            lambda: there.session,
            there.base_url,
            each.access_token,
            user_id=each.user_id,
        )
        for each in people
    ]
    for number in range(STEPS):
        await story.step()
        if number % 9 and number != STEPS - 1:
            continue
        await there.ctx.live.follower.pull()
        for client in (*people, *elsewhere):
            expected = story.model.unread(client.user_id)
            assert await by_thread(client, room) == expected, (number, client)
