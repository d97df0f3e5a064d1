"""What the identical processes of one machine count, told at one place.

Whichever process Prometheus reaches asks the others, each at a Unix socket of its own,
and answers for all: every series has the label `process`, so that counters go up and a
process that hangs or was restarted can be seen. `hearth_process_up` is 0 for one that
did not answer in time.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import structlog
from prometheus_client import generate_latest

_SECONDS: Final = 2.0
_MOST_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 8  # who ask
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (.*)")
_UP: Final = "hearth_process_up"

log = structlog.get_logger(__name__)


class Siblings:
    """The processes that share our listeners; `async with` answers them.

    `number` is ours, from 1; `paths` are the sockets of all, ours among them, and
    `descriptor` is ours, which listens. Alone: only what this process counts.
    """

    def __init__(
        self, number: int = 1, paths: Sequence[str] = (), descriptor: int = -1
    ) -> None:
        self._number = number
        self._paths = paths
        self._descriptor = descriptor
        self._server: asyncio.Server | None = None
        self._asking = 0

    async def __aenter__(self) -> Self:
        if self._paths:
            self._server = await asyncio.start_unix_server(
                self._tell, sock=socket.socket(fileno=self._descriptor)
            )
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _tell(
        self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._asking += 1
        try:
            if self._asking <= _AT_ONCE:
                writer.write(generate_latest())
                async with asyncio.timeout(_SECONDS):
                    await writer.drain()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._asking -= 1
            writer.close()

    async def counts(self) -> bytes:
        """All that is counted, in Prometheus' text format."""
        if not self._paths:
            return generate_latest()
        asked: list[Awaitable[bytes]] = [
            _ask(path)
            for number, path in enumerate(self._paths, 1)
            if number != self._number
        ]
        told = await asyncio.gather(*asked)
        told.insert(self._number - 1, generate_latest())
        texts = {str(n): text.decode() for n, text in enumerate(told, 1)}
        # A large text, and others wait for the loop.
        return (await asyncio.to_thread(merge, texts)).encode()


async def _ask(path: str) -> bytes:
    """What the process at that socket counts; nothing when it does not say."""
    writer = None
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            text = bytearray()
            while piece := await reader.read(65_536):
                text += piece
                if len(text) > _MOST_BYTES:
                    return b""
            return bytes(text)
    except (OSError, TimeoutError) as error:
        log.warning("a process does not say what it counts", reason=repr(error))
        return b""
    finally:
        if writer is not None:
            writer.close()


def merge(texts: Mapping[str, str]) -> str:
    """The texts of several processes as one, each sample with its `process`."""
    heads: dict[str, list[str]] = {}  # of each family: its HELP and TYPE lines
    samples: dict[str, list[str]] = {}
    for process, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith("#"):
                family = _family(line) or family
                known = heads.setdefault(family, [])
                if line not in known:
                    known.append(line)
            elif parts := _SAMPLE.fullmatch(line):
                name, labels, value = parts.groups()
                label = f'process="{process}"'
                labels = f"{label},{labels}" if labels else label
                samples.setdefault(family, []).append(f"{name}{{{labels}}} {value}")
    heads[_UP] = [f"# HELP {_UP} Whether the process says what it counts."]
    heads[_UP].append(f"# TYPE {_UP} gauge")
    samples[_UP] = [
        f'{_UP}{{process="{process}"}} {int(bool(text))}'
        for process, text in texts.items()
    ]
    lines: list[str] = []
    for family, head in heads.items():
        lines += [*head, *samples.get(family, ())]
    return "\n".join(lines) + "\n"


def _family(comment: str) -> str:
    words = comment.split(maxsplit=3)
    is_head = len(words) > 2 and words[1] in ("HELP", "TYPE")
    return words[2] if is_head else ""
