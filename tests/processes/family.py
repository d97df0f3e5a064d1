"""`hearth serve --processes N` as a test sees it."""

import asyncio
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from homeserver.demo.certificates import CertificateAuthority
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST, free_port


class Family(Hearth):
    """A parent, its processes, and the place where they tell what they count."""

    def __init__(
        self, directory: Path, authority: CertificateAuthority, *, database: str = ""
    ) -> None:
        self.processes = 2
        self.metrics_port = free_port()
        super().__init__(directory, authority, database=database)

    def argv(self) -> list[str]:
        return [*super().argv(), "--processes", str(self.processes)]

    def write_configuration(self) -> None:
        super().write_configuration()
        with self._config.open("a") as file:
            file.write(
                f'[[listen]]\nbind = "{HOST}"\nport = {self.metrics_port}\n'
                'serves = ["metrics"]\n'
            )

    def members(self) -> list[psutil.Process]:
        """The processes that serve."""
        children = psutil.Process(self.child.pid).children()
        return [c for c in children if c.is_running() and "homeserver" in _line(c)]

    def signals(self, number: signal.Signals) -> None:
        """Send the parent a signal."""
        psutil.Process(self.child.pid).send_signal(number)

    def says(self) -> str:
        """The log so far."""
        return self.child.log.read_text()

    async def until_it_says(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while self.says().count(text) < times:
                await asyncio.sleep(0.05)

    async def counts(self, name: str) -> dict[str, float]:
        """What each process counts under a name without labels of its own."""
        url = f"http://{HOST}:{self.metrics_port}/metrics"
        async with self.http.get(url) as reply:
            text = await reply.text()
        found = re.findall(rf'^{name}\{{process="(\d+)"\}} (\S+)$', text, re.MULTILINE)
        return {process: float(value) for process, value in found}


def _line(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return ()
