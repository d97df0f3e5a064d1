"""The story that every recorded room tells, in acts.

Alice and her friends live on server A, Bob and his on server B. Between acts the
recorder cuts the connection: an act with `_on_a` and `_on_b` is played on each server
while the other is down, so that the room forks there and has to be resolved.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from federation.room_versions import RoomVersion
from tests.pure.recorded.third_party import IdentityServer
from tests.support.api import path
from tests.support.client import Client

Act = Callable[["Cast"], Awaitable[None]]


@dataclass
class Cast:
    """Who plays, in which room. `a` and `b` are users by name."""

    version: RoomVersion
    a: dict[str, Client]
    b: dict[str, Client]
    identity: IdentityServer
    room: str = ""
    space: str = ""

    @property
    def alice(self) -> Client:
        return self.a["alice"]

    @property
    def bob(self) -> Client:
        return self.b["bob"]


async def opening(cast: Cast) -> None:
    """Everybody comes in; profiles, comings and goings; all with both servers up."""
    alice, bob = cast.alice, cast.bob
    options: dict[str, Any] = {
        "preset": "public_chat",
        "room_version": cast.version.identifier,
        "name": f"Version {cast.version}",
        "topic": "the first topic",
        "power_level_content_override": {"users": {alice.user_id: 100}},
    }
    if cast.version.privileged_creators:
        options["creation_content"] = {"additional_creators": [bob.user_id]}
        options["power_level_content_override"] = {}
    cast.room = await alice.creates_room(**options)
    for name in ("anna", "carl"):
        await cast.a[name].joins(cast.room)
    for name in ("bob", "bella", "dave"):
        await cast.b[name].joins(cast.room, via=alice)
    await _gives_power(cast)
    await _sends_odd_events(cast)
    await _comes_and_goes(cast)
    await _redacts(cast)


async def _gives_power(cast: Cast) -> None:
    levels = await cast.alice.state_of(cast.room, "m.room.power_levels")
    levels["users"] |= {cast.b["bella"].user_id: 60}
    if not cast.version.privileged_creators:
        levels["users"] |= {cast.bob.user_id: 90}
    # Bob may change power levels, up to his own.
    levels["events"] |= {"m.room.power_levels": 80, "org.example.free": 0}
    levels["notifications"] = {"room": 50}
    await cast.alice.sets_state(cast.room, "m.room.power_levels", levels)
    await _all_see_state(cast, "m.room.power_levels", levels)


async def _all_see_state(cast: Cast, kind: str, content: dict[str, Any]) -> None:
    await cast.bob.sees_state(cast.room, kind, content)


async def _sends_odd_events(cast: Cast) -> None:
    alice, bob, room = cast.alice, cast.bob, cast.room
    await alice.sends(room, "plain")
    await bob.sends(room, 'Grüße, 世界 \U0001f680 \u2028 \x7f \\ " / \b')
    odd = {"msgtype": "m.text", "body": "nul \0 and <&>", "n": -0, "big": 2**53 - 1}
    await alice.sends_event(room, "org.example.odd", odd)
    nested: Any = "deep"
    for _ in range(30):
        nested = [{"": nested}]
    await bob.sends_event(room, "org.example.nested", {"nested": nested})
    await bob.sends_event(room, "org.example.empty", {})
    if not cast.version.strict_canonical_json:
        numbers = {"float": 1.5, "tiny": 1e-7, "big": 2**60, "exp": 1e30}
        await alice.sends_event(room, "org.example.numbers", numbers)
    await alice.sets_state(room, "org.example.free", {"v": 1}, "a key")
    await bob.sets_state(room, "org.example.free", {"v": 2}, bob.user_id)
    if cast.version.special_aliases:
        for who in (alice, bob):
            alias = f"#v{cast.version}:{who.server_name}"
            await who.sets_alias(room, alias)
            aliases = {"aliases": [alias]}
            await who.sets_state(room, "m.room.aliases", aliases, who.server_name)
    last = await bob.sends(room, "seen everything?")
    await alice.sees_id(room, last)


async def _comes_and_goes(cast: Cast) -> None:
    alice, bob, room = cast.alice, cast.bob, cast.room
    anna, carl, dave = cast.a["anna"], cast.a["carl"], cast.b["dave"]
    await anna.sets_state(
        room,
        "m.room.member",
        {"membership": "join", "displayname": "Anna of the hill"},
        anna.user_id,
    )
    await carl.leaves(room)
    await alice.invites(room, carl)
    await carl.leaves(room)  # refuses
    await alice.invites(room, carl)
    await carl.joins(room)
    await dave.sends(room, "something rude")
    await alice.sees(room, "something rude")
    await alice.kicks(room, dave, "rude")
    await bob.sees_member(room, dave, "leave")
    await alice.bans(room, dave)
    await bob.sees_member(room, dave, "ban")
    await bob.unbans(room, dave)
    await alice.sees_member(room, dave, "leave")
    await alice.invites(room, dave)
    await dave.is_shown(room, "invite")
    await _hears_of_invite(cast)
    await dave.leaves(room)  # refuses, over federation
    await alice.sees_member(room, dave, "leave")
    await dave.joins(room, via=alice)
    await alice.sees_member(room, dave, "join")


async def _hears_of_invite(cast: Cast) -> None:
    # Synapse hands an invite only to the invited user; his server learns that it is
    # part of the room's history from what comes after it.
    said = await cast.alice.sends(cast.room, "we expect somebody")
    await cast.bob.sees_id(cast.room, said)


async def _redacts(cast: Cast) -> None:
    alice, bob, room = cast.alice, cast.bob, cast.room
    mine = await alice.sends(room, "oops")
    await alice.redacts(room, mine, "typing error")
    theirs = await bob.sends(room, "spam")
    await alice.sees(room, "spam")
    await alice.redacts(room, theirs)
    topic = await alice.sets_state(room, "m.room.topic", {"topic": "to be redacted"})
    await alice.redacts(room, topic)
    await bob.sees_state(room, "m.room.topic", {})
    await alice.sets_state(room, "m.room.topic", {"topic": "the second topic"})
    await bob.sees_state(room, "m.room.topic", {"topic": "the second topic"})


async def at_once(cast: Cast) -> None:
    """Both servers write at the same moment, connected."""
    await asyncio.gather(
        *(
            who.sets_state(cast.room, "m.room.topic", {"topic": f"{who.user_id} {n}"})
            for n in range(3)
            for who in (cast.alice, cast.bob)
        ),
        *(
            who.sends(cast.room, f"{who.user_id} at once")
            for who in (cast.a["anna"], cast.a["carl"], cast.b["dave"], cast.b["bella"])
        ),
    )


async def doors(cast: Cast) -> None:
    """Every join rule that the version knows, and a third-party invite."""
    await _third_party_invite(cast)
    if cast.version.knock:
        await _knocks(cast, {"join_rule": "knock"})
    if cast.version.restricted_joins:
        cast.space = await cast.alice.creates_room(
            preset="public_chat",
            room_version=cast.version.identifier,
            creation_content={"type": "m.space"},
        )
        allow = [{"type": "m.room_membership", "room_id": cast.space}]
        await _restricted(cast, {"join_rule": "restricted", "allow": allow})
        if cast.version.knock_restricted:
            rule = {"join_rule": "knock_restricted", "allow": allow}
            await _knocks(cast, rule)
            await _restricted(cast, rule)
    await cast.alice.sets_state(cast.room, "m.room.join_rules", {"join_rule": "public"})
    await cast.bob.sees_state(cast.room, "m.room.join_rules", {"join_rule": "public"})


async def _third_party_invite(cast: Cast) -> None:
    newcomer = cast.b["mallory"]
    token = f"token{cast.version}"
    content = cast.identity.invite_content("m...@example.org")
    await cast.alice.sets_state(cast.room, "m.room.third_party_invite", content, token)
    await cast.bob.sees_state(cast.room, "m.room.third_party_invite", content, token)
    await cast.identity.exchanges_invite(
        cast.room, cast.alice, newcomer, token, cast.version.identifier
    )
    await newcomer.is_shown(cast.room, "invite")
    await _hears_of_invite(cast)
    await newcomer.joins(cast.room, via=cast.alice)
    await cast.alice.sees_member(cast.room, newcomer, "join")


async def _knocks(cast: Cast, rule: dict[str, Any]) -> None:
    alice, bob, dave, room = cast.alice, cast.bob, cast.b["dave"], cast.room
    await alice.sets_state(room, "m.room.join_rules", rule)
    await bob.sees_state(room, "m.room.join_rules", rule)
    await dave.leaves(room)
    await alice.sees_member(room, dave, "leave")
    await dave.knocks(room, via=alice)
    await alice.sees_member(room, dave, "knock")
    await alice.kicks(room, dave, "not now")
    await bob.sees_member(room, dave, "leave")
    await dave.knocks(room, via=alice)
    await alice.sees_member(room, dave, "knock")
    await dave.leaves(room)  # takes the knock back
    await alice.sees_member(room, dave, "leave")
    await dave.knocks(room, via=alice)
    await alice.sees_member(room, dave, "knock")
    await alice.invites(room, dave)
    await dave.is_shown(room, "invite")
    await _hears_of_invite(cast)
    await dave.joins(room, via=alice)
    await alice.sees_member(room, dave, "join")


async def _restricted(cast: Cast, rule: dict[str, Any]) -> None:
    alice, bob, dave, room = cast.alice, cast.bob, cast.b["dave"], cast.room
    await alice.sets_state(room, "m.room.join_rules", rule)
    await bob.sees_state(room, "m.room.join_rules", rule)
    for who in (dave, cast.a["carl"]):
        await who.leaves(room)
        await alice.sees_member(room, who, "leave")
        status, _ = await who.answer("POST", path("join", room), {})
        assert status == 403, "a restricted room lets no stranger in"
        await who.joins(cast.space, via=alice)
        await who.joins(room, via=alice)
        await alice.sees_member(room, who, "join")
        await who.leaves(cast.space)


async def topics_and_ban_on_a(cast: Cast) -> None:
    """Alice bans Dave, who goes on talking on his own server."""
    await cast.alice.bans(cast.room, cast.b["dave"])
    await cast.alice.sets_state(cast.room, "m.room.topic", {"topic": "A's topic"})
    await cast.a["anna"].sends(cast.room, "what a topic")


async def topics_and_ban_on_b(cast: Cast) -> None:
    dave = cast.b["dave"]
    await dave.sends(cast.room, "they cannot hear me")
    await dave.sets_state(cast.room, "org.example.free", {"v": "Dave was here"}, "dave")
    await cast.bob.sets_state(cast.room, "m.room.topic", {"topic": "B's topic"})
    await cast.bob.sets_state(cast.room, "m.room.name", {"name": "B's name"})
    await dave.sends(cast.room, "still here")


async def powers_on_a(cast: Cast) -> None:
    """Alice takes Bella's power (and Bob's), who use it at the same time."""
    levels = await cast.alice.state_of(cast.room, "m.room.power_levels")
    levels["users"].pop(cast.b["bella"].user_id, None)
    if cast.bob.user_id in levels["users"]:
        levels["users"][cast.bob.user_id] = 10
    await cast.alice.sets_state(cast.room, "m.room.power_levels", levels)
    await cast.a["carl"].sends(cast.room, "new order")
    await cast.a["anna"].leaves(cast.room)
    await cast.a["anna"].joins(cast.room)


async def powers_on_b(cast: Cast) -> None:
    bella, carl = cast.b["bella"], cast.a["carl"]
    await bella.bans(cast.room, carl)
    await bella.sets_state(cast.room, "m.room.name", {"name": "Bella's name"})
    await cast.bob.sets_power(cast.room, cast.b["mallory"], 55)
    await cast.b["mallory"].sets_state(
        cast.room, "m.room.topic", {"topic": "Mallory's topic"}
    )
    await cast.b["mallory"].kicks(cast.room, cast.a["anna"])


async def door_closes_on_a(cast: Cast) -> None:
    """Alice closes the door while Eve and Dave come in on the other side."""
    closed = {"join_rule": "invite"}
    await cast.alice.sets_state(cast.room, "m.room.join_rules", closed)
    said = await cast.alice.sends(cast.room, "closed now")
    await cast.alice.redacts(cast.room, said)


async def door_closes_on_b(cast: Cast) -> None:
    await cast.b["eve"].joins(cast.room)
    await cast.b["eve"].sends(cast.room, "I am in")
    await cast.bob.sets_state(
        cast.room, "m.room.avatar", {"url": "mxc://example.org/eve"}
    )


async def feud_on_a(cast: Cast) -> None:
    """Moderators of both sides ban one another."""
    room = cast.room
    await cast.alice.sets_power(room, cast.b["bella"], 50)
    await cast.a["carl"].bans(room, cast.b["bella"])
    await cast.alice.sets_power(room, cast.a["anna"], 70)
    await cast.a["anna"].bans(room, cast.b["mallory"])
    await cast.a["anna"].sets_state(room, "m.room.name", {"name": "Anna's"})
    await cast.a["carl"].sets_state(room, "org.example.free", {"v": 3}, "a key")


async def feud_on_b(cast: Cast) -> None:
    room = cast.room
    await cast.bob.sets_power(room, cast.a["carl"], 50)
    await cast.b["bella"].bans(room, cast.a["carl"])
    await cast.bob.sets_power(room, cast.b["mallory"], 65)
    await cast.b["mallory"].sets_state(room, "m.room.name", {"name": "Mallory's"})
    await cast.b["bella"].sets_state(room, "m.room.topic", {"topic": "Bella's"})
    await cast.b["bella"].sets_state(room, "org.example.free", {"v": 4}, "a key")


async def peace(cast: Cast) -> None:
    """Alice puts everybody back where the next quarrel needs them."""
    alice, room = cast.alice, cast.room
    carl, bella, mallory = cast.a["carl"], cast.b["bella"], cast.b["mallory"]
    await alice.sets_state(room, "m.room.join_rules", {"join_rule": "public"})
    await cast.bob.sees_state(room, "m.room.join_rules", {"join_rule": "public"})
    members = await alice.members(room)
    for who in (carl, bella, mallory, cast.a["anna"]):
        if members.get(who.user_id) == "ban":
            await alice.unbans(room, who)
            await cast.bob.sees_member(room, who, "leave")
        if members.get(who.user_id) != "join":
            await who.joins(room, via=alice)
            await alice.sees_member(room, who, "join")
    levels = await alice.state_of(room, "m.room.power_levels")
    levels["users"] |= {carl.user_id: 60, bella.user_id: 60}
    if not cast.version.privileged_creators:
        levels["users"] |= {cast.bob.user_id: 90}
    await alice.sets_state(room, "m.room.power_levels", levels)
    await cast.bob.sees_state(room, "m.room.power_levels", levels)


async def ending(cast: Cast) -> None:
    """The room is closed for good."""
    await cast.alice.sets_state(
        cast.room,
        "m.room.tombstone",
        {"body": "moved", "replacement_room": f"!next:{cast.bob.server_name}"},
    )
    await cast.bob.leaves(cast.room)
    await cast.alice.sees_member(cast.room, cast.bob, "leave")


# Acts in order: played connected, or as (on A while B is down, on B while A is down).
ACTS: Final[tuple[Act | tuple[Act, Act], ...]] = (
    opening,
    at_once,
    doors,
    (topics_and_ban_on_a, topics_and_ban_on_b),
    (powers_on_a, powers_on_b),
    peace,
    (door_closes_on_a, door_closes_on_b),
    peace,
    (feud_on_a, feud_on_b),
    ending,
)
