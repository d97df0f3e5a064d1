"""What a parent hands over to each of its identical processes, and how they talk.

The process writes one byte when it serves; the end of the line tells it that the parent
is gone. Everything else is inherited: the listening sockets, and a Unix socket for each
process at which the others ask what it counts.
"""

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

_VARIABLE: Final = "HEARTH_SLOT"
_READY: Final = b"+"


@dataclass(frozen=True, slots=True)
class Slot:
    """One process's place. Descriptors are open in it from its start."""

    number: int  # from 1
    dsn: str  # empty: the configuration's
    config: str  # the file; empty: none
    listening: tuple[tuple[int, ...], ...]  # by the configuration's [[listen]]
    counts: tuple[str, ...]  # paths of the sockets at which all tell what they count
    telling: int  # its own of these
    line: int  # to the parent

    @property
    def environment(self) -> Mapping[str, str]:
        """What to start the process with."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What it inherits."""
        return (
            *(descriptor for each in self.listening for descriptor in each),
            self.telling,
            self.line,
        )

    @property
    def file(self) -> Path | None:
        """The configuration's file."""
        return Path(self.config) if self.config else None

    @classmethod
    def ours(cls) -> Self | None:
        """The place that this process was started for; asked for once."""
        text = os.environ.pop(_VARIABLE, None)
        if text is None:
            return None
        told = json.loads(text)
        told["listening"] = tuple(map(tuple, told["listening"]))
        told["counts"] = tuple(told["counts"])
        slot = cls(**told)
        for descriptor in slot.descriptors:
            os.set_inheritable(descriptor, False)
        return slot


class ToParent:
    """The process's end of the line."""

    def __init__(self, slot: Slot) -> None:
        self._socket = socket.socket(fileno=slot.line)
        self._socket.setblocking(False)

    def say_ready(self) -> None:
        """Say that this process serves."""
        self._socket.send(_READY)

    async def until_gone(self) -> None:
        """Wait until the parent is no more."""
        while await asyncio.get_running_loop().sock_recv(self._socket, 16):
            pass


async def is_ready(line: socket.socket) -> bool:
    """Wait until the process at the other end serves; False: it will not."""
    return await asyncio.get_running_loop().sock_recv(line, 1) == _READY
