"""Coming and going across servers: invites, knocks, kicks, bans, and saying no."""

import asyncio

import pytest

from tests.support.api import path
from tests.support.client import Client, RefusedError
from tests.support.sites import Site, World, agree, eventually

VERSIONS = ["1", "6", "10", "11", "12"]


async def membership(site: Site, room: str, who: Client) -> str | None:
    rows = await site.query(
        """
        SELECT membership FROM memberships JOIN rooms USING (room_nid)
         WHERE room_id = $1 AND user_id = $2
        """,
        room,
        who.user_id,
    )
    return rows[0]["membership"] if rows else None


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_invited_user_sees_the_room_accepts_and_talks(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(
        preset="private_chat", room_version=version, name="The den"
    )
    await alice.invites(room, bob)
    seen = await bob.is_shown(room, "invite")
    told = {key: event["content"] for key, event in seen.stripped.items()}
    assert told["m.room.name", ""] == {"name": "The den"}
    assert told["m.room.create", ""]["room_version"] == version
    assert told["m.room.member", bob.user_id]["membership"] == "invite"
    await bob.joins(room)
    await alice.sees_member(room, bob, "join")
    await bob.sends(room, "thanks")
    await alice.sees(room, "thanks", by=bob)
    await agree(room, a, b)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_refused_invite_is_gone_on_both_sides(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(preset="private_chat", room_version=version)
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    await bob.is_shown(room, "leave")
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403


async def test_an_invite_can_be_refused_while_its_server_is_away(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="private_chat")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    b.unreachable.add(a.name)
    await bob.leaves(room)
    await bob.is_shown(room, "leave")
    assert await membership(b, room, bob) == "leave"


async def test_an_invite_taken_back_disappears(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="private_chat")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await alice.kicks(room, bob)
    await bob.is_shown(room, "leave")


async def test_a_stranger_cannot_take_an_invite_back(
    world: World, a: Site, b: Site, c: Site, alice: Client, bob: Client, carol: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    await carol.joins(room, via=alice)
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    levels = await alice.state_of(room, "m.room.power_levels")
    await alice.sets_state(
        room,
        "m.room.power_levels",
        {**levels, "users": {**levels.get("users", {}), carol.user_id: 100}},
    )
    await eventually(
        lambda: _has_power(carol, room), "carol knows that she is a moderator"
    )
    # Carol may; but b has no way to know that, and believes the inviter's server only.
    await carol.kicks(room, bob)
    await alice.sees_member(room, bob, "leave")
    assert await membership(b, room, bob) == "invite"


async def _has_power(who: Client, room: str) -> bool:
    levels = await who.state_of(room, "m.room.power_levels")
    return bool(levels["users"].get(who.user_id) == 100)


@pytest.mark.parametrize("version", VERSIONS)
async def test_kicked_then_back_then_banned(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(preset="public_chat", room_version=version)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    # A first sync shows no rooms that were left, so bob's comes before that.
    await bob.is_shown(room, "join")
    await alice.kicks(room, bob, "enough")
    await bob.is_shown(room, "leave")
    await alice.sends(room, "is he gone?")
    await alice.sets_state(room, "m.room.topic", {"topic": "without bob"})
    await bob.joins(room, via=alice)
    await bob.sees_state(room, "m.room.topic", {"topic": "without bob"})
    await agree(room, a, b)
    await bob.sends(room, "back again")
    await alice.sees(room, "back again", by=bob)
    await alice.bans(room, bob)
    await bob.is_shown(room, "leave")
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403
    await alice.unbans(room, bob)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await agree(room, a, b)


async def test_leaving_is_heard_on_the_other_side(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")


@pytest.mark.parametrize("version", ["7", "10", "12"])
async def test_a_knock_is_answered(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(
        room_version=version,
        name="The door",
        initial_state=[
            {
                "type": "m.room.join_rules",
                "state_key": "",
                "content": {"join_rule": "knock"},
            }
        ],
    )
    await bob.knocks(room, via=alice)
    seen = await bob.is_shown(room, "knock")
    told = {key: event["content"] for key, event in seen.stripped.items()}
    assert told["m.room.name", ""] == {"name": "The door"}
    await alice.sees_member(room, bob, "knock")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    await alice.sees_member(room, bob, "join")
    await agree(room, a, b)


async def test_a_knock_is_taken_back_and_another_denied(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    rules = {"type": "m.room.join_rules", "state_key": ""}
    room = await alice.creates_room(
        initial_state=[{**rules, "content": {"join_rule": "knock"}}]
    )
    await bob.knocks(room, via=alice)
    await bob.is_shown(room, "knock")
    await bob.leaves(room)
    await bob.is_shown(room, "leave")
    await alice.sees_member(room, bob, "leave")
    await bob.knocks(room, via=alice)
    await alice.sees_member(room, bob, "knock")
    await alice.kicks(room, bob)
    await bob.is_shown(room, "leave")


async def _restricted(alice: Client, gate: str, **options: object) -> str:
    content = {
        "join_rule": "restricted",
        "allow": [{"type": "m.room_membership", "room_id": gate}],
    }
    return await alice.creates_room(
        initial_state=[
            {"type": "m.room.join_rules", "state_key": "", "content": content}
        ],
        **options,
    )


@pytest.mark.parametrize("version", ["8", "9", "10", "12"])
async def test_members_of_another_room_may_join(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    gate = await alice.creates_room(preset="public_chat", room_version=version)
    room = await _restricted(alice, gate, room_version=version)
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.errcode == "M_FORBIDDEN"
    await bob.joins(gate, via=alice)
    await alice.sees_member(gate, bob, "join")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    joined = await bob.state_of(room, "m.room.member", bob.user_id)
    assert joined["join_authorised_via_users_server"] == alice.user_id
    await bob.sends(room, "let in")
    await alice.sees(room, "let in", by=bob)
    await agree(room, a, b)


async def test_a_server_in_the_room_that_may_not_invite_has_another_sign(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    gate = await alice.creates_room(preset="public_chat")
    room = await _restricted(alice, gate, power_level_content_override={"invite": 50})
    await bob.joins(gate, via=alice)
    await bob.joins(room, via=alice)
    # Bob's server is in the room now, and bob cannot invite; dora needs alice's.
    dora = await b.person("dora")
    await dora.joins(gate, via=alice)
    await alice.sees_member(gate, dora, "join")
    await dora.joins(room, via=alice)
    await bob.sees_member(room, dora, "join")
    joined = await bob.state_of(room, "m.room.member", dora.user_id)
    assert joined["join_authorised_via_users_server"] == alice.user_id
    await alice.sees_member(room, dora, "join")
    await agree(room, a, b)


async def test_many_users_of_one_server_join_at_once(
    a: Site, b: Site, alice: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    people = [await b.person(f"p{i}") for i in range(6)]
    await asyncio.gather(*(person.joins(room, via=alice) for person in people))
    for person in people:
        await alice.sees_member(room, person, "join")
    await people[0].sends(room, "all here")
    await alice.sees(room, "all here")
    await agree(room, a, b)
    rows = await b.query("SELECT count(*) FROM events WHERE type = 'm.room.create'")
    assert rows[0]["count"] == 1


async def test_the_error_says_which_servers_were_tried_and_why(
    world: World, a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(preset="private_chat")
    with pytest.raises(RefusedError) as refused:
        await bob.post(path("join", room) + f"?via=localhost%3A1&via={a.name}")
    assert refused.value.status == 403
    assert "localhost:1: not reachable" in refused.value.body["error"]
    assert a.name in refused.value.body["error"]


async def test_a_room_closed_to_others_stays_closed(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(
        preset="public_chat", creation_content={"m.federate": False}
    )
    with pytest.raises(RefusedError) as refused:
        await bob.joins(room, via=alice)
    assert refused.value.status == 403


async def test_nobody_joins_a_room_that_is_not_there(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    with pytest.raises(RefusedError) as refused:
        await bob.joins("!nothing:" + a.name, via=alice)
    assert refused.value.status == 404


async def test_users_who_do_not_exist_cannot_be_invited(
    a: Site, b: Site, alice: Client
) -> None:
    room = await alice.creates_room()
    nobody = Client(alice.http, alice.base_url, user_id=f"@nobody:{b.name}")
    with pytest.raises(RefusedError) as refused:
        await alice.invites(room, nobody)
    assert refused.value.status in (403, 404)
