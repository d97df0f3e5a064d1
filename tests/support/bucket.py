"""A real S3 store in a thread, and somebody in between who can spoil things."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
from aiohttp import web
from moto.server import ThreadedMotoServer
from yarl import URL

BUCKET = "hearth-files"
# moto looks no closer at who asks, but wants to see that somebody does.
SOMEBODY = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"
}

logging.getLogger("werkzeug").setLevel(logging.WARNING)


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a store with no buckets."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@dataclass
class Bucket:
    """One bucket of the store, seen past whoever uses it."""

    endpoint: str
    session: aiohttp.ClientSession
    name: str = BUCKET

    def section(self, **more: Any) -> dict[str, Any]:
        """The section [s3]."""
        return {
            "bucket": self.name,
            "endpoint": self.endpoint,
            "access_key": "key",
            "secret_key": "secret",
        } | more

    async def _ask(self, method: str, target: str = "") -> bytes:
        url = URL(f"{self.endpoint}/{self.name}{target}", encoded=True)
        async with self.session.request(method, url) as reply:
            assert reply.status < 300, (reply.status, await reply.text())
            return await reply.read()

    async def make(self) -> None:
        await self._ask("PUT")

    async def _listed(self, target: str, what: str) -> set[str]:
        document = ET.fromstring(await self._ask("GET", target))
        found = document.iter()
        return {
            str(child.text)
            for each in found
            if each.tag.rpartition("}")[2] == what
            for child in each
            if child.tag.endswith("Key")
        }

    async def keys(self) -> set[str]:
        return await self._listed("?list-type=2", "Contents")

    async def uploads(self) -> set[str]:
        """The keys of uploads that are not completed."""
        return await self._listed("?uploads", "Upload")

    async def files(self) -> list[bytes]:
        return [await self._ask("GET", f"/{key}") for key in sorted(await self.keys())]

    async def put(self, key: str, data: bytes) -> None:
        async with self.session.put(
            f"{self.endpoint}/{self.name}/{key}", data=data
        ) as reply:
            assert reply.status == 200


@asynccontextmanager
async def bucket_at(endpoint: str, name: str = BUCKET) -> AsyncIterator[Bucket]:
    async with aiohttp.ClientSession(headers=SOMEBODY) as session:
        bucket = Bucket(endpoint, session, name)
        await bucket.make()
        yield bucket


@dataclass
class Between:
    """Passes requests on to a store, but for those that it is told to spoil.

    `spoil` holds, for coming requests of a method: a status to answer, or how many
    bytes of the answer to let through before the connection is cut.
    """

    store: str
    address: str = ""
    spoil: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    # When set, requests of this method wait until it is cleared.
    held: asyncio.Event | None = None
    held_method: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs))
        body = await request.read()
        if self.held is not None and request.method == self.held_method:
            await self.held.wait()
        how, number = "", 0
        if self.spoil.get(request.method):
            how, number = self.spoil[request.method].pop(0)
        if how == "status":
            return web.Response(status=number, text="spoiled")
        skipped = ("host", "content-length", "transfer-encoding")
        headers = {k: v for k, v in request.headers.items() if k.lower() not in skipped}
        url = URL(self.store + str(request.rel_url), encoded=True)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, data=body, headers=headers) as reply,
        ):
            data = await reply.read()
            kept = {
                k: v
                for k, v in reply.headers.items()
                if k.lower() not in ("transfer-encoding", "connection")
            }
            if how != "cut":
                if request.method != "HEAD":
                    kept["Content-Length"] = str(len(data))
                return web.Response(status=reply.status, body=data, headers=kept)
        answer = web.StreamResponse(status=reply.status, headers=kept)
        answer.content_length = len(data)
        await answer.prepare(request)
        await answer.write(data[:number])
        assert request.transport is not None
        request.transport.close()
        return answer


@asynccontextmanager
async def between(
    store: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Between]:
    who = Between(store)
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", who.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme = "http" if tls is None else "https"
    who.address = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield who
    finally:
        await runner.cleanup()
