"""Where a soak plays: three servers behind doors, and real crypto clients on them."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.interop.soak_story import ROOMS, ROTATE, Fail, Send, Slot
from tests.support.doors import HearthBehindDoors
from tests.support.javascript import Person

# How long everybody may take to hear of devices and to get keys, when all is calm.
CALM_SECONDS: Final = 60
# More than is said in a room between two looks.
_TIMELINE: Final = 200


@dataclass
class Device:
    """A device that was logged in: whom it knew, and what it has to be able to read."""

    slot: Slot
    person: Person
    # Events by room, and what each is.
    to_read: dict[int, dict[str, "Said"]] = field(default_factory=dict)
    # Devices that it shared keys with, or that with it: no one-time key is needed.
    met: set[str] = field(default_factory=set)
    is_leaving: bool = False


@dataclass(frozen=True)
class Said:
    """Something that was said, for a failure's text and for who met whom."""

    body: str
    by: Device
    room: int
    at: float = field(default_factory=time.time)

    def __str__(self) -> str:
        at = time.strftime("%H:%M:%S", time.gmtime(self.at))
        return f"{self.body!r} of {self.by.person.device_id} at {at}"


@dataclass
class Counts:
    """What a soak did."""

    messages: int = 0
    deliveries: int = 0
    log_ins: int = 0
    log_outs: int = 0
    failures: int = 0
    # First contact while the other's server could not be asked: see `entitled`.
    unreached: int = 0


class SoakStage:
    """Does what the story says, and keeps the books."""

    def __init__(self, servers: list[HearthBehindDoors], users: list[str]) -> None:
        self.servers = servers
        self.users = users  # user IDs
        self.counts = Counts()
        self.rooms: list[str] = []
        self.devices: dict[Slot, Device] = {}
        self.ids: dict[str, Device] = {}
        self._failing = [asyncio.Lock() for _ in servers]
        self._failures: set[asyncio.Task[None]] = set()

    # ── Devices ──────────────────────────────────────────────────────────────────

    async def logs_in(self, slot: Slot) -> None:
        person = await Person.logs_in(
            self.servers[slot.server],
            self.users[slot.user],
            f"device {slot.number}",
            timeline=_TIMELINE,
        )
        device = Device(slot, person)
        self.devices[slot] = self.ids[person.device_id] = device
        self.counts.log_ins += 1

    async def logs_out(self, slot: Slot) -> None:
        device = self.devices.pop(slot)
        device.is_leaving = True
        await device.person.does("log_out")
        await device.person.quits()
        self.counts.log_outs += 1

    async def makes_rooms(self) -> None:
        """Every room, with everybody in it."""
        for users in ROOMS:
            host, *guests = [self.devices[Slot(user, 0)].person for user in users]
            room = await host.makes_room(*(g.user_id for g in guests), rotate=ROTATE)
            await asyncio.gather(*(g.does("join", room=room) for g in guests))
            self.rooms.append(room)
        await asyncio.gather(*map(self._sees_everybody, self.devices.values()))

    async def _sees_everybody(self, device: Device) -> None:
        for number, users in enumerate(ROOMS):
            if device.slot.user not in users:
                continue
            for user in users:
                await device.person.does(
                    "sees_member",
                    room=self.rooms[number],
                    user=self.users[user],
                    membership="join",
                )

    # ── Messages ─────────────────────────────────────────────────────────────────

    async def sends(self, step: Send) -> None:
        device = self.devices[step.slot]
        users = [self.users[user] for user in ROOMS[step.room]]
        sent = await device.person.does(
            "sends_on", room=self.rooms[step.room], body=step.body, users=users
        )
        self.counts.messages += 1
        said = Said(step.body, device, step.room)
        for device_id in (each for ids in sent["known"].values() for each in ids):
            reader = self.ids.get(device_id)
            if reader is None or reader is device:
                continue
            if self.is_entitled(device, reader, sent["unclaimed"]):
                reader.to_read.setdefault(step.room, {})[sent["event"]] = said
                device.met.add(device_id)
            else:
                self.counts.unreached += 1

    def is_entitled(self, by: Device, to: Device, unclaimed: dict[str, int]) -> bool:
        """Whether a message is for a device that its sender knew.

        Who meets a device for the first time needs a one-time key of it, which only
        the device's server can give. A client library that did not get one asks that
        server again only after a while: to such a device nothing could be sent.
        """
        known = to.person.device_id in by.met
        return known or self.servers[to.slot.server].name not in unclaimed

    # ── Failures ─────────────────────────────────────────────────────────────────

    def fails(self, step: Fail) -> None:
        """Begin a failure, which ends by itself; one at a time for each server."""
        if self._failing[step.server].locked():
            return
        task = asyncio.create_task(self._fail(step))
        self._failures.add(task)

    async def _fail(self, step: Fail) -> None:
        server = self.servers[step.server]
        hows: dict[str, Callable[[], Awaitable[None]]] = {
            "restart": server.stop,
            "kill": server.kill,
            "kill with database": server.kill_with_database,
            "cut from clients": server.for_clients.stop,
            "cut from servers": server.for_servers.stop,
        }
        async with self._failing[step.server]:
            self.counts.failures += 1
            await hows[step.how]()
            await asyncio.sleep(step.seconds)
            if step.how == "cut from clients":
                await server.for_clients.start()
            elif step.how == "cut from servers":
                await server.for_servers.start()
            else:
                await server.start()

    async def calms_down(self) -> None:
        """Wait until nothing is broken any more."""
        await asyncio.gather(*self._failures)
        self._failures.clear()

    # ── What must be so ──────────────────────────────────────────────────────────

    async def everybody_knows_everybody(self) -> None:
        """Each device knows exactly the devices that there are."""
        there: dict[str, list[str]] = {user: [] for user in self.users}
        for device in self.devices.values():
            there[device.person.user_id].append(device.person.device_id)
        wanted = {user: sorted(ids) for user, ids in there.items()}

        async def knows(device: Device) -> str:
            users = self._companions(device.slot.user)
            known = await device.person.does("devices_of", users=users)
            wrong = [
                f"of {user} {known[user]} where there are {wanted[user]}"
                for user in users
                if known[user] != wanted[user]
            ]
            return f"{device.person.device_id} knows {wrong}" if wrong else ""

        await self._all("know each other's devices", knows)

    def _companions(self, user: int) -> list[str]:
        users = {each for room in ROOMS if user in room for each in room}
        return [self.users[each] for each in sorted(users)]

    async def everybody_reads_everything(self) -> None:
        """Each device can read every message that is for it."""

        async def reads(device: Device) -> str:
            unread = []
            for number, events in device.to_read.items():
                if events:
                    bad = await device.person.does(
                        "unread", room=self.rooms[number], events=list(events)
                    )
                    unread += [f"{events[id_]} ({id_}): {bad[id_]}" for id_ in bad]
            return f"{device.person.device_id} cannot read {unread}" if unread else ""

        await self._all("read everything", reads)
        for device in self.devices.values():
            read = [
                said for events in device.to_read.values() for said in events.values()
            ]
            self.counts.deliveries += len(read)
            device.met.update(said.by.person.device_id for said in read)
            device.to_read.clear()

    async def _all(self, what: str, check: Callable[[Device], Awaitable[str]]) -> None:
        """Repeat a check of each device until none has anything to say."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALM_SECONDS
        waiting = list(self.devices.values())
        while True:
            said = await asyncio.gather(*map(check, waiting))
            pairs = zip(waiting, said, strict=True)
            waiting = [device for device, words in pairs if words]
            if not waiting:
                return
            if loop.time() > deadline:
                words = "\n".join(filter(None, said))
                raise AssertionError(f"they do not {what}:\n{words}")
            await asyncio.sleep(0.5)

    async def quits(self) -> None:
        for task in self._failures:
            task.cancel()
        await asyncio.gather(*self._failures, return_exceptions=True)
        for device in self.devices.values():
            with contextlib.suppress(ProcessLookupError):
                await device.person.quits()


class Crowd:
    """Work under way: in order for each device, and not too much at once."""

    def __init__(self, most: int) -> None:
        self._slots = asyncio.Semaphore(most)
        self._last: dict[Slot, asyncio.Task[None]] = {}

    async def begins(self, slot: Slot, work: Callable[[], Awaitable[None]]) -> None:
        """Begin when there is room for it, after what the device does already."""
        await self._slots.acquire()
        self.raises()
        before = self._last.get(slot)

        async def run() -> None:
            try:
                if before is not None:
                    await before
                await work()
            finally:
                self._slots.release()

        self._last[slot] = asyncio.create_task(run())

    def raises(self) -> None:
        """Raise what went wrong so far."""
        for task in self._last.values():
            if task.done():
                task.result()

    async def finishes(self) -> None:
        """Wait for all of it."""
        await asyncio.gather(*self._last.values())
        self._last.clear()


def new_seed() -> int:
    return random.SystemRandom().randrange(10**9)


def summary(stage: SoakStage) -> dict[str, Any]:
    return {name: getattr(stage.counts, name) for name in Counts.__dataclass_fields__}
