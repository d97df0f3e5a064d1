"""Our server and a real Synapse, both as processes, federating over TLS.

`make interop` sets HEARTH_INTEROP=1; without it these tests are skipped, for they
install Synapse. HEARTH_INTEROP_OURS=synapse puts a second Synapse in our place: what
fails then is the test's fault.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from federation.room_versions import ROOM_VERSIONS
from tests.interop.stage import VERSIONS, Stage
from tests.support.certificates import CertificateAuthority
from tests.support.hearth import Hearth
from tests.support.homeserver import Homeserver
from tests.support.javascript import Person
from tests.support.synapse import Synapse

# A new device of a user: the server, the user's name, the device's.
LogIn = Callable[[Homeserver, str, str], Awaitable[Person]]


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


@pytest.fixture(scope="session")
async def second(
    ours: Homeserver,
    authority: CertificateAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Homeserver]:
    async with Hearth(tmp_path_factory.mktemp("second"), authority) as server:
        yield server


@pytest.fixture(scope="session")
def overruled() -> dict[str, str]:
    """By room: who did there what another server may only soft-fail."""
    return {}


@pytest.fixture(params=["ours", "synapse"])
def other(
    request: pytest.FixtureRequest, second: Homeserver, peer: Synapse
) -> Homeserver:
    return second if request.param == "ours" else peer


@pytest.fixture
async def log_in() -> AsyncIterator[LogIn]:
    async with AsyncExitStack() as stack:

        async def one(server: Homeserver, user: str, device: str) -> Person:
            person = await Person.logs_in(server, user, device)
            stack.push_async_callback(person.quits)
            return person

        yield one


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
