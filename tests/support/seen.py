"""What a client has seen of its rooms through /sync, as a person would remember it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.api import Json


@dataclass
class RoomSeen:
    """One room as /sync told it so far."""

    membership: str = "join"
    timeline: list[Json] = field(default_factory=list)
    state: dict[tuple[str, str], Json] = field(default_factory=dict)
    # What an invited or knocking user is shown.
    stripped: dict[tuple[str, str], Json] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)
    # (event_id, user_id) of every m.read receipt.
    receipts: set[tuple[str, str]] = field(default_factory=set)
    account_data: dict[str, Json] = field(default_factory=dict)
    # prev_batch of every limited timeline: from there the missing part is fetched.
    gaps: list[str] = field(default_factory=list)
    summary: Json = field(default_factory=dict)
    unread: Json = field(default_factory=dict)

    def member(self, user_id: str) -> str | None:
        """The membership of a user in the state seen."""
        event = self.state.get(("m.room.member", user_id))
        return None if event is None else event["content"].get("membership")

    def event(self, event_id: str) -> Json | None:
        """The timeline's event of this ID."""
        return next((e for e in self.timeline if e["event_id"] == event_id), None)

    def bodies(self) -> list[str]:
        """The text of the messages seen, in order."""
        return [
            e["content"]["body"]
            for e in self.timeline
            if e["type"] == "m.room.message" and "body" in e["content"]
        ]

    def absorb(self, section: str, part: Json) -> None:
        """Take in this room's part of one /sync reply."""
        self.membership = section
        key = "invite_state" if section == "invite" else "knock_state"
        for event in part.get(key, {}).get("events", []):
            self.stripped[event["type"], event["state_key"]] = event
        for where in ("state", "state_after"):
            for event in part.get(where, {}).get("events", []):
                self.state[event["type"], event["state_key"]] = event
        timeline = part.get("timeline", {})
        if timeline.get("limited"):
            self.gaps.append(timeline["prev_batch"])
        for event in timeline.get("events", []):
            self.timeline.append(event)
            if "state_key" in event:
                self.state[event["type"], event["state_key"]] = event
        for event in part.get("ephemeral", {}).get("events", []):
            self._absorb_ephemeral(event)
        for event in part.get("account_data", {}).get("events", []):
            self.account_data[event["type"]] = event["content"]
        self.summary.update(part.get("summary", {}))
        self.unread.update(part.get("unread_notifications", {}))

    def _absorb_ephemeral(self, event: Json) -> None:
        if event["type"] == "m.typing":
            self.typing = event["content"]["user_ids"]
        elif event["type"] == "m.receipt":
            for event_id, kinds in event["content"].items():
                for user_id in kinds.get("m.read", {}):
                    self.receipts.add((event_id, user_id))


@dataclass
class Seen:
    """Everything a client has seen since its first /sync."""

    since: str = ""
    rooms: dict[str, RoomSeen] = field(default_factory=dict)
    account_data: dict[str, Json] = field(default_factory=dict)
    to_device: list[Json] = field(default_factory=list)

    def absorb(self, reply: Json) -> None:
        """Take in one /sync reply."""
        self.since = reply["next_batch"]
        for section, room_id, part in _parts(reply):
            self.rooms.setdefault(room_id, RoomSeen()).absorb(section, part)
        for event in reply.get("account_data", {}).get("events", []):
            self.account_data[event["type"]] = event["content"]
        self.to_device.extend(reply.get("to_device", {}).get("events", []))

    def room(self, room_id: str) -> RoomSeen:
        """A room, empty when nothing of it was seen."""
        return self.rooms.get(room_id) or RoomSeen(membership="unknown")


def _parts(reply: Json) -> Iterator[tuple[str, str, Json]]:
    for section in ("join", "invite", "knock", "leave"):
        for room_id, part in reply.get("rooms", {}).get(section, {}).items():
            yield section, room_id, part
