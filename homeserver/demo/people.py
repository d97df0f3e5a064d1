"""People of the demo: each a small Matrix client."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp

PATIENCE: Final = 30.0
POLL_MILLISECONDS: Final = 3_000
CLIENT: Final = "/_matrix/client/v3"

Event = Mapping[str, Any]


class DidNotArrive(Exception):  # noqa: N818 - reads as a sentence at the raise
    """Something that was said or done was not seen by somebody."""


class Refusal(Exception):  # noqa: N818 - reads as a sentence at the raise
    """A server refused what somebody asked; the text holds its answer."""


@dataclass(slots=True)
class Person:
    """A user logged in at one server, who remembers what has been seen so far."""

    name: str
    user_id: str
    url: str
    token: str
    http: aiohttp.ClientSession
    since: str = ""
    seen: list[Event] = field(default_factory=list)
    _transactions: int = 0

    @classmethod
    async def register(cls, http: aiohttp.ClientSession, url: str, name: str) -> Self:
        """Make an account, as a client does where registration is open."""
        body = {"username": name, "password": f"{name} at the hearth"}
        path = f"{url}{CLIENT}/register"
        async with http.post(path, json=body) as reply:
            asked = await reply.json()
        # The server names the stages; the session shows that we have seen them.
        stage = {"type": "m.login.dummy", "session": asked.get("session", "")}
        async with http.post(path, json={**body, "auth": stage}) as reply:
            answer = await reply.json()
        if reply.status != 200:
            raise Refusal(f"register: {reply.status} {answer}")
        return cls(name, answer["user_id"], url, answer["access_token"], http)

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - JSON of many shapes
        """One request of the client API. Raises: Refusal."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.request(
            method, f"{self.url}{CLIENT}{path}", json=body, headers=headers
        ) as reply:
            answer = await reply.json()
        if reply.status != 200:
            raise Refusal(f"{self.name}: {method} {path}: {reply.status} {answer}")
        return answer

    async def creates_room(self, name: str, alias: str) -> str:
        """Make a public room; answers its ID."""
        body = {"preset": "public_chat", "name": name, "room_alias_name": alias}
        answer = await self.ask("POST", "/createRoom", body)
        return str(answer["room_id"])

    async def joins(self, room: str) -> None:
        """Join by ID or alias."""
        await self.ask("POST", f"/join/{quote(room, safe='')}", {})

    async def says(self, room: str, text: str) -> str:
        """Send a message; answers the event's ID."""
        body = {"msgtype": "m.text", "body": text}
        transaction = self._next_transaction()
        path = f"/rooms/{quote(room)}/send/m.room.message/{transaction}"
        return str((await self.ask("PUT", path, body))["event_id"])

    async def takes_back(self, room: str, event_id: str, reason: str) -> str:
        """Redact an event; answers the redaction's ID."""
        transaction = self._next_transaction()
        path = f"/rooms/{quote(room)}/redact/{quote(event_id)}/{transaction}"
        return str((await self.ask("PUT", path, {"reason": reason}))["event_id"])

    async def sets(self, room: str, type_: str, content: Mapping[str, Any]) -> str:
        """Change the room's state; answers the event's ID."""
        path = f"/rooms/{quote(room)}/state/{type_}"
        return str((await self.ask("PUT", path, content))["event_id"])

    async def state(self, room: str, type_: str) -> dict[str, Any]:
        """The content of a piece of state."""
        content: dict[str, Any] = await self.ask(
            "GET", f"/rooms/{quote(room)}/state/{type_}"
        )
        return content

    async def event(self, room: str, event_id: str) -> Event:
        """An event as it is now."""
        found: Event = await self.ask(
            "GET", f"/rooms/{quote(room)}/event/{quote(event_id)}"
        )
        return found

    async def history(self, room: str) -> list[str]:
        """The IDs of the newest events of the room, the newest first."""
        answer = await self.ask("GET", f"/rooms/{quote(room)}/messages?dir=b&limit=100")
        return [event["event_id"] for event in answer["chunk"]]

    async def sees(self, what: str, is_it: Callable[[Event], bool]) -> float:
        """Wait for an event in /sync; answers how many seconds it took to come.

        Raises: DidNotArrive.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                while not any(map(is_it, self.seen)):
                    await self._sync()
        except TimeoutError:
            raise DidNotArrive(f"{self.name} does not see {what}") from None
        return time.monotonic() - started

    async def _sync(self) -> None:
        path = f"/sync?timeout={POLL_MILLISECONDS if self.since else 0}"
        answer = await self.ask("GET", path + (self.since and f"&since={self.since}"))
        self.since = quote(answer["next_batch"])
        for room in answer.get("rooms", {}).get("join", {}).values():
            self.seen += room.get("state", {}).get("events", [])
            self.seen += room.get("timeline", {}).get("events", [])

    def _next_transaction(self) -> str:
        self._transactions += 1
        return f"{self.name}-{self._transactions}"
