"""One seed: random people in one room, on servers that fail; then all must agree.

What must be agreed on, where the specification itself lets servers differ:

- Servers agree with those by whom they are told of events, and a server is told by
  those who count it among the room's. A join that was right where it was made and that
  others soft-fail, since a ban or a closed door came first there, leaves its server
  alone with its view: nobody tells it of what it does not know. Such a server is left
  out, but only if that is how it came to be alone. Spec: server-server-api#soft-failure
- Who crashes while joining may be in the room for the others and not know of it. The
  user, who got no answer, asks again; then both know.
- Versions 1 and 2 lose with the redaction of a redaction what it redacts, and reject
  what redacts nothing, unless its sender has the power to redact. Who gets it only then
  rejects it, and nobody rests on it. Spec: rooms/v1#redactions
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.simulation.nodes import Network, Node
from tests.simulation.virtual import course

VERSIONS: Final = ("1", "2", "3", "6", "8", "10", "11", "12")
DEEDS: Final = 16
ROUNDS: Final = 10
MEMBERSHIP: Final = {"kick": "kick", "ban": "ban", "unban": "unban", "invite": "invite"}


class Disagreement(AssertionError):  # noqa: N818 - reads as what was found
    """The servers differ, or have lost something."""


class Story:
    """A room, its people, and what they do to each other."""

    def __init__(self, dsns: Sequence[str], directory: Path, *, is_hard: bool) -> None:
        self.is_hard = is_hard
        self.network = Network()
        self.nodes = [
            Node(self.network, f"s{i}.test", dsn, directory)
            for i, dsn in enumerate(dsns)
        ]
        self.people = {f"@p{i}:{node.name}": node for i, node in enumerate(self.nodes)}
        self.version = course.dice.choice(VERSIONS)
        self.room = ""
        self.log: list[str] = []
        self.acknowledged: dict[str, str] = {}  # event ID → its sender
        self.unanswered: set[str] = set()  # whose join ended with a crash
        self.messages: list[str] = []
        self.redactions: list[str] = []
        self.redacted: set[str] = set()  # those of the redactions that were redacted
        self._numbers = iter(range(10**9))

    def note(self, text: str) -> None:
        """Write down what happened and when, for who has to understand a failure."""
        self.log.append(f"{course.elapsed:9.3f} {text}")

    # ── People ───────────────────────────────────────────────────────────────────

    async def _call(
        self, who: str, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, Any]:
        status, reply = await self.people[who].call(
            who, method, f"/_matrix/client/v3/{path}", body, **query
        )
        self.note(f"{who} {method} {path[:90]} {body or ''} → {status} {reply}"[:300])
        event_id = reply.get("event_id") if status == 200 else None
        if event_id is not None:
            self.acknowledged[event_id] = who
        return status, reply

    async def _in_room(
        self, who: str, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, Any]:
        room = quote(self.room, safe="")
        return await self._call(who, method, f"rooms/{room}/{path}", body, **query)

    async def says(self, who: str, text: str) -> int:
        content = {"msgtype": "m.text", "body": text}
        path = f"send/m.room.message/{next(self._numbers)}"
        status, reply = await self._in_room(who, "PUT", path, content)
        if status == 200:
            self.messages.append(reply["event_id"])
        return status

    async def sets(self, who: str, kind: str, content: Any) -> None:
        await self._in_room(who, "PUT", f"state/{kind}/", content)

    async def _redacts(self, who: str, event_id: str) -> None:
        path = f"redact/{quote(event_id, safe='')}/{next(self._numbers)}x"
        status, reply = await self._in_room(who, "PUT", path, {})
        if status == 200:
            self.redactions.append(reply["event_id"])

    async def joins(self, who: str) -> int:
        via = course.dice.choice([node.name for node in self.nodes])
        path = f"join/{quote(self.room, safe='')}"
        status, _ = await self._call(who, "POST", path, {}, server_name=via)
        if status == 0:
            self.unanswered.add(who)
        return status

    async def _sets_power(self, who: str, power: int, *users: str) -> None:
        status, levels = await self._in_room(who, "GET", "state/m.room.power_levels/")
        if status == 200:
            levels["users"] = {**levels.get("users", {}), **dict.fromkeys(users, power)}
            await self.sets(who, "m.room.power_levels", levels)

    async def begins(self) -> None:
        """Make the room, with everybody in it.

        All is well so far: who joins while a server's keys are not to be had misses
        that server's events in the state that it is given, and that is another story.
        """
        for node in self.nodes:
            await node.start()
        first, *others = self.people
        options = {"preset": "public_chat", "room_version": self.version}
        _, reply = await self._call(first, "POST", "createRoom", options)
        self.room = reply["room_id"]
        for who in others:
            path = f"join/{quote(self.room, safe='')}"
            via = self.people[first].name
            await self._call(who, "POST", path, {}, server_name=via)
            await asyncio.sleep(2)
        self.network.is_rough = True
        if course.dice.random() < 0.7:
            await self._sets_power(first, 50, *others)

    # ── Deeds ────────────────────────────────────────────────────────────────────

    async def goes_on(self) -> None:
        """Deeds of random people while random things happen to their servers."""
        running: list[asyncio.Task[None]] = []
        for _ in range(DEEDS):
            await asyncio.sleep(course.dice.expovariate(0.5))
            if course.dice.random() < 0.25:
                await self._something_fails()
            running.append(asyncio.create_task(self._somebody_does_something()))
        await asyncio.wait(running, timeout=600)

    async def _something_fails(self) -> None:
        dice = course.dice
        node, other = dice.sample(self.nodes, 2)
        pair = frozenset((node.name, other.name))
        what = dice.choice(["part", "part", "hole", "heal", "crash", "stop", "island"])
        self.note(f"── {what} {node.name} {other.name}")
        match what:
            case "part":
                self.network.cut.add(pair)
            case "island":
                for each in self.nodes:
                    if each is not node:
                        self.network.cut.add(frozenset((node.name, each.name)))
            case "hole":
                self.network.black_holes.add(pair)
            case "heal":
                self.network.cut.clear()
                self.network.black_holes.clear()
            case "crash" if node.is_up:
                node.questions_left = dice.randint(1, 60)
            case "stop" if node.is_up:
                await node.stop()
        await self._some_come_back()

    async def _some_come_back(self) -> None:
        for each in self.nodes:
            if not each.is_up and course.dice.random() < 0.5:
                self.note(f"── start {each.name}")
                await each.start()

    async def _somebody_does_something(self) -> None:
        dice, people = course.dice, list(self.people)
        who, other = dice.choice(people), dice.choice(people)
        deeds = ["say"] * 5 + ["topic", "name", "redact", "leave"]
        deeds += ["unredact"] if self.is_hard else []
        if not await self._is_in_now(who):
            deeds = ["join"] * 5 + ["leave"]
        if who == people[0]:
            # Only one moderates: where two ban each other on two sides, each side keeps
            # to its own view for ever, by the rules of soft failure.
            deeds += ["kick", "ban", "unban", "power", "invite"]
            deeds += ["door"] if self.is_hard else []
        await self._does(dice.choice(deeds), who, other)

    async def _is_in_now(self, who: str) -> bool:
        _, reply = await self._call(who, "GET", "joined_rooms")
        return self.room in reply.get("joined_rooms", ())

    async def _does(self, deed: str, who: str, other: str) -> None:
        dice = course.dice
        number = dice.randrange(1000)
        match deed:
            case "say":
                await self.says(who, f"{number}")
            case "topic" | "name":
                await self.sets(who, f"m.room.{deed}", {deed: f"{number}"})
            case "join":
                await self.joins(who)
            case "leave" if who != next(iter(self.people)):
                await self._in_room(who, "POST", "leave", {})
            case "redact" if self.messages:
                await self._redacts(who, dice.choice(self.messages))
            case "unredact" if self.redactions:
                target = dice.choice(self.redactions)
                self.redacted.add(target)
                await self._redacts(who, target)
            case "door":
                rule = dice.choice(["public", "invite"])
                await self.sets(who, "m.room.join_rules", {"join_rule": rule})
            case "kick" | "ban" | "unban" | "invite" if other != who:
                await self._in_room(who, "POST", deed, {"user_id": other})
            case "power" if other != who:
                await self._sets_power(who, dice.choice([0, 50]), other)

    # ── The end ──────────────────────────────────────────────────────────────────

    async def ends(self) -> None:
        """Heal everything; then all must agree. Raises: Disagreement."""
        self.network.heal()
        for node in self.nodes:
            node.questions_left = float("inf")
            if not node.is_up:
                await node.start()
        self.note("── healed")
        for who in sorted(self.unanswered):
            await self.joins(who)
        problem = ""
        for number in range(ROUNDS):
            for who in await self._joined():
                await self.says(who, f"still here {number}")
            await asyncio.sleep(30)
            problem = await self._differences()
            if not problem:
                await self._read_all_history()
                problem = await self._lost_events()
            if not problem:
                return
            self.note(problem)
        raise Disagreement(problem)

    async def _joined(self) -> list[str]:
        return [who for who in self.people if await self._is_in(who)]

    async def _is_in(self, who: str) -> bool:
        room = await self._room(self.people[who])
        return room is not None and room.is_joined(who)

    async def _room(self, node: Node) -> Any:
        return await node.spawn(node.ctx.live.room(self.room))

    async def _inside(self) -> list[Node]:
        """The servers that must agree."""
        joined = await self._joined()
        return [
            node
            for who, node in self.people.items()
            if who in joined and not await self._is_left_alone(who)
        ]

    async def _is_left_alone(self, who: str) -> bool:
        """Whether the moderator's server has soft-failed the join that who rests on."""
        home, moderator = self.people[who], next(iter(self.people.values()))
        room = await self._room(moderator)
        if home is moderator or room.is_joined(who):
            return False
        join = (await self._state(home)).get(("m.room.member", who))
        rows = await moderator.query(
            "SELECT soft_failed FROM events WHERE event_id = $1", join
        )
        return bool(rows and rows[0]["soft_failed"])

    async def _state(self, node: Node) -> dict[Any, str]:
        room = await self._room(node)
        events = await node.spawn(node.ctx.live.events.by_nids(room.state.values()))
        return {key: events[nid].event_id for key, nid in room.state.items()}

    async def _differences(self) -> str:
        inside = await self._inside()
        if not inside:
            return ""
        states = [await self._state(node) for node in inside]
        for node, state in zip(inside, states, strict=True):
            difference = set(state.items()) ^ set(states[0].items())
            if difference:
                return f"{inside[0].name} and {node.name}: {sorted(difference)}"
        for who in self.people:
            if await self._is_left_alone(who):
                continue
            here = await self._is_in(who)
            there = ("m.room.member", who) in states[0] and (
                await self._room(inside[0])
            ).is_joined(who)
            if here != there:
                home = self.people[who]
                entries = set((await self._state(home)).items()) ^ set(
                    states[0].items()
                )
                return f"{who}: {here} at home, {there} at {inside[0].name}: {entries}"
        return ""

    async def _read_all_history(self) -> None:
        for who in await self._joined():
            since: dict[str, str] = {}
            for _ in range(60):
                status, reply = await self._in_room(
                    who, "GET", "messages", None, dir="b", limit="100", **since
                )
                if status != 200 or "end" not in reply:
                    break
                since = {"from": reply["end"]}

    async def _lost_events(self) -> str:
        """An accepted event that another server inside does not have, if any."""
        inside = await self._inside()
        have: list[dict[str, str]] = []
        for node in inside:
            rows = await node.query(
                """
                SELECT e.event_id, position IS NOT NULL AS accepted, soft_failed,
                       rejected, state_before IS NOT NULL AS judged
                  FROM events e JOIN rooms r USING (room_nid) WHERE r.room_id = $1
                """,
                self.room,
            )
            have.append({row["event_id"]: _verdict(row) for row in rows})
        for node, events in zip(inside, have, strict=True):
            for other, theirs in zip(inside, have, strict=True):
                for event_id, verdict in events.items():
                    found = theirs.get(event_id, "nothing")
                    if verdict == "accepted" and not self._is_known(event_id, found):
                        return f"{event_id}: {node.name} has it, {other.name}: {found}"
        for event_id, who in self.acknowledged.items():
            node = self.people[who]
            if node in inside:
                found = have[inside.index(node)].get(event_id, "nothing")
                if not self._is_known(event_id, found):
                    return f"{event_id} was acknowledged, {node.name}: {found}"
        return ""

    def _is_known(self, event_id: str, verdict: str) -> bool:
        is_emptied = self.version in ("1", "2") and event_id in self.redacted
        return verdict in _KNOWN or (is_emptied and verdict.startswith("rejected"))


_KNOWN: Final = ("accepted", "soft-failed")


def _verdict(row: Any) -> str:
    if row["rejected"] is not None:
        return f"rejected: {row['rejected']}"
    if row["accepted"]:
        return "accepted"
    return "soft-failed" if row["soft_failed"] else "outlier"


async def tell(dsns: Sequence[str], directory: Path, *, is_hard: bool = False) -> Story:
    """Play one seed to its end. Raises: Disagreement, with the story in its notes."""
    story = Story(dsns, directory, is_hard=is_hard)
    try:
        await story.begins()
        await story.goes_on()
        await story.ends()
    except BaseException as error:
        error.add_note("\n".join(story.log))
        raise
    finally:
        for node in story.nodes:
            node.crash()
        await asyncio.sleep(1)
        for node in story.nodes:
            with contextlib.suppress(Exception):
                await node.forget()
    return story
