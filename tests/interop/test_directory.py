"""What one server asks another: aliases, public rooms, profiles."""

import pytest

from tests.interop.stage import Stage
from tests.support.client import RefusedError


async def test_aliases_come_and_go(newest: Stage) -> None:
    alice, bob = await newest.people()
    room = await newest.open_room(alice)
    alias = f"#alias-é_{alice.user_id[1:6]}:{alice.server_name}"
    with pytest.raises(RefusedError) as refused:
        await bob.resolves(alias)
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")
    await alice.sets_alias(room, alias)
    found = await bob.resolves(alias)
    assert found["room_id"] == room
    assert found["servers"] == [alice.server_name]
    await bob.joins(alias)
    assert set((await alice.resolves(alias))["servers"]) == {
        alice.server_name,
        bob.server_name,
    }
    await alice.deletes_alias(alias)
    with pytest.raises(RefusedError) as refused:
        await bob.resolves(alias)
    assert refused.value.status == 404


async def test_the_public_room_list_of_the_other_server(newest: Stage) -> None:
    alice, bob = await newest.people()
    room = await newest.open_room(
        alice, name="Market of Alice", topic="apples", visibility="public"
    )
    hidden = await newest.open_room(alice, name="Cellar of Alice")
    await bob.joins(room, via=alice)
    await alice.sees_member(room, bob, "join")
    listed = await bob.public_rooms(alice.server_name)
    by_id = {entry["room_id"]: entry for entry in listed}
    assert hidden not in by_id
    entry = by_id[room]
    assert entry["name"] == "Market of Alice"
    assert entry["topic"] == "apples"
    assert entry["num_joined_members"] == 2
    assert entry["join_rule"] == "public"
    found = await bob.post(
        f"/_matrix/client/v3/publicRooms?server={alice.server_name}",
        {"filter": {"generic_search_term": "market of alice"}, "limit": 50},
    )
    assert room in {entry["room_id"] for entry in found["chunk"]}
    assert hidden not in {entry["room_id"] for entry in found["chunk"]}


async def test_the_public_room_list_goes_in_pages(newest: Stage) -> None:
    alice, bob = await newest.people()
    rooms = {
        await newest.open_room(alice, name=f"Page {n}", visibility="public")
        for n in range(5)
    }
    seen: list[str] = []
    since = ""
    for _ in range(200):
        page = await bob.post(
            f"/_matrix/client/v3/publicRooms?server={alice.server_name}",
            {"limit": 2} | ({"since": since} if since else {}),
        )
        assert len(page["chunk"]) <= 2
        seen += [entry["room_id"] for entry in page["chunk"]]
        since = page.get("next_batch", "")
        if not since:
            break
    assert rooms <= set(seen)
    assert len(seen) == len(set(seen))


async def test_a_profile_of_the_other_server(newest: Stage) -> None:
    alice, bob = await newest.people()
    await alice.sets_displayname("Alice Ünïcode")
    await alice.sets_avatar("mxc://example.org/alice")
    profile = await bob.profile_of(alice)
    assert profile["displayname"] == "Alice Ünïcode"
    assert profile["avatar_url"] == "mxc://example.org/alice"


async def test_a_profile_that_is_not_there(newest: Stage) -> None:
    alice, bob = await newest.people()
    nobody = f"@nobody-at-all:{alice.server_name}"
    status, reply = await bob.answer("GET", f"/_matrix/client/v3/profile/{nobody}")
    assert (status, reply["errcode"]) == (404, "M_NOT_FOUND")
