"""Both sides of a partition go on; when it heals there is one room again."""

import asyncio
import os
import random

import pytest

from federation.ids import EventId, ServerName
from federation.wire import calls
from federation.wire.errors import RemoteError
from tests.support.client import Client, RefusedError
from tests.support.sites import Site, World, agree, eventually


async def room_of(alice: Client, *others: Client, **options: object) -> str:
    room = await alice.creates_room(preset="public_chat", **options)
    for other in others:
        await other.joins(room, via=alice)
    for other in others:
        for who in (alice, *others):
            await who.sees_member(room, other, "join")
    return room


async def gives_power(alice: Client, room: str, *users: Client) -> None:
    levels = await alice.state_of(room, "m.room.power_levels")
    users_now = {**levels.get("users", {}), **{u.user_id: 50 for u in users}}
    await alice.sets_state(room, "m.room.power_levels", {**levels, "users": users_now})
    for user in users:
        await user.sees_state(room, "m.room.power_levels", {"users": users_now})


@pytest.mark.parametrize("version", ["1", "6", "12"])
async def test_both_sides_go_on_and_heal_to_one_state(
    world: World,
    a: Site,
    b: Site,
    alice: Client,
    bob: Client,
    version: str,
) -> None:
    room = await room_of(alice, bob, room_version=version)
    await gives_power(alice, room, bob)
    world.part(a, b)
    for i in range(10):
        await alice.sends(room, f"alice alone {i}")
        await bob.sends(room, f"bob alone {i}")
    await alice.sets_state(room, "m.room.topic", {"topic": "alice's"})
    await bob.sets_state(room, "m.room.name", {"name": "bob's"})
    await bob.sets_state(room, "m.room.topic", {"topic": "bob's"})
    world.heal()
    await alice.sends(room, "alice is back")
    await bob.sends(room, "bob is back")
    await alice.sees(room, "bob is back", seconds=40)
    await bob.sees(room, "alice is back", seconds=40)
    for i in range(10):
        await alice.sees(room, f"bob alone {i}")
        await bob.sees(room, f"alice alone {i}")
    await agree(room, a, b)
    assert await alice.state_of(room, "m.room.name") == {"name": "bob's"}


@pytest.mark.parametrize("version", ["6", "12"])
async def test_a_ban_on_one_side_wins_over_what_was_done_on_the_other(
    world: World,
    a: Site,
    b: Site,
    c: Site,
    alice: Client,
    bob: Client,
    carol: Client,
    version: str,
) -> None:
    room = await room_of(alice, bob, carol, room_version=version)
    await gives_power(alice, room, bob)
    world.part(a, b)
    world.part(c, b)
    await alice.bans(room, bob)
    await bob.sets_state(room, "m.room.topic", {"topic": "bob was here"})
    await bob.sends(room, "nobody stops me")
    await alice.sends(room, "he is out")
    await carol.sees(room, "he is out")
    world.heal()
    await alice.sends(room, "healed")
    await bob.is_shown(room, "leave", seconds=40)
    await carol.sees(room, "healed")
    await agree(room, a, c)
    assert ("m.room.topic", "") not in await a.state_ids(room)
    await carol.syncs()
    assert "nobody stops me" not in carol.seen.room(room).bodies()


async def test_who_was_banned_can_check_that_although_it_missed_what_came_before(
    world: World,
    a: Site,
    b: Site,
    c: Site,
    alice: Client,
    bob: Client,
    carol: Client,
) -> None:
    room = await room_of(alice, bob, carol)
    world.part(a, b)
    world.part(c, b)
    await carol.sends(room, "bob will not get this")
    await alice.sees(room, "bob will not get this")
    await alice.bans(room, bob)
    # Only a reaches b again. The ban rests on what carol said, and a has to say what
    # that was, although b is not in the room any more.
    a.unreachable.clear()
    b.unreachable.discard(a.name)
    await bob.is_shown(room, "leave", seconds=40)
    after = await alice.sends(room, "bob will not get this either")
    await carol.sees_id(room, after)
    with pytest.raises(RemoteError) as refused:
        await calls.get_event(b.ctx.wire, ServerName(a.name), EventId(after))
    assert refused.value.status == 404


async def test_three_servers_each_alone(
    world: World,
    a: Site,
    b: Site,
    c: Site,
    alice: Client,
    bob: Client,
    carol: Client,
) -> None:
    room = await room_of(alice, bob, carol)
    await gives_power(alice, room, bob, carol)
    for one, other in ((a, b), (b, c), (c, a)):
        world.part(one, other)
    for who in (alice, bob, carol):
        for i in range(5):
            await who.sends(room, f"{who.user_id} {i}")
        await who.sets_state(room, "m.room.topic", {"topic": who.user_id})
    world.heal()
    people = (alice, bob, carol)
    for who in people:
        await who.sends(room, f"{who.user_id} is back")
    for who in people:
        for other in people:
            await who.sees(room, f"{other.user_id} is back", seconds=40)
            for i in range(5):
                await who.sees(room, f"{other.user_id} {i}")
    await agree(room, a, b, c)


class Chaos:
    """Random people who do random things on servers that are randomly parted."""

    def __init__(
        self, seed: int, world: World, room: str, people: list[Client]
    ) -> None:
        self.random = random.Random(seed)
        self.world = world
        self.room = room
        self.people = people

    async def does_something(self) -> None:
        who = self.random.choice(self.people)
        other = self.random.choice(self.people)
        deeds = ["say", "say", "say", "topic", "name", "join", "leave", "part"]
        if who is self.people[0]:
            # Only one moderates: where two ban each other on two sides, each side keeps
            # to its own view for ever, by the rules of soft failure.
            deeds += ["kicks", "bans", "unbans", "power"] * 2
        deed = self.random.choice(deeds)
        try:
            await self._does(deed, who, other)
        except RefusedError as refused:
            if refused.status not in (400, 403, 404, 502):
                raise

    async def _does(self, deed: str, who: Client, other: Client) -> None:
        room, number = self.room, self.random.randrange(1000)
        match deed:
            case "say":
                await who.sends(room, f"{number}")
            case "topic":
                await who.sets_state(room, "m.room.topic", {"topic": f"{number}"})
            case "name":
                await who.sets_state(room, "m.room.name", {"name": f"{number}"})
            case "join":
                await who.joins(room, via=other)
            case "leave" if who is not self.people[0]:
                await who.leaves(room)
            case "kicks" | "bans" | "unbans" if other is not who:
                await getattr(who, deed)(room, other)
            case "power" if other is not who:
                await who.sets_power(room, other, self.random.choice([0, 50]))
            case "part":
                if self.random.random() < 0.6:
                    self.world.part(*self.random.sample(self.world.sites, 2))
                else:
                    self.world.heal()


# More for a longer look: HEARTH_SEEDS=100 pytest tests/federated -k random
SEEDS = int(os.environ.get("HEARTH_SEEDS", "4"))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_random_deeds_end_in_one_state(
    world: World, seed: int, a: Site, b: Site, c: Site
) -> None:
    sites = [a, b, c]
    version = ["6", "9", "11", "12"][seed % 4]
    people = [await site.person(f"p{i}") for i, site in enumerate(sites)]
    first, *rest = people
    room = await room_of(first, *rest, room_version=version)
    await gives_power(first, room, *rest)
    chaos = Chaos(seed, world, room, people)
    for _ in range(40):
        await chaos.does_something()
    world.heal()

    report: list[object] = []

    async def settled() -> bool:
        """Everybody who is in the room says something; then all must agree."""
        report.clear()
        inside = []
        for person, site in zip(people, sites, strict=True):
            if (await site.room(room)).is_joined(person.user_id):
                inside.append((person, site))
                try:
                    await person.sends(room, "still here")
                except RefusedError as refused:
                    report.append(refused)
        await asyncio.sleep(0.5)
        states = [await site.state_ids(room) for _, site in inside]
        report.extend(set(state.items()) ^ set(states[0].items()) for state in states)
        for person, site in zip(people, sites, strict=True):
            for _, other in inside:
                here = (await site.room(room)).is_joined(person.user_id)
                there = (await other.room(room)).is_joined(person.user_id)
                report.append(set() if here == there else f"{person.user_id}: {here}")
        return all(difference == set() for difference in report)

    try:
        await eventually(settled, "one state", seconds=30)
    except AssertionError as error:
        error.add_note(f"people: {[p.user_id for p in people]}; {report}")
        raise
