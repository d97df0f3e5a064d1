"""Several `hearth serve` that are one server, over one database."""

import asyncio
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import psutil

from tests.support.certificates import CertificateAuthority
from tests.support.child import resident_bytes
from tests.support.client import Client
from tests.support.hearth import Hearth

# Of one process: it idles at less than half of it.
MOST_RESIDENT: Final = 260 * 1024 * 1024
_TRACE: Final = re.compile(r"Traceback|Task exception was never retrieved")


class Fleet:
    """`size` processes; `self[n]` is one of them."""

    def __init__(
        self,
        directory: Path,
        size: int,
        database: str,
        keys: Mapping[str, str] = {},
        environment: Mapping[str, str] = {},
    ) -> None:
        authority = CertificateAuthority.create()
        self.processes: list[Hearth] = []
        self._turn = itertools.count()
        for n in range(size):
            one = Hearth(directory / f"process{n}", authority, database=database)
            if n:
                first = self.processes[0]
                one.name, one.shared_secret = first.name, first.shared_secret
                one.data = first.data
            one.keys.update(keys)
            one.child.environment.update(environment)
            self.processes.append(one)

    def __getitem__(self, number: int) -> Hearth:
        return self.processes[number]

    def __iter__(self) -> Iterator[Hearth]:
        return iter(self.processes)

    def up(self) -> Hearth:
        """A process that runs, each in its turn."""
        running = [one for one in self if one.child.is_running] or self.processes
        return running[next(self._turn) % len(running)]

    async def registers(self, localpart: str) -> Client:
        """Somebody new, at the process whose turn it is."""
        return await self.up().registers(localpart)

    def turns(self, client: Client) -> None:
        """Have the client speak with another process from now on."""
        there = self.up()
        client.base_url = there.base_url
        client.http = lambda: there.http

    def resident(self) -> list[int]:
        """Bytes of memory of each process that runs."""
        return [
            resident_bytes([psutil.Process(one.child.pid)])
            for one in self.processes
            if one.child.is_running
        ]

    def logs(self) -> str:
        """What all of them said."""
        return "".join(
            one.child.log.read_text(errors="replace")
            for one in self.processes
            if one.child.log.exists()
        )

    def assert_said(self, *sayings: str) -> None:
        """The logs tell what happened, and in words: no traces of surprises."""
        logs = self.logs()
        trace = _TRACE.search(logs)
        if trace is not None:
            around = logs[max(0, trace.start() - 1500) : trace.end() + 3000]
            raise AssertionError(f"a surprise in the log:\n{around}")
        for saying in sayings:
            assert saying in logs, f"{saying!r} is not in the logs:\n{logs[-6000:]}"

    async def __aenter__(self) -> Self:
        # The first makes the key and the tables.
        await self[0].start()
        await asyncio.gather(*(one.start() for one in self.processes[1:]))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(one.stop() for one in self.processes))
