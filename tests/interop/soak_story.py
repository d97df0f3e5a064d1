"""The story of a soak, all of it from one seed: who does what, and what breaks when."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

SERVERS: Final = 3
USERS: Final = 6  # two on each server
MOST_OF_USER: Final = 3
MOST_DEVICES: Final = 15
FEWEST_DEVICES: Final = 9
# Who is in which room, by the users' numbers; user n is on server n modulo 3.
ROOMS: Final = ((0, 1, 2, 3, 4, 5), (0, 1, 5), (2, 3, 4), (1, 4))
# A new key after so many messages, so that keys are shared all the time.
ROTATE: Final = 7
# So many messages between two looks at what everybody could read.
CHAPTER: Final = 100


@dataclass(frozen=True)
class Slot:
    """Where a device of a user is, once it is logged in."""

    user: int
    number: int

    @property
    def server(self) -> int:
        return self.user % SERVERS


@dataclass(frozen=True)
class Send:
    """A device says something in a room."""

    slot: Slot
    room: int
    body: str


@dataclass(frozen=True)
class LogIn:
    """A new device."""

    slot: Slot


@dataclass(frozen=True)
class LogOut:
    """A device goes for good."""

    slot: Slot


@dataclass(frozen=True)
class Fail:
    """A server is restarted, killed, or cut off; it comes back by itself.

    `how`: restart, kill, kill with database, or cut from clients or servers.
    """

    server: int
    how: str
    seconds: float


@dataclass(frozen=True)
class Rest:
    """Everything comes back, and everybody can read what they are to read."""


Step: TypeAlias = Send | LogIn | LogOut | Fail | Rest

_FAILURES: Final = (
    "restart",
    "kill",
    "kill with database",
    "cut from clients",
    "cut from servers",
    "cut from servers",
)


@dataclass
class Story:
    """Steps for so many messages; the same for the same seed."""

    seed: int
    messages: int
    _random: random.Random = field(init=False)
    _here: list[Slot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def steps(self) -> Iterator[Step]:
        """First the devices come and greet, then whatever comes."""
        first = [Slot(user, 0) for user in range(USERS)]
        second = [Slot(user, 1) for user in range(USERS)]
        third = [Slot(user, 2) for user in range(MOST_DEVICES - 2 * USERS)]
        for slot in (*first, *second, *third):
            self._here.append(slot)
            yield LogIn(slot)
        yield Rest()
        # All meet while nothing is broken: what breaks later finds them in contact.
        for slot in self._here:
            yield Send(slot, 0, f"{slot} is here")
        yield Rest()
        sent = len(self._here)
        while sent < self.messages:
            step = self._step(sent)
            yield step
            if isinstance(step, Send):
                sent += 1
                if sent % CHAPTER == 0:
                    yield Rest()
        if sent % CHAPTER:
            yield Rest()

    def _step(self, number: int) -> Step:
        chance = self._random.random()
        if chance < 0.03:
            return self._fail()
        if chance < 0.06 and (leaving := self._who_may_leave()):
            slot = self._random.choice(leaving)
            self._here.remove(slot)
            return LogOut(slot)
        if chance < 0.09 and (coming := self._who_may_come()):
            slot = self._random.choice(coming)
            self._here.append(slot)
            return LogIn(slot)
        slot = self._random.choice(self._here)
        rooms = [n for n, users in enumerate(ROOMS) if slot.user in users]
        return Send(slot, self._random.choice(rooms), f"message {number}")

    def _fail(self) -> Fail:
        return Fail(
            self._random.randrange(SERVERS),
            self._random.choice(_FAILURES),
            self._random.uniform(0.2, 3),
        )

    def _who_may_leave(self) -> list[Slot]:
        if len(self._here) <= FEWEST_DEVICES:
            return []
        users = [slot.user for slot in self._here]
        return [slot for slot in self._here if users.count(slot.user) > 1]

    def _who_may_come(self) -> list[Slot]:
        if len(self._here) >= MOST_DEVICES:
            return []
        return [
            slot
            for user in range(USERS)
            for number in range(MOST_OF_USER)
            if (slot := Slot(user, number)) not in self._here
        ]
