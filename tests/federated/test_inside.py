"""A hostile server would have ours ask what stands behind our firewall.

Here 127.0.0.1 is outside, as the one address that is allowed, and 127.0.0.2 inside.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from federation.wire.dns import Addresses
from tests.federated.test_media import DOWNLOAD, parts
from tests.support.client import Client, RefusedError
from tests.support.liars import LyingRoom
from tests.support.media import downloads
from tests.support.peer import Peer, answering
from tests.support.sites import Site, World

OUTSIDE, INSIDE = "127.0.0.1", "127.0.0.2"


@contextlib.asynccontextmanager
async def listening_inside(port: int) -> AsyncIterator[list[str]]:
    """A service that nobody is to reach; who did all the same."""
    reached: list[str] = []

    def noted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(noted, INSIDE, port)
    try:
        yield reached
    finally:
        server.close()
        await server.wait_closed()


async def careful(world: World) -> tuple[Site, Client]:
    site = await world.site(1, allows=[f"{OUTSIDE}/32"])
    return site, await site.person("person")


async def test_files_that_are_said_to_lie_inside(world: World, peer: Peer) -> None:
    _, person = await careful(world)

    def to(location: str) -> web.Response:
        return parts(b"\r\n{}", f"Location: {location}\r\n\r\n".encode())

    def away(location: str) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    async with listening_inside(peer.port) as reached:
        inside = f"https://{INSIDE}:{peer.port}/secret"
        mapped = f"https://[::ffff:{INSIDE}]:{peer.port}/secret"
        elsewhere = f"https://{peer.name}/_matrix/federation/elsewhere"
        for n, location in enumerate((inside, mapped, elsewhere)):
            with (
                answering(peer, DOWNLOAD, lambda _, to_=location: to(to_)),
                answering(peer, "elsewhere", lambda _: away(inside)),
            ):
                got = await downloads(person, f"{peer.name}/hidden{n}")
            assert got.status in (404, 502), location
        assert reached == []


async def test_a_name_that_leads_inside_the_second_time(
    world: World, peer: Peer
) -> None:
    site, person = await careful(world)
    wire = site.ctx.wire
    looked_up: list[str] = []
    to = OUTSIDE

    async def rebinding(host: str) -> Addresses:
        looked_up.append(host)
        return Addresses((ipaddress.ip_address(to),), 0)

    wire._resolver.addresses = rebinding
    lies = LyingRoom(peer)
    await person.joins(lies.room_id, via=peer.name)
    assert looked_up
    async with listening_inside(peer.port) as reached:
        to = INSIDE
        wire.discovery.forget(peer.name)
        with answering(peer, DOWNLOAD, lambda _: parts(b"\r\n{}", b"\r\nit")):
            assert (await downloads(person, f"{peer.name}/file")).status in (404, 502)
        other = await site.person("other")
        with pytest.raises(RefusedError) as refused:
            await other.joins(f"!elsewhere:{peer.name}", via=peer.name)
        assert refused.value.status in (404, 502)
        assert reached == []
    # And outside again it is the server that it was.
    to = OUTSIDE
    wire.discovery.forget(peer.name)
    wire.backoff.sign_of_life(peer.name)
    with answering(peer, DOWNLOAD, lambda _: parts(b"\r\n{}", b"\r\nit")):
        assert (await downloads(person, f"{peer.name}/another")).body == b"it"
