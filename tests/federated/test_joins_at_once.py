"""Several servers come into a room at the same moment, none knowing of the others."""

import asyncio
from typing import Any

from tests.support.client import Client
from tests.support.sites import Site, World, agree


def hold_send_join(site: Site, meeting: asyncio.Barrier) -> None:
    """Let the site hand in a join only when all have their templates."""
    for process in site.processes:
        wire: Any = process.ctx.wire
        deliver = wire._deliver

        async def held(request: Any, deliver: Any = deliver) -> Any:
            if "/send_join/" in request.target:
                await meeting.wait()
            return await deliver(request)

        wire._deliver = held


async def test_servers_that_join_at_once_learn_of_each_other(
    world: World, a: Site, alice: Client
) -> None:
    others = [await world.site(1) for _ in range(4)]
    people = [await site.person(f"guest{n}") for n, site in enumerate(others)]
    room = await alice.creates_room(
        preset="private_chat", invite=[person.user_id for person in people]
    )
    await alice.syncs()
    meeting = asyncio.Barrier(len(others))
    for site in others:
        hold_send_join(site, meeting)

    async def follow() -> None:
        came: set[str] = set()
        while len(came) < len(people):
            await alice.syncs(wait=5)
            timeline = alice.seen.room(room).timeline
            came = {e["sender"] for e in timeline} - {alice.user_id}

    async with asyncio.timeout(30):
        await asyncio.gather(
            follow(), *(person.joins(room, via=alice) for person in people)
        )
    await agree(room, a, *others)
    # Each branch of the history begins without the others' joins: a client that
    # follows must not take that for news.
    for reader in (alice, *people):
        for person in people:
            await reader.sees_member(room, person, "join")
        await reader.syncs()
        shown = reader.seen.room(room)
        assert {shown.member(person.user_id) for person in people} == {"join"}
