"""Taking events of other servers into a room, once they were judged.

What comes together is taken together. Where a room is forked, its state has to be
resolved: once for all of them and not for each, unless one of them would be refused by
the state as it was before the others, or rests on what one of the others changes.

Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import asyncpg
import structlog

from federation import auth_rules
from federation.pdu import Pdu
from homeserver.db.pool import Database
from homeserver.events.stored import StoredEvent
from homeserver.live.live import Live
from homeserver.live.partial import note_servers
from homeserver.live.room import Head, Room
from homeserver.live.steps import Conflict, Step
from homeserver.live.writers import RoomWriter
from homeserver.rooms.build import note_redaction
from homeserver.rooms.current import note_state
from homeserver.rooms.extremities import covered_by
from homeserver.rooms.judging import (
    Incoming,
    Judged,
    is_unjudged,
    judge,
    state_pdus_of,
    store_aside,
)
from homeserver.rooms.redact_on_ban import redacted_by
from homeserver.rooms.reversals import reversals

_TRIES: Final = 5

log = structlog.get_logger(__name__)


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    SOFT_FAILED = "soft-failed"
    REJECTED = "rejected"
    KNOWN = "known"  # it was judged before


Taken = tuple[Outcome, StoredEvent | None]


async def accept(db: Database, live: Live, room: Room, incoming: Incoming) -> Taken:
    """Judge an event and store it: accepted, soft-failed or rejected.

    Raises: LacksEvents; Unsigned, when the room's policy server has to be asked;
    Conflict when other processes keep writing to the room.
    """
    (result,) = await accept_all(db, live, room, (incoming,))
    if isinstance(result, Exception):
        raise result
    return result


async def accept_all(
    db: Database, live: Live, room: Room, incomings: Sequence[Incoming]
) -> list[Taken | Exception]:
    """The same for several, in their order; what became of each, or what it raises.

    Raises: Conflict when other processes keep writing to the room.
    """
    for attempt in range(_TRIES):
        with contextlib.suppress(Conflict):
            async with live.retrying(room, attempt):
                async with live.writers.hold(room) as writer:
                    taking = _Taking(db, live, writer)
                    results = await taking.take_all(incomings)
                await _committed(live, taking.steps)
                return [_taken(result) for result in results]
    raise Conflict


def _discard(live: Live, events: Iterable[StoredEvent]) -> None:
    """Forget events that looked as if they were about to be stored."""
    for event in events:
        live.events.discard(event)


async def _committed(live: Live, steps: Sequence[Step]) -> None:
    """Wait for the commits. Raises: Conflict, when another process was first."""
    ends = await asyncio.gather(
        *(step.future for step in steps), return_exceptions=True
    )
    failed = [end for end in ends if isinstance(end, BaseException)]
    for step, end in zip(steps, ends, strict=True):
        if isinstance(end, BaseException):
            _discard(live, step.events)
    if failed and _is_known_meanwhile(failed[0]):
        raise Conflict from failed[0]
    if failed:
        raise failed[0]


def _taken(result: Judged | Taken | Exception) -> Taken | Exception:
    if not isinstance(result, Judged):
        return result
    if result.problem is not None:
        return result.problem
    return Outcome.ACCEPTED, result.event


def _is_known_meanwhile(error: BaseException) -> bool:
    """Whether the event was stored under another number while it was judged."""
    return (
        isinstance(error, asyncpg.UniqueViolationError)
        and error.constraint_name == "events_event_id_key"
    )


@dataclass(slots=True)
class _Taking:
    """Some events on their way into a room, under its writer.

    `open` are those that are accepted and in no step yet, `ends` the room's extremities
    with them.
    """

    db: Database
    live: Live
    writer: RoomWriter
    open: list[Judged] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    async def take_all(
        self, incomings: Sequence[Incoming]
    ) -> list[Judged | Taken | Exception]:
        """Take them in their order. Raises: Conflict."""
        try:
            results = [await self._try(incoming) for incoming in incomings]
            await self._close()
        except BaseException:
            _discard(self.live, (each.event for each in self.open))
            raise
        return results

    async def _try(self, incoming: Incoming) -> Judged | Taken | Exception:
        try:
            return await self._take(incoming)
        except Conflict:
            raise
        except Exception as error:  # noqa: BLE001 - for the caller; it spoils no other
            return error

    async def _take(self, incoming: Incoming) -> Judged | Taken:
        live, writer = self.live, self.writer
        known = await live.events.by_id(incoming.pdu.event_id)
        if known is not None and not is_unjudged(known):
            return Outcome.KNOWN, known
        if incoming.begins and writer.room.is_resident:
            # Another process has brought the room in meanwhile: this is one join more.
            incoming = replace(incoming, begins=False)
        if self._rules_over(incoming.pdu):
            await self._close()
        judged = await self._judge(incoming, known)
        if not judged.is_accepted and self.open:
            # Perhaps only by the state as it was before the others came.
            await self._close()
            judged = await self._judge(incoming, known)
        if judged.is_accepted:
            await self._add(judged)
            return judged
        if not incoming.ours:
            await store_aside(self.db, live, judged)
        event = judged.event
        log.info(
            "event not accepted",
            event_id=incoming.pdu.event_id,
            room_id=incoming.pdu.room_id,
            rejected=event.rejected,
            soft_failed=event.soft_failed,
        )
        is_soft = event.rejected is None
        return Outcome.SOFT_FAILED if is_soft else Outcome.REJECTED, event

    def _rules_over(self, pdu: Pdu) -> bool:
        """Whether an open event may change by what the room now judges this one.

        What the event itself rests on is no news to it. Nor is what that replaced: as
        each of them stands here, it rested on the one before.
        """
        if not self.open:
            return False
        last = {each.event.pdu.key: each.event.event_id for each in self.open}
        keys = auth_rules.auth_keys(
            pdu.version, pdu.type, pdu.state_key, pdu.sender, pdu.content
        )
        # The one kind that judges others and does not rest on its like.
        rules = [pdu.key] if pdu.type == "m.room.join_rules" else []
        return any(
            key in last and last[key] not in pdu.auth_events for key in (*keys, *rules)
        )

    async def _judge(self, incoming: Incoming, known: StoredEvent | None) -> Judged:
        writer = self.writer
        judged: Judged | None = None
        try:
            with writer.unmoved():
                judged = await judge(self.db, self.live, writer, incoming, known)
                if not judged.is_accepted and not self.open:
                    # What it rests on may be on its way only; it must not outlast it.
                    await writer.settled()
                    # Nor may it be refused because of a state that is no longer the
                    # room's.
                    await self.live.follower.was_behind()
        except BaseException:
            if judged is not None:
                _discard(self.live, (judged.event,))
            raise
        return judged

    async def _add(self, judged: Judged) -> None:
        live, event = self.live, judged.event
        ends = self.ends if self.open else list(self.writer.head.extremities)
        if judged.incoming.begins:
            ends = []
        covered = await covered_by(live, event)
        ends = [nid for nid in ends if nid not in covered]
        if not judged.awaited or not ends:
            ends.append(event.nid)
        live.events.put(event)
        self.open.append(judged)
        self.ends = ends
        if judged.incoming.begins or live.resolver.is_known(await self._roots()):
            await self._close()

    async def _roots(self) -> list[int]:
        """The states after the extremities."""
        at_ends = await self.live.events.by_nids(self.ends)
        return [e.state_after for e in at_ends.values() if e.state_after is not None]

    async def _close(self) -> None:
        """Hand the open events to the committer. Raises: Conflict."""
        if not self.open:
            return
        try:
            with self.writer.unmoved():
                step = await self._step()
            self.writer.submit(step)
            self.steps.append(step)
        except BaseException as error:
            _discard(self.live, (each.event for each in self.open))
            if isinstance(error, Conflict) or not isinstance(error, Exception):
                raise
            for each in self.open:
                each.problem = error
        finally:
            self.open = []

    async def _step(self) -> Step:
        """The step that puts the open events into the room's timeline."""
        live, writer, head = self.live, self.writer, self.writer.head
        room, last = writer.room, self.open[-1]
        resolved = await live.resolver.explain(
            room.version, room.nid, await self._roots()
        )
        root = resolved.root
        for each in self.open:
            # Until the last of them the room's state is as it was.
            state = root if each is last else head.state_root
            each.event = replace(each.event, room_state=state)
            live.events.put(each.event)
        # An outlier's number may be tried several times, so it guards nothing.
        await live.events.numbers.reserve(1)
        step = Step(
            room=room,
            expected=head.guard,
            head=Head(
                guard=live.events.numbers.next(),
                extremities=tuple(self.ends),
                state_root=root,
                depth=max(head.depth, *(each.event.pdu.depth for each in self.open)),
                partial=head.partial,
            ),
            events=[each.event for each in self.open],
        )
        for each in self.open:
            await _note(live, step, each)
        await note_state(live, writer, step, root)
        begins = last.incoming.begins
        if not begins and (
            len(step.events) > 1 or last.event.state_before != head.state_root
        ):
            step.reversals = await reversals(
                live, step.events, step.state, writer.state_nid, resolved
            )
        if begins:
            servers = last.incoming.lacks_members_of
            step.head = replace(step.head, partial=frozenset(servers) or None)
            step.awaits_members, step.is_whole = servers, not servers
            step.whole_root = last.incoming.whole_root
            note_servers(step, head)
        return step


async def _note(live: Live, step: Step, judged: Judged) -> None:
    """Note in the step what belongs to one event."""
    event = judged.event
    step.nodes += judged.nodes
    step.missing += [(event_id, event.nid) for event_id in judged.incoming.missing]
    if judged.awaited:
        step.arrived.append(event.event_id)
    if event.pdu.key is not None:
        interned = await live.states.keys.intern((event.pdu.key,))
        step.key_nids[event.nid] = interned[event.pdu.key]
    await _note_redactions(live, step, judged)


async def _note_redactions(live: Live, step: Step, judged: Judged) -> None:
    event = judged.event
    if event.pdu.redacts is not None:
        target = await live.events.by_id(event.pdu.redacts)
        if target is None or target.room_nid != event.room_nid:
            step.waiting_redactions.append((event.nid, event.pdu.redacts))
        elif auth_rules.may_redact(
            event.pdu, target.pdu, judged.state_events, create=judged.create
        ):
            note_redaction(step, target, event)
    targets = await redacted_by(live, event, judged.state_events, judged.create)
    for target in targets:
        note_redaction(step, target, event)
    for redaction in (await live.events.by_nids(judged.redactions)).values():
        keys = auth_rules.auth_keys(
            event.pdu.version,
            redaction.pdu.type,
            None,
            redaction.pdu.sender,
            redaction.pdu.content,
        )
        found = await live.states.get(redaction.state_before or 0, keys)
        state = await state_pdus_of(live, found)
        if redaction.is_visible and auth_rules.may_redact(
            redaction.pdu, event.pdu, state, create=judged.create
        ):
            note_redaction(step, event, redaction)
            break
