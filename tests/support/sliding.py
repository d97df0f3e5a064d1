"""A client of sliding sync: it remembers its place, and nothing else."""

from typing import Any

from tests.support.api import Json
from tests.support.client import Client

URL = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"


class Sliding:
    """One connection of a person's client."""

    def __init__(self, person: Client, conn_id: str = "room-list") -> None:
        self.person = person
        self.conn_id = conn_id
        self.pos: str | None = None

    async def asks(
        self,
        *,
        ranges: list[list[int]] | None = None,
        timeline_limit: int = 1,
        required_state: Any = (),
        filters: Json | None = None,
        wait: float = 0,
        pos: str | None = None,
        **more: Any,
    ) -> Json:
        """Ask with one list `all`, unless `lists` says otherwise; moves on."""
        config = {
            "ranges": ranges or [[0, 99]],
            "timeline_limit": timeline_limit,
            "required_state": required_state,
        }
        if filters is not None:
            config["filters"] = filters
        body = {"conn_id": self.conn_id, "lists": {"all": config}} | more
        reply = await self.posts(body, wait=wait, pos=pos or self.pos)
        self.pos = reply["pos"]
        return reply

    async def posts(
        self, body: Json, *, wait: float = 0, pos: str | None = None
    ) -> Json:
        """Ask with this body, staying in place."""
        query = {"timeout": str(int(wait * 1000))} | ({"pos": pos} if pos else {})
        return await self.person.call("POST", URL, body, query=query, seconds=60)


def one(reply: Json, room: str) -> Json:
    """The only room of a reply."""
    assert list(reply["rooms"]) == [room]
    section: Json = reply["rooms"][room]
    return section


def bodies(section: Json) -> list[str | None]:
    return [event["content"].get("body") for event in section["timeline"]]


def types(section: Json) -> list[str]:
    return sorted(event["type"] for event in section["required_state"])


def members(section: Json) -> dict[str, str]:
    """The members among the required state: user ID to membership."""
    return {
        event["state_key"]: event["content"]["membership"]
        for event in section["required_state"]
        if event["type"] == "m.room.member"
    }
