"""Coming, going and finding rooms across servers."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.sites import Site, agree, eventually

PUBLIC = {"preset": "public_chat"}
FORBIDDEN = (403, "M_FORBIDDEN")


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


def texts(events) -> list[str]:
    return [e["content"]["body"] for e in events if "body" in e["content"]]


@pytest.mark.parametrize("version", ["10", "12"])
async def test_a_new_room_invites_users_of_other_servers(
    a: Site, b: Site, alice: Client, bob: Client, version: str
) -> None:
    room = await alice.creates_room(
        preset="trusted_private_chat",
        room_version=version,
        invite=[bob.user_id],
        is_direct=True,
        name="for two",
    )
    invite = await alice.state_of(room, "m.room.member", bob.user_id)
    assert invite == {"membership": "invite", "is_direct": True}
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    await bob.sets_state(room, "m.room.topic", {"topic": "as strong as alice"})
    await alice.sees_state(room, "m.room.topic", {"topic": "as strong as alice"})
    await agree(room, a, b)


async def test_a_server_that_is_away_does_not_spoil_a_new_room(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    a.unreachable.add(b.name)
    room = await alice.creates_room(invite=[bob.user_id, "@x:nowhere.invalid"])
    assert await alice.members(room) == {alice.user_id: "join"}
    call = alice.invites(room, bob)
    assert (await refusal(call))[0] == 502
    a.unreachable.clear()


async def test_an_invite_is_refused_taken_back_and_accepted(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room()
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await alice.kicks(room, bob)
    await bob.is_shown(room, "leave")
    assert await refusal(bob.joins(room)) == FORBIDDEN
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    await bob.forgets(room)
    await agree(room, a)


async def test_kicks_and_bans_reach_users_of_other_servers(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room, via=alice)
    await bob.is_shown(room, "join")
    await alice.kicks(room, bob, "noise")
    await bob.is_shown(room, "leave")
    await bob.joins(room, via=alice)
    await bob.is_shown(room, "join")
    await alice.bans(room, bob)
    await bob.is_shown(room, "leave")
    assert await refusal(bob.joins(room, via=alice)) == FORBIDDEN
    await alice.unbans(room, bob)
    await bob.joins(room, via=alice)
    await bob.sends(room, "back")
    await alice.sees(room, "back")


async def test_a_knock_across_servers(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room = await alice.creates_room(initial_state=[rules], name="behind the door")
    await bob.knocks(room, via=alice)
    await alice.sees_member(room, bob, "knock")
    await bob.is_shown(room, "knock")
    await bob.leaves(room)
    await alice.sees_member(room, bob, "leave")
    await bob.knocks(room, via=alice)
    await alice.sees_member(room, bob, "knock")
    await alice.invites(room, bob)
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    closed = await alice.creates_room()
    assert await refusal(bob.knocks(closed, via=alice)) == FORBIDDEN


async def test_a_restricted_room_admits_members_of_another(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    club = await alice.creates_room(**PUBLIC)
    content = {
        "join_rule": "restricted",
        "allow": [{"type": "m.room_membership", "room_id": club}],
    }
    rules = {"type": "m.room.join_rules", "content": content}
    room = await alice.creates_room(
        initial_state=[rules], power_level_content_override={"invite": 50}
    )
    assert await refusal(bob.joins(room, via=alice)) == FORBIDDEN
    await bob.joins(club, via=alice)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    # b is in the room now, but nobody of b may invite: a has to sign for dora.
    dora = await b.person("dora")
    assert await refusal(dora.joins(room, via=alice)) == FORBIDDEN
    await dora.joins(club, via=alice)
    await alice.sees_member(club, dora, "join")
    await dora.joins(room, via=alice)
    await alice.sees_member(room, dora, "join")
    member = await alice.state_of(room, "m.room.member", dora.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    await agree(room, a, b)


async def test_aliases_and_published_rooms_of_another_server(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    alias = f"#square:{a.name}"
    room = await alice.creates_room(
        visibility="public", room_alias_name="square", name="Market", topic="fish"
    )
    found = await bob.resolves(alias)
    assert found == {"room_id": room, "servers": [a.name]}
    assert await bob.joins(alias) == room
    assert set((await bob.resolves(alias))["servers"]) == {a.name, b.name}
    (listed,) = await bob.public_rooms(a.name)
    assert (listed["name"], listed["num_joined_members"]) == ("Market", 2)
    where = path("publicRooms")
    for term, count in [("FISH", 1), ("meat", 0)]:
        body = {"filter": {"generic_search_term": term}}
        reply = await bob.call("POST", where, body, query={"server": a.name})
        assert len(reply["chunk"]) == count
    # An alias of another server may be the room's.
    await alice.sets_state(
        room,
        "m.room.power_levels",
        await alice.state_of(room, "m.room.power_levels") | {"users_default": 50},
    )
    await bob.sees_state(room, "m.room.power_levels", {"users_default": 50})
    both = {"alias": alias, "alt_aliases": [alias]}
    await bob.sets_state(room, "m.room.canonical_alias", both)
    wrong = {"alias": f"#nothing:{a.name}"}
    call = bob.sets_state(room, "m.room.canonical_alias", wrong)
    assert await refusal(call) == (400, "M_BAD_ALIAS")
    nothing = f"#nothing:{a.name}"
    assert await refusal(bob.resolves(nothing)) == (404, "M_NOT_FOUND")
    b.unreachable.add(a.name)
    assert (await refusal(bob.resolves(alias)))[0] == 502
    assert (await refusal(bob.public_rooms(a.name)))[0] == 502
    b.unreachable.clear()


async def test_typing_receipts_and_names_cross(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    await bob.sets_typing(room)
    await alice.sees_typing(room, bob)
    await bob.sets_typing(room, typing=False)
    await alice.sees_typing(room)
    event_id = await alice.sends(room, "read this")
    await bob.sees_id(room, event_id)
    await bob.marks_read(room, event_id)
    await alice.sees_receipt(room, event_id, bob)
    await bob.sets_displayname("Robert")
    await alice.sees_state(
        room, "m.room.member", {"displayname": "Robert"}, bob.user_id
    )


async def test_history_from_before_is_fetched_when_it_is_read(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    room = await alice.creates_room(**PUBLIC)
    for n in range(60):
        await alice.sends(room, str(n))
    await bob.joins(room, via=alice)
    assert texts(await bob.history(room)) == [str(n) for n in range(60)]
    before = await alice.history(room)
    assert [e["event_id"] for e in await bob.history(room)] == [
        e["event_id"] for e in before
    ]

    async def forwards() -> bool:
        page = await bob.call(
            "GET",
            path("rooms", room, "messages"),
            query={"dir": "f", "limit": "100"},
        )
        return texts(page["chunk"]) == [str(n) for n in range(60)]

    await eventually(forwards, "the same forwards")
