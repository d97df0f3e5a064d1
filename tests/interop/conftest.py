"""Our server and a real Synapse, both as processes, federating over TLS.

`make interop` sets HEARTH_INTEROP=1; without it these tests are skipped, for they
install Synapse. HEARTH_INTEROP_OURS=synapse puts a second Synapse in our place: what
fails then is the test's fault.
"""

import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from federation.room_versions import ROOM_VERSIONS, RoomVersion
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.homeserver import Homeserver
from tests.support.synapse import Synapse

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


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create()


@pytest.fixture(scope="session")
async def ours(
    authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Homeserver]:
    if not os.environ.get("HEARTH_INTEROP"):
        pytest.skip("HEARTH_INTEROP is not set: `make interop` runs these")
    kind = {"synapse": Synapse, "": Hearth}[os.environ.get("HEARTH_INTEROP_OURS", "")]
    async with kind(tmp_path_factory.mktemp("ours"), authority) as server:
        yield server
        keep_log(server)


@pytest.fixture(scope="session")
async def peer(
    ours: Homeserver,
    authority: CertificateAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Synapse]:
    async with Synapse(tmp_path_factory.mktemp("peer"), authority) as server:
        yield server
        keep_log(server)


def keep_log(server: Homeserver) -> None:
    """Copy a server's log to where a person finds it after a failure."""
    folder = Path(".work") / "interop"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{server.name}-{server.kind}.log").write_bytes(
        server.child.log.read_bytes()
    )


@pytest.fixture(params=["we host", "synapse hosts"])
def servers(
    request: pytest.FixtureRequest, ours: Homeserver, peer: Synapse
) -> tuple[Homeserver, Homeserver]:
    """The server that makes the room, and the one that comes in."""
    return (ours, peer) if request.param == "we host" else (peer, ours)


@pytest.fixture(params=VERSIONS)
def stage(
    request: pytest.FixtureRequest, servers: tuple[Homeserver, Homeserver]
) -> Stage:
    return Stage(*servers, ROOM_VERSIONS[request.param])


@pytest.fixture
def newest(servers: tuple[Homeserver, Homeserver]) -> Stage:
    """For what does not depend on the room version."""
    return Stage(*servers, ROOM_VERSIONS["12"])
