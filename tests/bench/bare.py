"""As little as a server can do that keeps what it is sent: the limit for ours.

Bare aiohttp reads a request's body; everything that has come is written to PostgreSQL
by one statement and one durable commit, and then all are answered.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final, Self

import aiohttp
import asyncpg
import uvloop
from aiohttp import web

from tests.support.child import Child
from tests.support.homeserver import HOST, free_port, repository

_ANSWER: Final = b'{"event_id":"$00000000000000000000000000000000000000000000"}'
_START_SECONDS: Final = 20


async def serve(dsn: str, port: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept (id bigserial PRIMARY KEY, data bytea)")
    waiting: list[tuple[bytes, asyncio.Future[None]]] = []
    woken = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append((await request.read(), kept))
        woken.set()
        await kept
        return web.Response(body=_ANSWER, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    while True:
        await woken.wait()
        woken.clear()
        taken, waiting[:] = waiting[:], []
        await connection.execute(
            "INSERT INTO kept (data) SELECT unnest($1::bytea[])", [d for d, _ in taken]
        )
        for _, kept in taken:
            kept.set_result(None)


class Bare:
    """The process; `base_url` is where it listens."""

    def __init__(self, dsn: str, log: Path) -> None:
        port = free_port()
        self.base_url = f"http://{HOST}:{port}"
        argv = [sys.executable, "-m", "tests.bench.bare", dsn, str(port)]
        self._child = Child(argv, log=log, cwd=repository())

    async def __aenter__(self) -> Self:
        self._child.start()
        async with aiohttp.ClientSession() as session, asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    async with session.put(self.base_url, data=b"{}") as reply:
                        assert reply.status == 200
                        return self
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        await self._child.stop()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
