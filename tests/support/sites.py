"""Whole servers that federate, in one test process, over real TLS.

A site is one server: two processes' worth of app instances on one database, behind a
TCP proxy that takes turns between them, as a load balancer would.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation.wire.errors import NotReachable
from tests.support.app import Running, configuration, running
from tests.support.certificates import (
    CertificateAuthority,
    the_authority,
    the_ca_file,
)
from tests.support.client import Client
from tests.support.homeserver import HOST
from tests.support.peer import Peer

NewDsn = Callable[[], Awaitable[str]]


class Balancer:
    """Passes TCP connections on to one port after another."""

    def __init__(self) -> None:
        self.port = 0  # the first start finds a free one, which it keeps
        self.targets: list[int] = []
        self._turn = itertools.count()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def stop(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self.targets:
            writer.close()
            return
        target = self.targets[next(self._turn) % len(self.targets)]
        try:
            there, back = await asyncio.open_connection(HOST, target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._writers -= {writer, back}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


@dataclass
class Site:
    """One server of a federation. People log in at its processes in turn."""

    name: str
    dsn: str
    config: Any
    balancer: Balancer
    processes: list[Running] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _turn: Any = field(default_factory=itertools.count)

    async def start(self, processes: int = 2) -> None:
        """Start the processes, or start them again."""
        for _ in range(processes):
            process = await self._stack.enter_async_context(
                running(self.config, self.dsn)
            )
            self._obey(process)
            self.processes.append(process)
        self.balancer.targets = [p.server.addresses[1].port for p in self.processes]
        if not self.balancer.is_open:
            await self.balancer.start()

    def _obey(self, process: Running) -> None:
        """Let `unreachable` decide whom this process can reach."""
        wire = process.ctx.wire
        deliver = wire._deliver

        async def guarded(request: Any) -> Any:
            if request.destination in self.unreachable:
                raise NotReachable(request.destination, "the cable is cut")
            return await deliver(request)

        wire._deliver = guarded

    async def stop(self) -> None:
        """Stop everything; the database stays."""
        await self.balancer.stop()
        await self._stack.aclose()
        self.processes.clear()

    @property
    def ctx(self) -> Any:
        """The context of the first process."""
        return self.processes[0].ctx

    async def person(self, name: str) -> Client:
        """Somebody new, whose client talks to one of the processes."""
        process = self.processes[next(self._turn) % len(self.processes)]
        user = await process.registers(name)
        return Client(
            user.http,
            user.base_url,
            user.access_token,
            user_id=user.user_id,
            device_id=user.device_id,
        )

    async def back_again(self, person: Client) -> Client:
        """The same person at a process that runs now."""
        process = self.processes[next(self._turn) % len(self.processes)]
        return Client(
            lambda: process.session,
            process.base_url,
            person.access_token,
            user_id=person.user_id,
            device_id=person.device_id,
            seen=person.seen,
        )

    async def query(self, sql: str, *arguments: Any) -> list[Any]:
        async with self.ctx.db.read() as tx:
            return list(await tx.fetch(sql, *arguments))

    async def room(self, room_id: str) -> Any:
        """The room as the first process sees it, once it has caught up."""
        await self.ctx.live.follower.pull()
        return await self.ctx.live.room(room_id)

    async def state_ids(self, room_id: str) -> dict[tuple[str, str], str]:
        """The room's current state as event IDs."""
        room = await self.room(room_id)
        events = await self.ctx.live.events.by_nids(room.state.values())
        return {key: events[nid].event_id for key, nid in room.state.items()}


@dataclass
class World:
    """Makes sites that trust each other's certificates, and parts them."""

    directory: Path
    new_dsn: NewDsn
    authority: CertificateAuthority = field(default_factory=the_authority)
    sites: list[Site] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    async def site(
        self,
        processes: int = 2,
        *,
        allows: Sequence[str] = ("127.0.0.0/8", "::1/128"),
        **changes: Any,
    ) -> Site:
        """One more server, which asks others at the addresses that it allows."""
        balancer = Balancer()
        await balancer.start()
        directory = self.directory / f"site{len(self.sites)}"
        directory.mkdir()
        certificate, key = self.authority.issue(directory, "localhost", HOST)
        name = f"localhost:{balancer.port}"
        config = configuration(
            directory,
            server_name=name,
            listen=[
                {"bind": HOST, "port": 0, "serves": ["client"]},
                {
                    "bind": HOST,
                    "port": 0,
                    "serves": ["federation"],
                    "tls_certificate": str(certificate),
                    "tls_key": str(key),
                },
            ],
            federation={
                "ca_file": str(the_ca_file()),
                "allow_addresses": list(allows),
            },
            **changes,
        )
        site = Site(name, await self.new_dsn(), config, balancer)
        await site.start(processes)
        self.sites.append(site)
        return site

    async def peer(self) -> Peer:
        """A server that the test itself plays."""
        directory = self.directory / f"peer{len(self.peers)}"
        peer = Peer(self.authority, directory, the_ca_file())
        self.peers.append(peer)
        await peer.start()
        return peer

    def part(self, one: Site, other: Site) -> None:
        """Nothing passes between the two any more."""
        one.unreachable.add(other.name)
        other.unreachable.add(one.name)

    def heal(self) -> None:
        """Everybody reaches everybody, and does not wait to notice."""
        for site in self.sites:
            site.unreachable.clear()

    async def end(self) -> None:
        for peer in self.peers:
            await peer.stop()
        for site in reversed(self.sites):
            await site.stop()


@contextlib.asynccontextmanager
async def world(directory: Path, new_dsn: NewDsn) -> AsyncIterator[World]:
    made = World(directory, new_dsn)
    try:
        yield made
    finally:
        await made.end()


async def eventually(
    check: Callable[[], Awaitable[Any]], what: str, seconds: float = 20
) -> Any:
    """Wait until the check gives something true; that. Raises: AssertionError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = await check()
        if found:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.05)


async def agree(room_id: str, *sites: Site, seconds: float = 20) -> None:
    """Wait until all sites have one state of the room."""
    states: list[dict[tuple[str, str], str]] = []

    async def same() -> bool:
        states[:] = [await site.state_ids(room_id) for site in sites]
        return all(state == states[0] for state in states)

    try:
        await eventually(same, f"one state of {room_id}", seconds)
    except AssertionError:
        keys = {key for state in states for key, _ in state.items() ^ states[0].items()}
        found = {key: [state.get(key) for state in states] for key in sorted(keys)}
        raise AssertionError(f"the states of {room_id} differ: {found}") from None
