"""Invites that users block or ignore (MSC4380, MSC4155), and forgetting on leave."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.sliding import Sliding

STABLE = "m.invite_permission_config"
MSC4155 = "org.matrix.msc4155.invite_permission_config"
BLOCK_ALL = {"default_action": "block"}


async def sets(client: Client, content: dict, type_: str = STABLE) -> None:
    await client.put(path("user", client.user_id, "account_data", type_), content)


async def refused(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def invited(client: Client) -> list[str]:
    reply = await client.get(path("sync"))
    return list(reply.get("rooms", {}).get("invite", {}))


BLOCKED = (403, "M_INVITE_BLOCKED")


async def test_who_blocks_invites_gets_none(alice, bob):
    early = await bob.creates_room()
    await bob.invites(early, alice)
    assert await invited(alice) == [early]
    await sets(alice, BLOCK_ALL)
    room = await bob.creates_room()
    where = path("rooms", room, "state", "m.room.member", alice.user_id)
    for call in (
        bob.invites(room, alice),
        bob.put(where, {"membership": "invite"}),
        bob.creates_room(invite=[alice.user_id]),
    ):
        assert await refused(call) == BLOCKED
    assert await invited(alice) == []
    assert (await Sliding(alice).asks())["rooms"] == {}
    state = await bob.full_state(early)
    assert state["m.room.member", alice.user_id]["content"]["membership"] == "invite"
    await sets(alice, {})
    await bob.invites(room, alice)
    assert sorted(await invited(alice)) == sorted([early, room])


@pytest.mark.parametrize("type_", [STABLE, MSC4155])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "allow"),
        ({"blocked_servers": ["*"]}, "block"),
        ({"blocked_servers": ["hearth.tes?"]}, "block"),
        ({"blocked_servers": ["hearth"]}, "allow"),
        ({"ignored_servers": ["*"]}, "ignore"),
        ({"enabled": False, "blocked_servers": ["*"]}, "allow"),
        ({"blocked_users": ["@user*"]}, "block"),
        ({"ignored_users": ["@user*"], "blocked_users": ["@user*"]}, "ignore"),
        ({"allowed_servers": ["*.test"], "blocked_servers": ["*"]}, "allow"),
        ({"allowed_users": ["@user*"], "blocked_servers": ["*"]}, "allow"),
        ({"blocked_users": ["*"], "allowed_servers": ["*"]}, "block"),
        ({"blocked_servers": ["*", 1]}, "allow"),
        ({"blocked_servers": "*"}, "allow"),
    ],
)
async def test_invites_are_filtered(alice, bob, type_, config, expected):
    await sets(alice, config, type_)
    room = await bob.creates_room()
    if expected == "block":
        assert await refused(bob.invites(room, alice)) == BLOCKED
    else:
        await bob.invites(room, alice)
        assert await invited(alice) == ([room] if expected == "allow" else [])
        await alice.joins(room)


# ── Forgetting on leave ──────────────────────────────────────────────────────────────


async def test_rooms_are_forgotten_with_the_configuration(another, person):
    server = await another(rooms={"forget_on_leave": True})
    alice, bob = await person(server), await person(server)
    capabilities = (await alice.get(path("capabilities")))["capabilities"]
    assert capabilities["m.forget_forced_upon_leave"] == {"enabled": True}
    rooms = [await alice.creates_room(preset="public_chat") for _ in range(3)]
    for room in rooms:
        await bob.joins(room)
    await bob.syncs()
    await bob.leaves(rooms[0])
    await alice.kicks(rooms[1], bob)
    await alice.bans(rooms[2], bob)
    for room in rooms:
        # That it is over is told once.
        await bob.is_shown(room, "leave")
        while (await bob.answer("GET", path("rooms", room, "messages") + "?dir=b"))[
            0
        ] != 403:
            await bob.syncs()
    archived = {"room": {"include_leave": True}}
    user = path("user", bob.user_id)
    filter_id = (await bob.post(f"{user}/filter", archived))["filter_id"]
    reply = await bob.get(path("sync"), filter=filter_id)
    assert "leave" not in reply.get("rooms", {})


async def test_without_it_they_are_not(alice, bob):
    capabilities = (await alice.get(path("capabilities")))["capabilities"]
    assert capabilities["m.forget_forced_upon_leave"] == {"enabled": False}
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    await bob.leaves(room)
    assert (await bob.messages(room))["chunk"]
