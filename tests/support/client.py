"""A person with a Matrix client, for tests that read as a dialogue.

    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    await alice.sends(room, "hello")
    await bob.sees(room, "hello")

It speaks plain client-server API to any homeserver and knows nothing else of it.
"""

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.support.api import Api, Json, RefusedError, path
from tests.support.seen import RoomSeen, Seen

__all__ = ["Client", "Json", "RefusedError", "log_in", "register"]

PASSWORD: Final = "correct horse battery staple"
# More events in one timeline than any dialogue sends between two looks.
_SYNC_FILTER: Final = json.dumps({"room": {"timeline": {"limit": 200}}})
# Rooms are named to another server by the server part of who told us of them.
_transaction_ids = itertools.count()


@dataclass
class Client(Api):
    """One logged-in user. Verbs are in the third person: the test tells a story."""

    user_id: str = ""
    device_id: str = ""
    seen: Seen = field(default_factory=Seen, repr=False)

    @property
    def server_name(self) -> str:
        return self.user_id.partition(":")[2]

    # Rooms

    async def creates_room(self, **options: Any) -> str:
        """Create a room from the options of POST /createRoom; its room ID."""
        reply = await self.post(path("createRoom"), options)
        return str(reply["room_id"])

    async def joins(self, room: str, *, via: "Client | str | None" = None) -> str:
        """Join a room by its ID or alias; its room ID."""
        server = via.server_name if isinstance(via, Client) else via
        query = {"via": server, "server_name": server} if server else {}
        reply = await self.call(
            "POST", path("join", room), {}, query=query, seconds=120
        )
        return str(reply["room_id"])

    async def knocks(self, room: str, *, via: "Client | None" = None) -> str:
        query = {"via": via.server_name, "server_name": via.server_name} if via else {}
        reply = await self.call("POST", path("knock", room), {}, query=query)
        return str(reply["room_id"])

    async def leaves(self, room: str) -> None:
        await self.post(path("rooms", room, "leave"))

    async def forgets(self, room: str) -> None:
        await self.post(path("rooms", room, "forget"))

    async def invites(self, room: str, who: "Client") -> None:
        await self._membership(room, "invite", who)

    async def kicks(self, room: str, who: "Client", reason: str = "") -> None:
        await self._membership(room, "kick", who, reason)

    async def bans(self, room: str, who: "Client", reason: str = "") -> None:
        await self._membership(room, "ban", who, reason)

    async def unbans(self, room: str, who: "Client") -> None:
        await self._membership(room, "unban", who)

    async def _membership(
        self, room: str, action: str, who: "Client", reason: str = ""
    ) -> None:
        body = {"user_id": who.user_id} | ({"reason": reason} if reason else {})
        await self.post(path("rooms", room, action), body)

    # Events

    async def sends(self, room: str, body: str, *, txn_id: str | None = None) -> str:
        """Send a text message; its event ID."""
        content = {"msgtype": "m.text", "body": body}
        return await self.sends_event(room, "m.room.message", content, txn_id=txn_id)

    async def sends_event(
        self, room: str, kind: str, content: Json, *, txn_id: str | None = None
    ) -> str:
        txn_id = txn_id or f"t{next(_transaction_ids)}"
        reply = await self.put(path("rooms", room, "send", kind, txn_id), content)
        return str(reply["event_id"])

    async def redacts(self, room: str, event_id: str, reason: str = "") -> str:
        """Redact an event; the redaction's event ID."""
        where = path("rooms", room, "redact", event_id, f"t{next(_transaction_ids)}")
        reply = await self.put(where, {"reason": reason} if reason else {})
        return str(reply["event_id"])

    async def sets_state(
        self, room: str, kind: str, content: Json, state_key: str = ""
    ) -> str:
        reply = await self.put(path("rooms", room, "state", kind, state_key), content)
        return str(reply["event_id"])

    async def sets_power(self, room: str, who: "Client", level: int) -> str:
        """Change one user's power level and nothing else."""
        levels = await self.state_of(room, "m.room.power_levels")
        levels.setdefault("users", {})[who.user_id] = level
        return await self.sets_state(room, "m.room.power_levels", levels)

    async def state_of(self, room: str, kind: str, state_key: str = "") -> Json:
        """The content of one state event."""
        return await self.get(path("rooms", room, "state", kind, state_key))

    async def full_state(self, room: str) -> dict[tuple[str, str], Json]:
        reply = await self.get(path("rooms", room, "state"))
        return {(e["type"], e["state_key"]): e for e in reply["value"]}

    async def reads_event(self, room: str, event_id: str) -> Json:
        return await self.get(path("rooms", room, "event", event_id))

    async def messages(
        self, room: str, *, start: str = "", direction: str = "b", limit: int = 100
    ) -> Json:
        """One page of a room's history."""
        query = {"from": start} if start else {}
        return await self.call(
            "GET",
            path("rooms", room, "messages"),
            query=query | {"dir": direction, "limit": str(limit)},
            seconds=120,
        )

    async def history(self, room: str, *, most: int = 2000) -> list[Json]:
        """All of the room's history that the server shows, the oldest first."""
        events: list[Json] = []
        start = ""
        while len(events) < most:
            page = await self.messages(room, start=start)
            events += page["chunk"]
            # An empty page may be followed by more: only a missing `end` is the end.
            if "end" not in page or page["end"] == start:
                break
            start = page["end"]
        return events[::-1]

    async def context(self, room: str, event_id: str, limit: int = 10) -> Json:
        return await self.get(path("rooms", room, "context", event_id), limit=limit)

    async def members(self, room: str) -> dict[str, str]:
        """Every user's membership."""
        reply = await self.get(path("rooms", room, "members"))
        return {e["state_key"]: e["content"]["membership"] for e in reply["chunk"]}

    async def joined_rooms(self) -> list[str]:
        return list((await self.get(path("joined_rooms")))["joined_rooms"])

    # What others see of it

    async def sets_typing(self, room: str, *, typing: bool = True) -> None:
        body: Json = {"typing": typing} | ({"timeout": 30_000} if typing else {})
        await self.put(path("rooms", room, "typing", self.user_id), body)

    async def marks_read(self, room: str, event_id: str) -> None:
        await self.post(path("rooms", room, "receipt", "m.read", event_id))

    async def sets_displayname(self, name: str) -> None:
        where = path("profile", self.user_id, "displayname")
        await self.put(where, {"displayname": name})

    async def sets_avatar(self, url: str) -> None:
        where = path("profile", self.user_id, "avatar_url")
        await self.put(where, {"avatar_url": url})

    async def profile_of(self, who: "Client") -> Json:
        return await self.get(path("profile", who.user_id))

    # Directory

    async def sets_alias(self, room: str, alias: str) -> None:
        await self.put(path("directory", "room", alias), {"room_id": room})

    async def deletes_alias(self, alias: str) -> None:
        await self.delete(path("directory", "room", alias))

    async def resolves(self, alias: str) -> Json:
        return await self.get(path("directory", "room", alias))

    async def publishes(self, room: str) -> None:
        where = path("directory", "list", "room", room)
        await self.put(where, {"visibility": "public"})

    async def public_rooms(self, server: str = "") -> list[Json]:
        query = {"server": server} if server else {}
        reply = await self.call("GET", path("publicRooms"), query=query)
        return list(reply["chunk"])

    # The account

    async def whoami(self) -> Json:
        return await self.get(path("account", "whoami"))

    async def logs_out(self) -> None:
        await self.post(path("logout"))

    # /sync

    async def syncs(self, wait: float = 0, **query: str) -> Json:
        """One /sync from where the last one ended; takes up to `wait` seconds."""
        asked = {
            "filter": _SYNC_FILTER,
            "timeout": str(int(wait * 1000)),
            "set_presence": "offline",  # or everybody would be told that they are here
            **query,
        }
        if self.seen.since:
            asked["since"] = self.seen.since
        reply = await self.call("GET", path("sync"), query=asked, seconds=wait + 60)
        self.seen.absorb(reply)
        return reply

    async def waits_for(
        self, room: str, is_there: Callable[[RoomSeen], Any], what: str, seconds: float
    ) -> RoomSeen:
        """Sync until the room is as wanted. Raises: AssertionError after `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not is_there(self.seen.room(room)):
            left = deadline - loop.time()
            if left <= 0:
                seen = self.seen.room(room)
                last = [
                    (e["type"], e["sender"], json.dumps(e["content"])[:120])
                    for e in seen.timeline[-8:]
                ]
                raise AssertionError(
                    f"{self.user_id} did not see {what} in {room} within {seconds} s; "
                    f"it is {seen.membership} there; last events: {last}"
                )
            if self.seen.since:
                await self.syncs(wait=min(left, 5))
            else:
                await self.syncs()
        return self.seen.room(room)

    async def sees(
        self, room: str, body: str, *, by: "Client | None" = None, seconds: float = 20
    ) -> Json:
        """Wait for a message with this text; the event."""

        def wanted(event: Json) -> bool:
            return event["content"].get("body") == body and (
                by is None or event["sender"] == by.user_id
            )

        return await self.sees_event(room, wanted, repr(body), seconds=seconds)

    async def sees_event(
        self,
        room: str,
        wanted: Callable[[Json], bool],
        what: str,
        *,
        seconds: float = 20,
    ) -> Json:
        """Wait for an event of the timeline; the event."""
        seen = await self.waits_for(
            room, lambda now: any(wanted(e) for e in now.timeline), what, seconds
        )
        return next(e for e in seen.timeline if wanted(e))

    async def sees_id(self, room: str, event_id: str, *, seconds: float = 20) -> Json:
        """Wait for the event of this ID; the event."""
        return await self.sees_event(
            room, lambda e: bool(e["event_id"] == event_id), event_id, seconds=seconds
        )

    async def sees_state(
        self,
        room: str,
        kind: str,
        content: Json,
        state_key: str = "",
        *,
        seconds: float = 20,
    ) -> Json:
        """Wait until a state event's content has at least these; the event."""

        def is_there(now: RoomSeen) -> bool:
            event = now.state.get((kind, state_key))
            return event is not None and content.items() <= event["content"].items()

        what = f"{kind} {state_key} {content}"
        seen = await self.waits_for(room, is_there, what, seconds)
        return seen.state[kind, state_key]

    async def sees_member(
        self, room: str, who: "Client", membership: str, *, seconds: float = 20
    ) -> None:
        """Wait until a user's membership is this."""
        await self.waits_for(
            room,
            lambda now: now.member(who.user_id) == membership,
            f"{who.user_id} {membership}",
            seconds,
        )

    async def is_shown(
        self, room: str, section: str, *, seconds: float = 20
    ) -> RoomSeen:
        """Wait until /sync shows the room as join, invite, knock or leave."""
        return await self.waits_for(
            room,
            lambda now: now.membership == section,
            f"the room as {section}",
            seconds,
        )

    async def sees_typing(
        self, room: str, *users: "Client", seconds: float = 20
    ) -> None:
        wanted = sorted(user.user_id for user in users)
        await self.waits_for(
            room, lambda now: sorted(now.typing) == wanted, f"typing {wanted}", seconds
        )

    async def sees_receipt(
        self, room: str, event_id: str, by: "Client", *, seconds: float = 20
    ) -> None:
        await self.waits_for(
            room,
            lambda now: (event_id, by.user_id) in now.receipts,
            f"a receipt of {by.user_id} at {event_id}",
            seconds,
        )


async def register(
    http: Callable[[], aiohttp.ClientSession],
    base_url: str,
    shared_secret: str,
    localpart: str,
    *,
    admin: bool = False,
) -> Client:
    """Make a user through the shared-secret registration and log it in."""
    api = Api(http, base_url)
    where = "/_synapse/admin/v1/register"
    nonce = (await api.get(where))["nonce"]
    parts = (nonce, localpart, PASSWORD, "admin" if admin else "notadmin")
    mac = hmac.new(shared_secret.encode(), "\0".join(parts).encode(), hashlib.sha1)
    reply = await api.post(
        where,
        {
            "nonce": nonce,
            "username": localpart,
            "password": PASSWORD,
            "admin": admin,
            "mac": mac.hexdigest(),
        },
    )
    return _logged_in(http, base_url, reply)


async def log_in(
    http: Callable[[], aiohttp.ClientSession],
    base_url: str,
    user: str,
    password: str = PASSWORD,
) -> Client:
    """A new device of a user that exists."""
    reply = await Api(http, base_url).post(
        path("login"),
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
        },
    )
    return _logged_in(http, base_url, reply)


def _logged_in(
    http: Callable[[], aiohttp.ClientSession], base_url: str, reply: Json
) -> Client:
    return Client(
        http,
        base_url,
        reply["access_token"],
        user_id=reply["user_id"],
        device_id=reply["device_id"],
    )
