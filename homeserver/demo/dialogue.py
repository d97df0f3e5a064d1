"""What happens in the demo: two people on two servers talk, and each line arrives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from homeserver.demo.people import DidNotArrive, Event, Person

Say = Callable[[str, str], None]

ROOM_NAME: Final = "By the hearth"
LINES: Final = (
    ("alice", "Is anybody there?"),
    ("bob", "I am, on another server. Good evening!"),
    ("alice", "How was the journey?"),
    ("bob", "Signed, hashed and over TLS. ünïcödé 🔥 came along unharmed."),
)


@dataclass(slots=True)
class Dialogue:
    """Alice, Bob and their room; `say` is told who does what, and what came of it."""

    alice: Person
    bob: Person
    say: Say
    room: str = ""
    lines: int = 0

    async def run(self) -> None:
        """Let it happen. Raises: DidNotArrive, Refusal."""
        await self._meet()
        for name, text in LINES:
            await self._line(name, text)
        await self._take_back()
        await self._change_state()
        await self._compare()

    async def _meet(self) -> None:
        alice, bob = self.alice, self.bob
        self.room = await alice.creates_room(ROOM_NAME, "hearth")
        alias = f"#hearth:{alice.user_id.partition(':')[2]}"
        self.say("alice", f"makes the room {alias}")
        await bob.joins(alias)
        self.say("bob", "joins it from the other server")
        bobs_join = _member(bob.user_id, "join")
        await self._seen_by(alice, "that Bob has joined", bobs_join)
        await self._seen_by(bob, "it too", bobs_join)

    async def _line(self, name: str, text: str) -> str:
        """One says something and the other hears it."""
        speaker, listener = self._pair(name)
        event_id = await speaker.says(self.room, text)
        self.say(name, f"“{text}”")
        await self._seen_by(listener, "it", _message(event_id, text))
        return event_id

    async def _take_back(self) -> None:
        """Alice redacts what she said, and Bob's server forgets it."""
        slip = await self._line("alice", "My password is swordfi-")
        redaction = await self.alice.takes_back(self.room, slip, "a slip")
        self.say("alice", "takes that back")
        await self._seen_by(self.bob, "that", _has_id(redaction))
        if (await self.bob.event(self.room, slip))["content"]:
            raise DidNotArrive("bob still sees what was taken back")
        self.lines += 1
        self.say("", "it is gone on Bob's server")

    async def _change_state(self) -> None:
        """Both change the room: Alice its topic, and Bob, once he may, its name."""
        room, alice, bob = self.room, self.alice, self.bob
        topic = await alice.sets(room, "m.room.topic", {"topic": "Stories and tea"})
        self.say("alice", "sets the topic: Stories and tea")
        await self._seen_by(bob, "the topic", _has_id(topic))
        levels = await alice.state(room, "m.room.power_levels")
        levels.setdefault("users", {})[bob.user_id] = 50
        promoted = await alice.sets(room, "m.room.power_levels", levels)
        self.say("alice", "makes Bob a moderator")
        await self._seen_by(bob, "that", _has_id(promoted))
        name = await bob.sets(room, "m.room.name", {"name": "By two hearths"})
        self.say("bob", "renames the room: By two hearths")
        await self._seen_by(alice, "the name", _has_id(name))

    async def _compare(self) -> None:
        """Both servers hold the same: the state, and the events since the meeting."""
        for type_ in ("m.room.topic", "m.room.name", "m.room.power_levels"):
            one = await self.alice.state(self.room, type_)
            if one != await self.bob.state(self.room, type_):
                raise DidNotArrive(f"the servers differ in {type_}")
        ours = await self.alice.history(self.room)
        theirs = await self.bob.history(self.room)
        # Bob may not know what came before he joined.
        if missing := set(ours[: self._since_meeting()]) - set(theirs):
            raise DidNotArrive(f"bob's server misses {', '.join(missing)}")
        self.lines += 1
        self.say("", "both servers hold the same room")

    def _since_meeting(self) -> int:
        # Bob's join, the lines, the slip and its redaction, and three changes of state.
        return 1 + len(LINES) + 2 + 3

    async def _seen_by(
        self, person: Person, what: str, is_it: Callable[[Event], bool]
    ) -> None:
        seconds = await person.sees(what, is_it)
        self.lines += 1
        self.say("", f"{person.name} sees {what} ({seconds * 1000:.0f} ms)")

    def _pair(self, name: str) -> tuple[Person, Person]:
        if name == self.alice.name:
            return self.alice, self.bob
        return self.bob, self.alice


def _has_id(event_id: str) -> Callable[[Event], bool]:
    return lambda event: event.get("event_id") == event_id


def _message(event_id: str, text: str) -> Callable[[Event], bool]:
    return lambda event: (
        event.get("event_id") == event_id and event["content"].get("body") == text
    )


def _member(user_id: str, membership: str) -> Callable[[Event], bool]:
    return lambda event: (
        event.get("type") == "m.room.member"
        and event.get("state_key") == user_id
        and event["content"].get("membership") == membership
    )
