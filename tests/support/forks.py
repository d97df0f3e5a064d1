"""A large room, and two branches of it on which two moderators do what they like.

    forked = await Forked.make(ctx, members=10_000)
    left, right = forked.branch("b.test", 500), forked.branch("c.test", 500)
    await forked.accepts(*left, *right)
    last = forked.merge("b.test", left[-1], right[-1])

Only `federation/` and what a join uses to store a room: no other server is there.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from federation import auth_rules, signatures
from federation.ids import RoomId, UserId
from federation.pdu import Pdu, parse_pdu, reference_pairs
from federation.room_versions import ROOM_VERSIONS, EventIdFormat
from federation.signatures import SigningKey
from homeserver.context import Context
from homeserver.live.room import Room
from homeserver.rooms.accept import Outcome, accept, accept_all
from homeserver.rooms.create import insert_room
from homeserver.rooms.judging import Incoming
from homeserver.rooms.outliers import root_of_state, store_outliers
from homeserver.server_keys.verify import Verified

Json = dict[str, Any]
_NOW_MS = 1_700_000_000_000
_KEY = SigningKey.generate("forks")
_rooms = itertools.count(1)


class Forked:
    """A room that b.test and c.test moderate, with a user of ours in it."""

    def __init__(self, ctx: Context, room_id: RoomId, version: str) -> None:
        self.ctx = ctx
        self.version = ROOM_VERSIONS[version]
        self.room_id = room_id
        self.us = UserId(f"@us:{ctx.server_name}")
        self.moderators = [UserId("@mod:b.test"), UserId("@mod:c.test")]
        self.state: dict[tuple[str, str], Pdu] = {}
        self.people: list[UserId] = []
        self.join: Pdu
        self.room: Room
        self._clock = itertools.count(_NOW_MS)

    @classmethod
    async def make(cls, ctx: Context, members: int, version: str = "10") -> "Forked":
        """Have the room, with our user in it."""
        made = cls(ctx, RoomId(f"!forked{next(_rooms)}:b.test"), version)
        await made._begin(members)
        return made

    async def _begin(self, members: int) -> None:
        creator, other = self.moderators
        create = {"room_version": self.version.identifier, "creator": creator}
        state = self.state
        last = [self.event(creator, "m.room.create", create, "", [], state)]
        joined = {"membership": "join"}
        last = [self.event(creator, "m.room.member", joined, creator, last, state)]
        levels = {"users": {creator: 100, other: 100}}
        last = [self.event(creator, "m.room.power_levels", levels, "", last, state)]
        rules = {"join_rule": "public"}
        last = [self.event(creator, "m.room.join_rules", rules, "", last, state)]
        self.people = [UserId(f"@p{n}:m{n % 50}.test") for n in range(members)]
        for who in (other, *self.people):
            last = [self.event(who, "m.room.member", joined, who, last, state)]
        ctx = self.ctx
        self.room = await insert_room(ctx, self.room_id, self.version)
        events = {e.event_id: Verified(e, vouched=True) for e in state.values()}
        await store_outliers(ctx, self.room, events)
        root, _ = await root_of_state(ctx, self.room, events)
        self.join = self.event(self.us, "m.room.member", joined, self.us, last, state)
        incoming = Incoming(
            self.join, state_before=root, missing=(last[0].event_id,), begins=True
        )
        outcome, _ = await accept(ctx.db, ctx.live, self.room, incoming)
        assert outcome is Outcome.ACCEPTED

    def event(
        self,
        sender: UserId,
        kind: str,
        content: Json,
        state_key: str | None,
        after: Sequence[Pdu],
        state: dict[tuple[str, str], Pdu],
    ) -> Pdu:
        """An event upon a state, which then holds it."""
        keys = auth_rules.auth_keys(self.version, kind, state_key, sender, content)
        auth = [state[key] for key in keys if key in state]
        raw: Json = {
            "type": kind,
            "room_id": self.room_id,
            "sender": sender,
            "content": content,
            "depth": max((e.depth for e in after), default=0) + 1,
            "origin_server_ts": next(self._clock),
            "prev_events": reference_pairs(after, self.version),
            "auth_events": reference_pairs(auth, self.version),
        }
        if state_key is not None:
            raw["state_key"] = state_key
        server = sender.split(":", 1)[1]
        if self.version.event_id_format is EventIdFormat.FROM_SERVER:
            raw["event_id"] = f"$e{next(self._clock)}:{server}"
        signed = signatures.hash_and_sign_event(raw, self.version, server, _KEY)  # type: ignore[arg-type]
        event = parse_pdu(signed, self.version)
        if event.key is not None:
            state[event.key] = event
        return event

    def branch(self, server: str, length: int) -> list[Pdu]:
        """What that moderator does, all of it state: power, bans, names and topics."""
        mod = UserId(f"@mod:{server}")
        state = dict(self.state)
        events = [self.join]
        for n in range(length):
            who = self.people[n % len(self.people)]
            step: tuple[str, Json, str]
            match n % 5:
                case 0:
                    users = dict.fromkeys(self.moderators, 100) | {who: n % 50}
                    step = "m.room.power_levels", {"users": users}, ""
                case 1:
                    step = "m.room.topic", {"topic": f"{server} {n}"}, ""
                case _:
                    step = "m.room.member", {"membership": "ban"}, who
            kind, content, key = step
            events.append(self.event(mod, kind, content, key, events[-1:], state))
        return events[1:]

    def says(self, after: Sequence[Pdu], body: str = "merged") -> Pdu:
        """A message of the first moderator's upon some events."""
        content = {"msgtype": "m.text", "body": body}
        mod = self.moderators[0]
        return self.event(mod, "m.room.message", content, None, after, dict(self.state))

    async def accepts(self, *events: Pdu) -> None:
        """Take events, one after another."""
        for event in events:
            outcome, _ = await accept(
                self.ctx.db, self.ctx.live, self.room, Incoming(event)
            )
            assert outcome in (Outcome.ACCEPTED, Outcome.SOFT_FAILED), event.type

    async def accepts_together(self, *events: Pdu) -> None:
        """Take events as they come in one transaction."""
        incomings = [Incoming(event) for event in events]
        for result in await accept_all(
            self.ctx.db, self.ctx.live, self.room, incomings
        ):
            assert not isinstance(result, Exception), result
            assert result[0] in (Outcome.ACCEPTED, Outcome.SOFT_FAILED)
