"""What an event means to members whose rules are the predefined ones.

For all of them it is the same, but for those whom it mentions. So it is found once for
each event, and one after the other digests make the counts of everybody.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from federation.auth_rules.power_levels import PowerLevels
from federation.ids import ServerName, is_user_id
from federation.pdu import Pdu
from homeserver.bounded import MIB, LruCache, Worth
from homeserver.events.stored import StoredEvent
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live
from homeserver.push.evaluation import Evaluator, Occasion
from homeserver.push.rules import (
    NO_EXTRAS,
    Extras,
    Rule,
    RuleKind,
    Ruleset,
    default_rules,
)
from homeserver.receipts.threads import MAIN, is_thread_id, relation_of, root_of

_DIGESTS: Final = 32 * MIB
_DIGEST_COST: Final = 250  # bytes, roughly; and of each who is mentioned
_MENTION_COST: Final = 150
_REDACTED: Final = 16 * MIB
_LEVELS: Final = ("m.room.power_levels", "")
_CREATE: Final = ("m.room.create", "")
_MENTION: Final = ".m.rule.is_user_mention"
_INVITE: Final = ".m.rule.invite_for_me"
_NOBODY: Final[frozenset[str]] = frozenset()
# More members than the rules for conversations of two speak of: whether it is two or
# more changes nothing of what counts.
_MANY: Final = 3


@dataclass(frozen=True, slots=True)
class Digest:
    """One event. `reads`: who sends it has read its thread up to it.

    `open`: it notifies those, and only those, who follow its thread (MSC4306).
    """

    position: int
    sender: str
    thread: str = MAIN
    reads: bool = True
    notifies: bool = False
    highlights: bool = False
    mentions: frozenset[str] = _NOBODY
    open: bool = False

    def means(
        self, user_id: str, followed: frozenset[str] = _NOBODY
    ) -> tuple[bool, bool]:
        """Whether it notifies a member with predefined rules, and whether loudly.

        `followed` are the threads of the room that the member follows.
        """
        if user_id in self.mentions:
            return True, True
        if self.open:
            return self.thread in followed, False
        return self.notifies, self.highlights


@functools.cache
def _evaluator(extras: Extras, *, mentioned: bool) -> Evaluator:
    """The predefined rules for somebody whom every event mentions, or none does."""
    rules: dict[RuleKind, Sequence[Rule]] = {}
    for kind in RuleKind:
        rules[kind] = [
            msgspec.structs.replace(rule, conditions=())
            if rule.rule_id == _MENTION
            else rule
            for rule in default_rules(kind, "", extras)
            if rule.rule_id != _INVITE and (mentioned or rule.rule_id != _MENTION)
        ]
    return Evaluator(Ruleset(rules))


def mentioned_in(event: Pdu, our_name: ServerName) -> frozenset[str]:
    """Users of ours whom the event mentions.

    Spec: client-server-api#user-and-room-mentions
    """
    mentions = event.content.get("m.mentions")
    user_ids = mentions.get("user_ids") if isinstance(mentions, dict) else None
    if not isinstance(user_ids, list):
        return _NOBODY
    ours = ":" + our_name
    return frozenset(
        u for u in user_ids if isinstance(u, str) and u.endswith(ours) and is_user_id(u)
    )


def mentions_room(event: Pdu) -> bool:
    """Whether it asks for everybody in the room."""
    mentions = event.content.get("m.mentions")
    return isinstance(mentions, dict) and mentions.get("room") is True


def digest_of(
    event: StoredEvent,
    thread: str,
    levels: PowerLevels | None,
    our_name: ServerName,
    extras: Extras = NO_EXTRAS,
) -> Digest:
    """The digest of an event in a thread."""
    pdu, position = event.pdu, event.position or 0
    reads = pdu.type != "m.room.member"
    if event.redaction is not None:
        return Digest(position, pdu.sender, thread, reads)
    evaluator = _evaluator(extras, mentioned=False)
    follows, is_open = None, False
    if extras.thread_subscriptions and thread != MAIN:
        follows = False
        followed = Occasion(pdu, _MANY, levels=levels, follows=True)
        is_open = evaluator.evaluate(followed).notifies
    occasion = Occasion(pdu, _MANY, levels=levels, follows=follows)
    outcome = evaluator.evaluate(occasion)
    is_open = is_open and not outcome.notifies
    mentions = mentioned_in(pdu, our_name)
    if mentions:
        loud = _evaluator(extras, mentioned=True).evaluate(occasion)
        mentions = mentions if loud.highlights else _NOBODY
    return Digest(
        position,
        pdu.sender,
        thread,
        reads,
        outcome.notifies,
        outcome.highlights,
        mentions,
        is_open,
    )


async def levels_at(live: Live, event: StoredEvent) -> PowerLevels:
    """The power levels in force before the event."""
    nids = await live.states.get(event.state_before or 0, (_LEVELS, _CREATE))
    events = await live.events.by_nids(nids.values())
    state = {key: events[nid].pdu for key, nid in nids.items() if nid in events}
    return PowerLevels.of(state, event.pdu.version)


class Digests:
    """Digests of stored events, at hand for the last ones."""

    def __init__(self, live: Live, extras: Extras = NO_EXTRAS) -> None:
        self._live = live
        self._extras = extras
        self._digests: LruCache[int, Digest] = LruCache(
            "push digests",
            _DIGESTS,
            lambda digest: _DIGEST_COST + _MENTION_COST * len(digest.mentions),
        )
        # Events redacted lately: somebody may still hold them as they were.
        self._redacted: LruCache[int, bool] = LruCache(
            "events redacted lately", _REDACTED, 32, Worth.NEEDED
        )
        self._resets = 0
        live.on_change(Kind.REDACTED, self._on_redacted)
        live.on_reset(self._on_reset)

    def _on_redacted(self, _position: int, change: Change) -> None:
        self._redacted.put(change.ref or 0, True)  # noqa: FBT003 - a set with a bound
        self._digests.pop(change.ref or 0)

    def _on_reset(self) -> None:
        self._resets += 1
        self._digests.clear()

    async def of_events(self, events: Iterable[StoredEvent]) -> list[Digest]:
        """The digests of events of one room, in the same order."""
        wanted = list(events)
        missing = [event for event in wanted if event.nid not in self._digests]
        made: dict[int, Digest] = {}
        if missing:
            made = await self._make(missing)
        found = []
        for event in wanted:
            digest = made.get(event.nid) or self._digests.get(event.nid)
            if digest is None:  # forgotten meanwhile
                digest = (await self._make((event,)))[event.nid]
            found.append(digest)
        return found

    async def _make(self, events: Sequence[StoredEvent]) -> dict[int, Digest]:
        live, resets = self._live, self._resets
        # What they relate to, in one query where it is not at hand.
        relations = [relation_of(event.pdu) for event in events]
        await live.events.by_ids(
            target for kind, target in filter(None, relations) if kind != "m.thread"
        )
        made = {}
        for event in events:
            thread = await root_of(live.events, event) or MAIN
            if not is_thread_id(thread):
                thread = MAIN
            levels = None
            if mentions_room(event.pdu):
                levels = await levels_at(live, event)
            made[event.nid] = digest_of(
                event, thread, levels, live.our_name, self._extras
            )
        for event in events:
            is_old = event.redaction is None and event.nid in self._redacted
            if resets == self._resets and not is_old:
                self._digests.put(event.nid, made[event.nid])
        return made


# ── As they are kept ─────────────────────────────────────────────────────────────────

_READS: Final = 1
_NOTIFIES: Final = 2
_HIGHLIGHTS: Final = 4
_OPEN: Final = 8


def encode_digests(digests: Iterable[Digest]) -> str:
    """Digests as text: texts that come again are written once."""
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    rows: list[list[Any]] = []
    for each in digests:
        flags = (
            _READS * each.reads
            + _NOTIFIES * each.notifies
            + _HIGHLIGHTS * each.highlights
            + _OPEN * each.open
        )
        row = [each.position, number(each.sender), number(each.thread), flags]
        rows.append([*row, *(number(user_id) for user_id in sorted(each.mentions))])
    return orjson.dumps([list(texts), rows]).decode()


def decode_digests(text: str) -> list[Digest]:
    """What `encode_digests` was given."""
    texts, rows = orjson.loads(text)
    return [
        Digest(
            position,
            texts[sender],
            texts[thread],
            bool(flags & _READS),
            bool(flags & _NOTIFIES),
            bool(flags & _HIGHLIGHTS),
            frozenset(texts[number] for number in mentions) if mentions else _NOBODY,
            bool(flags & _OPEN),
        )
        for position, sender, thread, flags, *mentions in rows
    ]
