"""Who plays, on which servers, in rooms of which version."""

import itertools
from dataclasses import dataclass

from federation.room_versions import RoomVersion
from tests.support.client import Client
from tests.support.homeserver import Homeserver

# 3 is here for its event IDs: they may hold a slash.
VERSIONS = ("1", "3", "6", "10", "11", "12")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Stage:
    """Two servers and a room version: rooms are made on `host`, `guest` comes in."""

    host: Homeserver
    guest: Homeserver
    version: RoomVersion

    async def people(self) -> tuple[Client, Client]:
        """Alice of the host and Bob of the guest, new users both."""
        return await self.another_host(), await self.another_guest()

    async def another_host(self) -> Client:
        return await self.host.registers(f"alice{next(_numbers)}")

    async def another_guest(self) -> Client:
        return await self.guest.registers(f"bob{next(_numbers)}")

    async def open_room(self, alice: Client, **options: object) -> str:
        return await alice.creates_room(
            **{"preset": "public_chat", "room_version": self.version.identifier}
            | options
        )
