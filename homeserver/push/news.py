"""What there is to push to a user: found anew from the events after a position.

Spec: push-gateway-api#homeserver-behaviour
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import UserId
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.events.stored import StoredEvent
from homeserver.live.invite_rules import Verdict
from homeserver.live.live import Live
from homeserver.live.room import Member, Room, User
from homeserver.push.counts import Judge, Unread, UnreadCounts
from homeserver.push.evaluation import Outcome
from homeserver.push.marks import joined_since, read_marks
from homeserver.push.pushers import Pusher

# Whoever could not be told for a long time is told of the last ones.
MOST: Final = 50
# Of a pusher's data: how it is reached.
_OURS: Final = ("url", "auth")
_BADGES: Final = 24 * MIB
_BADGE_COST: Final = 500  # bytes, roughly; and of each room
_ROOM_COST: Final = 200


@dataclass(frozen=True, slots=True)
class News:
    """An event that a user is to be told of."""

    position: int
    room: Room
    event: StoredEvent
    outcome: Outcome

    @property
    def is_urgent(self) -> bool:
        """Only what makes a noise, or may once it is decrypted, must wake a device."""
        is_loud = self.outcome.highlights or "sound" in _tweaks(self.outcome.actions)
        return is_loud or self.event.pdu.type == "m.room.encrypted"


@dataclass(frozen=True, slots=True)
class _Badges:
    """For each room where it stood, and what was not read of it then."""

    ignored: frozenset[UserId]  # by the user, when it was counted
    followed: Mapping[int, frozenset[str]]  # threads, too
    of_rooms: Mapping[int, tuple[int, int]]


class Newsroom:
    """Finds what users are to be told of."""

    def __init__(self, db: Database, live: Live, counts: UnreadCounts) -> None:
        self._db = db
        self._live = live
        self._counts = counts
        self._badges: LruCache[UserId, _Badges] = LruCache(
            "push badges",
            _BADGES,
            lambda badges: _BADGE_COST + _ROOM_COST * len(badges.of_rooms),
        )

    async def between(self, user_id: UserId, after: int, upto: int) -> list[News]:
        """What came after a position, has not been read and notifies, in order."""
        user = await self._live.user(user_id)
        found = await self._in_rooms(user, after, upto)
        for nid, member in user.rooms.items():
            if member.membership == "invite" and after < member.position <= upto:
                found += await self._invite(user_id, nid, member)
        found.sort(key=lambda news: news.position)
        return found[-MOST:]

    async def badge(self, user_id: UserId, upto: int) -> int:
        """How many notifications the user has not read, in all rooms."""
        user = await self._live.user(user_id)
        joined = {n: m for n, m in user.rooms.items() if m.membership == "join"}
        pulses = await self._live.pulses(joined)
        history = await self._counts.rules.of(user_id)
        ignored, followed = history.ignored, history.followed
        remembered = self._badges.get(user_id)
        known: Mapping[int, tuple[int, int]] = {}
        if remembered is not None and (
            (remembered.ignored, remembered.followed) == (ignored, followed)
        ):
            known = remembered.of_rooms
        badges: dict[int, tuple[int, int]] = {}
        moved: dict[int, Member] = {}
        for nid, pulse in pulses.items():
            at = max(pulse.events, pulse.receipts)
            if nid in known and known[nid][0] == at:
                badges[nid] = known[nid]
            else:
                # What moved beyond `upto` is not counted now, so it will be next time.
                badges[nid] = (min(at, upto), 0)
                moved[nid] = joined[nid]
        async with self._db.read() as tx:
            marks = await read_marks(tx, user_id, list(moved))
        # Most rooms have been read to their end, which is known without the room.
        open_ = {n: m for n, m in moved.items() if pulses[n].events > marks[n].start}
        for nid, unread in (await self._unread(user_id, open_, upto)).items():
            badges[nid] = (badges[nid][0], unread.total()[0])
        self._badges.put(user_id, _Badges(ignored, followed, badges))
        return sum(number for _, number in badges.values())

    async def _unread(
        self, user_id: UserId, joined: Mapping[int, Member], upto: int
    ) -> dict[int, Unread]:
        rooms = await self._live.rooms(joined)
        members = {room: joined[nid] for nid, room in rooms.items()}
        return await self._counts.of_rooms(user_id, members, upto)

    async def _in_rooms(self, user: User, after: int, upto: int) -> list[News]:
        joined = {n: m for n, m in user.rooms.items() if m.membership == "join"}
        pulses = await self._live.pulses(joined)
        moved = {n: m for n, m in joined.items() if pulses[n].events > after}
        unread = await self._unread(user.user_id, moved, upto)
        rooms = await self._live.rooms(moved)
        found: list[News] = []
        for nid, room in rooms.items():
            begin = await joined_since(self._live, moved[nid], user.user_id, after)
            found += await self._in_room(user.user_id, room, unread[nid], begin, upto)
            found = sorted(found, key=lambda news: news.position)[-MOST:]
        return found

    async def _in_room(
        self, user_id: UserId, room: Room, unread: Unread, after: int, upto: int
    ) -> list[News]:
        history = await self._counts.rules.of(user_id)
        is_default = history.is_default_in(room.room_id, after, upto)
        judge = Judge(self._live, room, history)
        marks = unread.marks
        found: list[News] = []
        async for page in self._counts.pages.events(
            room, max(after, marks.start), upto
        ):
            for event, digest in page:
                read = marks.threads.get(digest.thread, 0)
                if digest.sender == user_id or digest.position <= read:
                    continue
                if is_default and not digest.means(user_id, unread.followed)[0]:
                    continue
                outcome = await judge.outcome(event)
                if outcome.notifies:
                    found.append(News(digest.position, room, event, outcome))
            found = found[-MOST:]
        return found

    async def _invite(self, user_id: UserId, nid: int, member: Member) -> list[News]:
        room = (await self._live.rooms((nid,))).get(nid)
        event = await self._live.events.by_nid(member.event_nid)
        if room is None or event is None or event.pdu.sender == user_id:
            return []
        config = await self._live.invite_rules.of(user_id)
        if config.verdict(event.pdu.sender) is not Verdict.ALLOW:
            return []
        history = await self._counts.rules.of(user_id)
        judge = Judge(self._live, room, history)
        outcome = await judge.outcome(event, member.position)
        news = News(member.position, room, event, outcome)
        return [news] if outcome.notifies else []

    # ── As gateways get it ───────────────────────────────────────────────────────

    async def notification(self, pusher: Pusher, news: News, badge: int) -> JsonObject:
        """What a gateway is told of an event, in the format that the pusher asks."""
        event = news.event.shown
        told: dict[str, JsonValue] = {
            "event_id": event.event_id,
            "room_id": event.room_id,
            **badge_notification(pusher, badge, _tweaks(news.outcome.actions)),
        }
        if pusher.data.get("format") == "event_id_only":
            return told
        told["type"] = event.type
        told["sender"] = event.sender
        told["prio"] = "high" if news.is_urgent else "low"
        told["content"] = event.content
        told["user_is_target"] = event.key == ("m.room.member", pusher.user_id)
        for name, key, part in (
            ("sender_display_name", ("m.room.member", event.sender), "displayname"),
            ("room_name", ("m.room.name", ""), "name"),
            ("room_alias", ("m.room.canonical_alias", ""), "alias"),
        ):
            nid = news.room.state.get((key[0], str(key[1])))
            state = None if nid is None else await self._live.events.by_nid(nid)
            value = None if state is None else state.shown.content.get(part)
            if isinstance(value, str) and value:
                told[name] = value
        return told


def badge_notification(
    pusher: Pusher, badge: int, tweaks: JsonObject | None = None
) -> JsonObject:
    """What a gateway is told when only the number of what is unread has changed."""
    device: dict[str, Any] = {
        "app_id": pusher.app_id,
        "pushkey": pusher.pushkey,
        "pushkey_ts": pusher.ts,
        "data": {name: v for name, v in pusher.data.items() if name not in _OURS},
    }
    if tweaks is not None:
        device["tweaks"] = tweaks
    told: JsonObject = {"devices": [device]}
    if pusher.counts:
        # "Counts whose value is zero should be omitted."
        told["counts"] = {"unread": badge} if badge else {}
    return told


def _tweaks(actions: Sequence[JsonValue]) -> JsonObject:
    return {
        str(action["set_tweak"]): action.get("value", True)
        for action in actions
        if isinstance(action, dict) and "set_tweak" in action
    }
