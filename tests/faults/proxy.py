"""A wire from server to database that can be cut, slowed, and led elsewhere."""

import asyncio
import contextlib
import random
from typing import Final, Self

from tests.support.homeserver import HOST

_PIECE: Final = 64 * 1024


class Wire:
    """Listens on a port of its own and hands everything on to `target`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay_s = 0.0  # of everything that the database says
        self.made = 0  # connections so far
        self._flows = asyncio.Event()
        self._flows.set()
        self._pairs: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut(1.0)
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut(self, share: float) -> int:
        """Cut this share of the connections; how many that were."""
        writers = list(self._pairs.values())
        many = min(len(writers), max(1, round(len(writers) * share)))
        chosen = random.sample(writers, many)
        for writer in chosen:
            writer.transport.abort()
        return len(chosen)

    def stall(self) -> None:
        """Swallow everything without a word, as when a machine or a switch is gone."""
        self._flows.clear()

    def flow(self) -> None:
        """Go on."""
        self._flows.set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs[task] = writer
        self.made += 1
        try:
            await self._flows.wait()
            there, back = await asyncio.open_connection(HOST, self.target)
            try:
                _, pending = await asyncio.wait(
                    [
                        asyncio.create_task(self._pump(reader, back, slow=False)),
                        asyncio.create_task(self._pump(there, writer, slow=True)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for pump in pending:
                    pump.cancel()
                await asyncio.wait(pending) if pending else None
            finally:
                back.close()
        except OSError:
            pass  # nobody is there: the connection ends
        finally:
            del self._pairs[task]
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                if slow and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
