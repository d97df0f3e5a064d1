"""Sliding sync as clients use it: lists, subscriptions, and what is told of rooms."""

import asyncio
import time

from tests.support.sliding import Sliding, bodies, one, types

PUBLIC = {"preset": "public_chat"}


async def test_a_first_answer_has_the_newest_rooms_and_the_length_of_the_list(alice):
    rooms = [await alice.creates_room(name=f"Room {n}") for n in range(4)]
    await alice.sends(rooms[1], "latest")
    sliding = Sliding(alice)
    reply = await sliding.asks(ranges=[[0, 1]])
    assert reply["lists"] == {"all": {"count": 4}}
    assert set(reply["rooms"]) == {rooms[1], rooms[3]}
    room = reply["rooms"][rooms[1]]
    assert room["initial"] is True
    assert room["name"] == "Room 1"
    assert room["membership"] == "join"
    assert room["lists"] == ["all"]
    assert room["joined_count"] == 1
    assert room["invited_count"] == 0
    assert room["num_live"] == 0
    assert room["limited"] is True
    assert bodies(room) == ["latest"]
    assert room["bump_stamp"] > reply["rooms"][rooms[3]]["bump_stamp"]


async def test_only_what_is_new_comes_afterwards(alice):
    room = await alice.creates_room(name="Hall")
    sliding = Sliding(alice)
    await sliding.asks(timeline_limit=5)
    sent = await alice.sends(room, "one")
    await alice.sets_state(room, "m.room.topic", {"topic": "not asked for"})
    reply = await sliding.asks(timeline_limit=5)
    section = one(reply, room)
    assert "initial" not in section
    assert "name" not in section
    assert "joined_count" not in section
    assert section["timeline"][0]["event_id"] == sent
    assert section["num_live"] == 2
    assert section["limited"] is False
    assert section["required_state"] == []
    assert (await sliding.asks(timeline_limit=5))["rooms"] == {}


async def test_a_message_wakes_who_waits(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(bob)
    await sliding.asks()
    waiting = asyncio.create_task(sliding.asks(wait=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    started = time.monotonic()
    await alice.sends(room, "now")
    section = one(await waiting, room)
    assert time.monotonic() - started < 2
    assert bodies(section) == ["now"]
    assert section["num_live"] == 1


async def test_nothing_new_means_waiting_and_an_empty_answer(alice):
    await alice.creates_room()
    sliding = Sliding(alice)
    await sliding.asks()
    started = time.monotonic()
    reply = await sliding.asks(wait=0.4)
    assert time.monotonic() - started >= 0.4
    assert reply["rooms"] == {}
    assert reply["extensions"] == {}


async def test_a_wider_range_brings_only_the_rooms_that_were_not_sent(alice):
    rooms = [await alice.creates_room() for _ in range(5)]
    sliding = Sliding(alice)
    assert set((await sliding.asks(ranges=[[0, 1]]))["rooms"]) == set(rooms[3:])
    reply = await sliding.asks(ranges=[[0, 3]])
    assert set(reply["rooms"]) == set(rooms[1:3])
    assert all(room["initial"] for room in reply["rooms"].values())
    assert set((await sliding.asks(ranges=[[0, 99]]))["rooms"]) == set(rooms[:1])


async def test_a_room_that_fell_out_of_the_range_catches_up(alice, bob):
    quiet, loud = [await alice.creates_room(**PUBLIC) for _ in range(2)]
    for room in (quiet, loud):
        await bob.joins(room)
    sliding = Sliding(bob)
    await sliding.asks(ranges=[[0, 5]], timeline_limit=9)
    for number in range(3):
        await alice.sends(quiet, f"quiet {number}")
    await alice.sends(loud, "loud")
    reply = await sliding.asks(ranges=[[0, 0]], timeline_limit=9)
    assert bodies(one(reply, loud)) == ["loud"]
    await alice.sends(loud, "louder")
    await sliding.asks(ranges=[[0, 0]], timeline_limit=9)
    reply = await sliding.asks(ranges=[[0, 5]], timeline_limit=9)
    section = one(reply, quiet)
    assert section["num_live"] == 0
    assert bodies(section) == ["quiet 0", "quiet 1", "quiet 2"]
    assert "initial" not in section


async def test_a_higher_limit_brings_older_events_at_once(alice):
    room = await alice.creates_room()
    for number in range(12):
        await alice.sends(room, str(number))
    sliding = Sliding(alice)
    assert bodies(one(await sliding.asks(timeline_limit=1), room)) == ["11"]
    section = one(await sliding.asks(timeline_limit=5), room)
    assert bodies(section) == ["7", "8", "9", "10", "11"]
    assert section["unstable_expanded_timeline"] is True
    assert section["num_live"] == 0
    assert section["limited"] is True
    assert "initial" not in section
    assert (await sliding.asks(timeline_limit=5))["rooms"] == {}
    assert (await sliding.asks(timeline_limit=1))["rooms"] == {}
    # The client has these five already.
    assert (await sliding.asks(timeline_limit=5))["rooms"] == {}
    page = await alice.messages(room, start=section["prev_batch"], limit=3)
    assert bodies({"timeline": page["chunk"]}) == ["6", "5", "4"]


async def test_a_gap_is_limited(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(bob)
    await sliding.asks(timeline_limit=2)
    for number in range(6):
        await alice.sends(room, str(number))
    section = one(await sliding.asks(timeline_limit=2), room)
    assert bodies(section) == ["4", "5"]
    assert section["limited"] is True
    assert section["num_live"] == 2
    page = await bob.messages(room, start=section["prev_batch"], limit=1)
    assert bodies({"timeline": page["chunk"]}) == ["3"]


async def test_a_subscription_shows_a_room_outside_of_every_range(alice):
    rooms = [await alice.creates_room() for _ in range(3)]
    await alice.sends(rooms[0], "a")
    for room in rooms[1:]:
        await alice.sends(room, "b")
    sliding = Sliding(alice)
    subscribed = {rooms[0]: {"timeline_limit": 2, "required_state": [["*", "*"]]}}
    reply = await sliding.asks(ranges=[[0, 0]], room_subscriptions=subscribed)
    assert set(reply["rooms"]) == {rooms[0], rooms[2]}
    assert "lists" not in reply["rooms"][rooms[0]]
    assert "m.room.power_levels" in types(reply["rooms"][rooms[0]])
    assert reply["rooms"][rooms[2]]["required_state"] == []


async def test_a_subscription_beside_a_list_asks_for_both(alice):
    room = await alice.creates_room(name="Hall", topic="t")
    await alice.sends(room, "1")
    await alice.sends(room, "2")
    sliding = Sliding(alice)
    wanted = {"required_state": [["m.room.name", ""]], "timeline_limit": 1}
    section = one(await sliding.asks(**wanted), room)
    assert types(section) == ["m.room.name"]
    more = {room: {"timeline_limit": 2, "required_state": [["m.room.topic", ""]]}}
    section = one(await sliding.asks(**wanted, room_subscriptions=more), room)
    assert types(section) == ["m.room.topic"]
    assert bodies(section) == ["1", "2"]
    assert (await sliding.asks(**wanted, room_subscriptions=more))["rooms"] == {}


async def test_rooms_of_others_do_not_show(alice, bob):
    secret = await alice.creates_room(name="Secret")
    world = await alice.creates_room(**PUBLIC)
    sliding = Sliding(bob)
    wanted = {"timeline_limit": 5, "required_state": [["*", "*"]]}
    reply = await sliding.asks(
        room_subscriptions={secret: wanted, world: wanted, "!nowhere:x": wanted}
    )
    assert reply["rooms"] == {}
    assert reply["lists"] == {"all": {"count": 0}}


async def test_invites_come_with_stripped_state_and_then_become_rooms(alice, bob):
    sliding = Sliding(bob)
    await sliding.asks()
    room = await alice.creates_room(name="Salon", invite=[bob.user_id])
    section = one(await sliding.asks(wait=5), room)
    kinds = {(e["type"], e["state_key"]) for e in section["invite_state"]}
    assert ("m.room.name", "") in kinds
    assert ("m.room.member", bob.user_id) in kinds
    assert section["membership"] == "invite"
    assert section["initial"] is True
    assert not section.keys() & {"timeline", "required_state", "joined_count", "name"}
    assert (await sliding.asks())["rooms"] == {}
    await bob.joins(room)
    section = one(await sliding.asks(), room)
    assert section["initial"] is True
    assert section["membership"] == "join"
    assert section["name"] == "Salon"
    assert "invite_state" not in section


async def test_a_refused_invite_is_told_once(alice, bob):
    sliding = Sliding(bob)
    room = await alice.creates_room(name="Salon", invite=[bob.user_id])
    await sliding.asks()
    await bob.leaves(room)
    section = one(await sliding.asks(), room)
    assert section["membership"] == "leave"
    assert "invite_state" not in section
    (own,) = section["required_state"]
    assert own["content"]["membership"] == "leave"
    assert (await sliding.asks())["rooms"] == {}


async def test_a_room_that_is_left_is_told_up_to_there(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(bob)
    await sliding.asks()
    await alice.sends(room, "before")
    await bob.leaves(room)
    await alice.sends(room, "after")
    section = one(await sliding.asks(timeline_limit=10), room)
    assert section["membership"] == "leave"
    assert bodies(section) == ["before", None]
    own = section["required_state"][-1]
    assert own["state_key"] == bob.user_id
    assert own["content"]["membership"] == "leave"
    await alice.sends(room, "more")
    assert (await sliding.asks())["rooms"] == {}
    # A new connection does not hear of it, nor would it of a room never seen.
    assert (await Sliding(bob, "new").asks())["rooms"] == {}
    await bob.joins(room)
    assert one(await sliding.asks(), room)["initial"] is True


async def test_who_was_sent_away_sees_the_room_also_anew(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC, name="Hall")
    never = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.kicks(room, bob)
    await alice.bans(never, bob)
    reply = await Sliding(bob).asks(timeline_limit=3)
    section = one(reply, room)
    assert section["membership"] == "leave"
    assert section["timeline"][-1]["state_key"] == bob.user_id
    assert reply["lists"]["all"]["count"] == 1


async def test_a_forgotten_room_goes_away(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(bob)
    await sliding.asks()
    await bob.leaves(room)
    await sliding.asks()
    await bob.forgets(room)
    reply = await sliding.asks()
    assert reply["lists"]["all"]["count"] == 0
    assert reply["rooms"] == {}


async def test_a_name_and_an_avatar_that_change_are_told(alice):
    room = await alice.creates_room(name="Old")
    sliding = Sliding(alice)
    assert "avatar" not in one(await sliding.asks(), room)
    await alice.sets_state(room, "m.room.name", {"name": "New"})
    await alice.sets_state(room, "m.room.avatar", {"url": "mxc://x/y"})
    section = one(await sliding.asks(), room)
    assert section["name"] == "New"
    assert section["avatar"] == "mxc://x/y"
    await alice.sets_state(room, "m.room.name", {})
    await alice.sets_state(room, "m.room.avatar", {})
    section = one(await sliding.asks(), room)
    assert section["name"] is None
    assert section["avatar"] is None


async def test_a_room_without_a_name_has_heroes(alice, bob):
    await bob.put(
        f"/_matrix/client/v3/profile/{bob.user_id}/displayname", {"displayname": "Bob"}
    )
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    section = one(await Sliding(alice).asks(), room)
    assert section["heroes"] == [{"user_id": bob.user_id, "displayname": "Bob"}]
    assert section["joined_count"] == 2
    await alice.sets_state(room, "m.room.name", {"name": "Named"})
    assert "heroes" not in one(await Sliding(alice).asks(), room)


async def test_counts_follow_the_members(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    sliding = Sliding(alice)
    await sliding.asks()
    await bob.joins(room)
    await alice.invites(room, carol)
    section = one(await sliding.asks(), room)
    assert section["joined_count"] == 2
    assert section["invited_count"] == 1


async def test_bump_stamps_rise_with_messages_and_not_with_state(alice):
    room = await alice.creates_room()
    sliding = Sliding(alice)
    created = one(await sliding.asks(), room)["bump_stamp"]
    await alice.sets_state(room, "m.room.topic", {"topic": "t"})
    assert one(await sliding.asks(), room)["bump_stamp"] == created
    await alice.sends(room, "hello")
    assert one(await sliding.asks(), room)["bump_stamp"] > created


async def test_direct_chats_are_marked_and_unmarked(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    sliding = Sliding(alice)
    assert "is_dm" not in one(await sliding.asks(), room)
    data = f"/_matrix/client/v3/user/{alice.user_id}/account_data/m.direct"
    await alice.put(data, {bob.user_id: [room, 7], "odd": "text"})
    assert one(await sliding.asks(), room)["is_dm"] is True
    assert (await sliding.asks())["rooms"] == {}
    await alice.put(data, {})
    assert one(await sliding.asks(), room)["is_dm"] is False
    assert (await sliding.asks())["rooms"] == {}


async def test_unread_counts_come_and_go_with_what_is_read(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    sliding = Sliding(bob)
    await sliding.asks(timeline_limit=3)
    await alice.sends(room, "one")
    sent = await alice.sends(room, "two")
    section = one(await sliding.asks(timeline_limit=3), room)
    assert section["notification_count"] == 2
    assert section["highlight_count"] == 0
    receipt = f"/_matrix/client/v3/rooms/{room}/receipt/m.read/{sent}"
    await alice.post(receipt, {})
    assert (await sliding.asks(timeline_limit=3))["rooms"] == {}
    await bob.post(receipt, {})
    section = one(await sliding.asks(timeline_limit=3), room)
    assert section["notification_count"] == 0
    assert "timeline" not in section
    assert (await sliding.asks(timeline_limit=3))["rooms"] == {}


async def test_what_was_read_of_a_room_out_of_view_shows_when_it_is_back(alice, bob):
    room, other = [await alice.creates_room(**PUBLIC) for _ in range(2)]
    await bob.joins(room)
    await bob.joins(other)
    sent = await alice.sends(room, "read me")
    await alice.sends(other, "on top")
    sliding = Sliding(bob)
    assert (await sliding.asks())["rooms"][room]["notification_count"] == 1
    await bob.post(f"/_matrix/client/v3/rooms/{room}/receipt/m.read/{sent}", {})
    await alice.sends(other, "more")
    assert set((await sliding.asks(ranges=[[0, 0]]))["rooms"]) == {other}
    assert one(await sliding.asks(), room)["notification_count"] == 0
