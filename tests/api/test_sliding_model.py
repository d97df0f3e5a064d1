"""A client that keeps what sliding sync tells it ends up with what is true.

It looks at changing windows, loses answers, and changes between two processes.
"""

import random
from dataclasses import dataclass, field

import pytest

from tests.support.client import Client
from tests.support.sliding import Sliding

PUBLIC = {"preset": "public_chat"}
EXTENSIONS = ("account_data", "receipts", "typing")
WANTED = [["m.room.topic", ""], ["m.room.member", "*"]]


@dataclass
class Known:
    """What the client has of one room."""

    name: str | None = None
    state: dict = field(default_factory=dict)
    timeline: list = field(default_factory=list)
    joined: int = 0

    def learns(self, section):
        if section.get("initial"):
            self.name, self.state, self.timeline = None, {}, []
        self.name = section.get("name", self.name)
        self.joined = section.get("joined_count", self.joined)
        for event in section["required_state"]:
            self.state[event["type"], event["state_key"]] = event["content"]
        events = [event["event_id"] for event in section.get("timeline", ())]
        if section.get("limited") or section.get("unstable_expanded_timeline"):
            self.timeline = []
        self.timeline += events


@dataclass
class Device:
    """A client: its rooms, account data and receipts."""

    connections: list
    pos: str | None = None
    rooms: dict = field(default_factory=dict)
    account_data: dict = field(default_factory=dict)
    receipts: dict = field(default_factory=dict)

    async def asks(self, chance, *, loses=0.0, **asked):
        sliding = chance.choice(self.connections)
        extensions = {
            name: {"enabled": True} for name in EXTENSIONS if chance.random() < 0.7
        }
        asked.setdefault("extensions", extensions)
        sliding.pos = self.pos
        reply = await sliding.asks(required_state=WANTED, **asked)
        if chance.random() < loses:
            return
        self.pos = reply["pos"]
        for room, section in reply["rooms"].items():
            self.rooms.setdefault(room, Known()).learns(section)
        told = reply["extensions"]
        for room, events in told.get("account_data", {}).get("rooms", {}).items():
            self.account_data.update({(room, e["type"]): e["content"] for e in events})
        for room, event in told.get("receipts", {}).get("rooms", {}).items():
            for event_id, kinds in event["content"].items():
                for user_id in kinds.get("m.read", ()):
                    self.receipts[room, user_id] = event_id


class World:
    """People who do things in rooms, and what is true then."""

    def __init__(self, rooms, alice, bob, carol):
        self.rooms, self.alice, self.bob, self.carol = rooms, alice, bob, carol
        self.last = {}
        self.carol_in = set()
        self.account_data = {}
        self.receipts = {}

    async def moves(self, chance, number):
        room = chance.choice(self.rooms)
        text = f"{number}"
        match chance.randint(0, 7):
            case 0:
                await self.alice.sets_state(room, "m.room.topic", {"topic": text})
            case 1:
                await self.alice.sets_state(room, "m.room.name", {"name": text})
            case 2 if room in self.carol_in:
                await self.carol.leaves(room)
                self.carol_in.remove(room)
            case 2:
                await self.carol.joins(room)
                self.carol_in.add(room)
            case 3:
                where = f"/user/{self.bob.user_id}/rooms/{room}/account_data/org.x"
                await self.bob.put(f"/_matrix/client/v3{where}", {"v": number})
                self.account_data[room, "org.x"] = {"v": number}
            case 4 if room in self.last:
                where = f"/rooms/{room}/receipt/m.read/{self.last[room]}"
                await self.bob.post(f"/_matrix/client/v3{where}", {})
                self.receipts[room, self.bob.user_id] = self.last[room]
            case _:
                self.last[room] = await self.alice.sends(room, text)


@pytest.mark.parametrize("seed", range(3))
async def test_what_the_client_ends_up_with_is_true(
    another_process, alice, bob, carol, seed
):
    chance = random.Random(seed)
    rooms = [await alice.creates_room(**PUBLIC, name=f"r{n}") for n in range(6)]
    for room in rooms:
        await bob.joins(room)
    elsewhere = Client(
        lambda: another_process.session,
        another_process.base_url,
        bob.access_token,
        user_id=bob.user_id,
        device_id=bob.device_id,
    )
    device = Device([Sliding(bob, "m"), Sliding(elsewhere, "m")])
    world = World(rooms, alice, bob, carol)
    for number in range(60):
        for _ in range(chance.randint(0, 3)):
            await world.moves(chance, number)
        first = chance.randint(0, 4)
        await device.asks(
            chance,
            loses=0.2,
            ranges=[[first, first + chance.randint(0, 3)]],
            timeline_limit=chance.randint(1, 4),
        )
    device.connections = device.connections[:1]
    everything = {name: {"enabled": True} for name in EXTENSIONS}
    for _ in range(2):
        await device.asks(chance, timeline_limit=5, extensions=everything)
    assert set(device.rooms) == set(rooms)
    for room, known in device.rooms.items():
        state = await alice.full_state(room)
        assert known.name == state["m.room.name", ""]["content"]["name"]
        wanted = {k: e["content"] for k, e in state.items() if k[0] == "m.room.member"}
        if ("m.room.topic", "") in state:
            wanted["m.room.topic", ""] = state["m.room.topic", ""]["content"]
        assert known.state == wanted
        assert known.joined == 2 + (room in world.carol_in)
        history = [event["event_id"] for event in await alice.history(room)]
        assert len(known.timeline) >= 5
        assert known.timeline == history[-len(known.timeline) :]
    assert device.account_data == world.account_data
    mine = {key: at for key, at in device.receipts.items() if key[1] == bob.user_id}
    assert mine == world.receipts
