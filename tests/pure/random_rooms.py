"""Random rooms: servers that go on alone, meet, cheat, and fall behind."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fake_rooms import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    EVE,
    POWER,
    Replica,
    make_pdu,
    public_room,
)
from hypothesis import strategies as st

from federation.canonical_json import JsonObject
from federation.ids import EventId, UserId, server_of
from federation.pdu import Pdu
from federation.room_versions import RoomVersion

USERS = (ALICE, BOB, CAROL, DAVE, EVE)
SERVERS = ("a.test", "b.test", "c.test")
POWERS = (0, 50, 100)
RULES = ("public", "invite")


@dataclass(frozen=True)
class Step:
    """What one server does next; numbers are taken modulo what there is."""

    server: int
    action: str
    user: int
    target: int
    number: int
    age: int  # how far back in the graph the event hangs; 0: at the end
    clock: int
    cheats: bool


STEPS = st.lists(
    st.builds(
        Step,
        server=st.integers(0, 2),
        action=st.sampled_from(
            [
                "message",
                "topic",
                "profile",
                "join",
                "leave",
                "kick",
                "ban",
                "invite",
                "levels",
                "levels",
                "rules",
                "sync",
            ]
        ),
        user=st.integers(0, 4),
        target=st.integers(0, 4),
        number=st.integers(0, 5),
        age=st.sampled_from([0, 0, 0, 0, 1, 3, 8]),
        clock=st.integers(0, 20),
        cheats=st.sampled_from([False, False, False, True]),
    ),
    min_size=15,
    max_size=40,
)


def _levels(replica: Replica, users: Iterable[tuple[UserId, int]]) -> JsonObject:
    create = next(iter(replica.events.values())).pdu
    privileged = replica.version.privileged_creators
    return {
        "users": {u: p for u, p in users if not (privileged and u == create.sender)}
    }


def _content(
    replica: Replica, step: Step, user: UserId
) -> tuple[str, str | None, JsonObject]:
    target = USERS[step.target]
    memberships = {"kick": "leave", "ban": "ban", "invite": "invite"}
    match step.action:
        case "message":
            return "m.room.message", None, {"body": str(step.number)}
        case "topic":
            return "m.room.topic", "", {"topic": str(step.number)}
        case "join" | "leave" as membership:
            return "m.room.member", user, {"membership": membership}
        case "profile":
            content: JsonObject = {
                "membership": "join",
                "displayname": str(step.number),
            }
            return "m.room.member", user, content
        case "levels":
            state = replica.current()
            now = replica.pdu(state[POWER]).content["users"] if POWER in state else {}
            assert isinstance(now, dict)
            power = POWERS[step.number % len(POWERS)]
            users = {u: int(str(p)) for u, p in now.items()} | {target: power}
            return "m.room.power_levels", "", _levels(replica, users.items())
        case "rules":
            rule = RULES[step.number % len(RULES)]
            return "m.room.join_rules", "", {"join_rule": rule}
        case action:
            return "m.room.member", target, {"membership": memberships[action]}


def _make(replica: Replica, step: Step, room_id: str) -> Pdu:
    local = [u for u in USERS if server_of(u) == SERVERS[step.server]]
    user = local[step.user % len(local)]
    kind, state_key, content = _content(replica, step, user)
    accepted = [k.pdu for k in replica.events.values() if not k.rejected]
    if step.age:
        prev = [accepted[max(0, len(accepted) - 1 - step.age)]]
    else:
        prev = [replica.pdu(one) for one in sorted(replica.extremities)]
    state = replica.state_at([one.event_id for one in prev])
    if step.cheats and step.number % 2:
        # Cites an older state than the one the event stands in.
        state = replica.after[accepted[len(accepted) // 2].event_id]
    return make_pdu(
        replica.version,
        sender=user,
        kind=kind,
        content=content,
        state_key=state_key,
        prev=prev,
        auth=replica.selected(state, kind, state_key, user, content),
        ts=1_000_000 + step.clock * 1000,
        depth=1 if step.cheats else None,
        room_id=room_id,
    )


def exchange(into: Replica, events: Iterable[Pdu]) -> None:
    """Give a server all these events, each when all it refers to is there."""
    waiting = list(events)
    while waiting:
        later = []
        for event in waiting:
            if all(
                one in into.events for one in (*event.prev_events, *event.auth_events)
            ):
                into.receive(event)
            else:
                later.append(event)
        assert len(later) < len(waiting)
        waiting = later


def pdus_of(replica: Replica) -> list[Pdu]:
    return [known.pdu for known in replica.events.values()]


def play(version: RoomVersion, steps: Iterable[Step]) -> list[Replica]:
    """Let three servers act out the steps from a room that all of them share."""
    powers = {ALICE: 100, BOB: 50, CAROL: 50, DAVE: 0}
    room = public_room(version.identifier, powers)
    replicas = [Replica(version) for _ in SERVERS]
    for replica in replicas:
        exchange(replica, pdus_of(room))
    for step in steps:
        replica = replicas[step.server]
        if step.action == "sync":
            exchange(replica, pdus_of(replicas[step.user % len(replicas)]))
            continue
        event = _make(replica, step, room.create.room_id)
        if event.event_id in replica.events:
            continue
        before = replica.state_at(event.prev_events)
        if step.cheats or replica.why_rejected(event, before) is None:
            replica.receive(event)
    return replicas


def everything(replicas: Iterable[Replica]) -> dict[EventId, Pdu]:
    return {one.event_id: one for replica in replicas for one in pdus_of(replica)}


Shuffle = Callable[[list[Pdu]], list[Pdu]]
