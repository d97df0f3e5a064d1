"""Joining, inviting, knocking, leaving, kicking, banning, forgetting."""

import asyncio

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
KNOCK = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def member(client: Client, room: str, who: Client) -> dict:
    return await client.state_of(room, "m.room.member", who.user_id)


FORBIDDEN = (403, "M_FORBIDDEN")
NOWHERE = "!nowhere:hearth.test"


# ── Joining ──────────────────────────────────────────────────────────────────────────


async def test_anybody_joins_a_public_room_by_id_and_by_alias(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC, room_alias_name="joinable")
    reply = await bob.post(path("rooms", room, "join"), {"reason": "curious"})
    assert reply == {"room_id": room}
    assert (await member(alice, room, bob))["reason"] == "curious"
    assert await carol.joins("#joinable:hearth.test") == room
    assert await carol.joined_rooms() == [room]


async def test_joining_twice_changes_nothing(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    before = (await bob.full_state(room))["m.room.member", bob.user_id]
    await bob.joins(room)
    after = (await bob.full_state(room))["m.room.member", bob.user_id]
    assert after["event_id"] == before["event_id"]


async def test_a_join_needs_no_body(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    status, reply = await bob.answer("POST", path("join", room))
    assert (status, reply) == (200, {"room_id": room})
    status, _ = await bob.answer("POST", path("rooms", room, "leave"))
    assert status == 200


async def test_an_invited_user_joins_and_others_do_not(alice, bob, carol):
    room = await alice.creates_room()
    assert await refusal(bob.joins(room)) == FORBIDDEN
    await alice.invites(room, bob)
    await bob.joins(room)
    assert await refusal(carol.joins(room)) == FORBIDDEN


async def test_a_room_that_nobody_knows_cannot_be_joined(bob):
    assert await refusal(bob.joins(NOWHERE)) == (404, "M_NOT_FOUND")
    assert await refusal(bob.joins("!" + "a" * 43)) == (404, "M_NOT_FOUND")
    assert await refusal(bob.joins("#nothing:hearth.test")) == (404, "M_NOT_FOUND")
    for what in ("nonsense", "@bob:hearth.test", "#a", "!a:b c"):
        assert await refusal(bob.joins(what)) == (400, "M_INVALID_PARAM")
    reply = await bob.answer(
        "POST", path("join", NOWHERE), {}, query={"via": "not a server"}
    )
    assert (reply[0], reply[1]["errcode"]) == (400, "M_INVALID_PARAM")


async def test_an_invite_signed_for_another_user_is_refused(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    signed = {"sender": "@a:b", "mxid": "@c:d", "token": "t", "signatures": {}}
    call = bob.post(path("join", room), {"third_party_signed": signed})
    assert await refusal(call) == (400, "M_BAD_JSON")


async def test_one_who_left_an_empty_room_may_come_back_to_it(alice, bob):
    room = await alice.creates_room()
    await alice.invites(room, bob)
    await alice.leaves(room)
    await bob.joins(room)
    assert await bob.joined_rooms() == [room]


async def test_many_join_at_once(alice, person):
    room = await alice.creates_room(**PUBLIC)
    people = await asyncio.gather(*(person() for _ in range(10)))
    await asyncio.gather(*(each.joins(room) for each in people))
    members = await alice.members(room)
    assert sorted(members.values()) == ["join"] * 11


# ── Restricted rooms ─────────────────────────────────────────────────────────────────


async def restricted(client: Client, *allowed: object, rule="restricted", **more):
    allow = [{"type": "m.room_membership", "room_id": room} for room in allowed]
    content = {"join_rule": rule, "allow": allow}
    state = [{"type": "m.room.join_rules", "content": content}]
    return await client.creates_room(initial_state=state, **more)


@pytest.mark.parametrize(
    ("version", "rule"),
    [("8", "restricted"), ("10", "knock_restricted"), ("12", "restricted")],
)
async def test_members_of_an_allowed_room_may_join(alice, bob, carol, version, rule):
    club = await alice.creates_room(**PUBLIC)
    room = await restricted(alice, NOWHERE, club, rule=rule, room_version=version)
    assert await refusal(bob.joins(room)) == FORBIDDEN
    await bob.joins(club)
    await bob.joins(room)
    event = await member(alice, room, bob)
    assert event["join_authorised_via_users_server"] == alice.user_id
    await bob.leaves(club)
    await bob.sends(room, "still here")
    await alice.invites(room, carol)
    await carol.joins(room)
    assert "join_authorised_via_users_server" not in await member(alice, room, carol)


async def test_nobody_can_vouch_for_themselves(alice, bob):
    room = await restricted(alice, NOWHERE)
    forged = {
        "membership": "join",
        "join_authorised_via_users_server": alice.user_id,
    }

    async def forges() -> None:
        await bob.sets_state(room, "m.room.member", forged, bob.user_id)

    assert await refusal(forges()) == FORBIDDEN
    await alice.invites(room, bob)
    await forges()
    assert await member(alice, room, bob) == {"membership": "join"}


async def test_who_vouches_has_the_power_to_invite(alice, bob, carol):
    club = await alice.creates_room(**PUBLIC)
    levels = {"invite": 50, "users": {alice.user_id: 100, bob.user_id: 50}}
    room = await restricted(
        alice, club, room_version="11", power_level_content_override=levels
    )
    await alice.invites(room, bob)
    await bob.joins(room)
    await alice.leaves(room)
    await carol.joins(club)
    await carol.joins(room)
    vouched = (await member(carol, room, carol))["join_authorised_via_users_server"]
    assert vouched == bob.user_id


async def test_malformed_conditions_admit_nobody(alice, bob):
    for allow in (None, {}, "x", [7], [{"type": "m.room_membership"}], [{}]):
        content = {"join_rule": "restricted", "allow": allow}
        state = [{"type": "m.room.join_rules", "content": content}]
        room = await alice.creates_room(initial_state=state)
        assert await refusal(bob.joins(room)) == FORBIDDEN


# ── Inviting ─────────────────────────────────────────────────────────────────────────


async def test_an_invite_carries_its_reason_and_may_be_repeated(alice, bob):
    room = await alice.creates_room()
    where = path("rooms", room, "invite")
    await alice.post(where, {"user_id": bob.user_id, "reason": "come"})
    before = (await alice.full_state(room))["m.room.member", bob.user_id]
    assert before["content"]["membership"] == "invite"
    assert before["content"]["reason"] == "come"
    await alice.post(where, {"user_id": bob.user_id})
    after = (await alice.full_state(room))["m.room.member", bob.user_id]
    assert after["event_id"] == before["event_id"]


async def test_who_may_not_invite_is_refused(alice, bob, carol):
    room = await alice.creates_room(
        **PUBLIC, power_level_content_override={"invite": 50}
    )
    assert await refusal(bob.invites(room, carol)) == FORBIDDEN  # not there
    await bob.joins(room)
    assert await refusal(bob.invites(room, carol)) == FORBIDDEN  # no power
    assert await refusal(alice.invites(room, bob)) == FORBIDDEN  # there already
    await alice.bans(room, carol)
    assert await refusal(alice.invites(room, carol)) == FORBIDDEN  # banned


async def test_an_invite_needs_a_user(alice):
    room = await alice.creates_room()
    where = path("rooms", room, "invite")
    third_party = {
        "id_server": "id.test",
        "id_access_token": "t",
        "medium": "email",
        "address": "a@b",
    }
    for body, answer in [
        ({}, (400, "M_BAD_JSON")),
        ({"user_id": 7}, (400, "M_BAD_JSON")),
        ({"user_id": "bob"}, (400, "M_INVALID_PARAM")),
        ({"user_id": "@b\0:hearth.test"}, (400, "M_INVALID_PARAM")),
        (third_party, (403, "M_SERVER_NOT_TRUSTED")),
    ]:
        assert await refusal(alice.post(where, body)) == answer


async def test_users_of_other_servers_stay_out_of_closed_rooms(alice):
    room = await alice.creates_room(creation_content={"m.federate": False})
    call = alice.post(path("rooms", room, "invite"), {"user_id": "@bob:b.test"})
    assert await refusal(call) == FORBIDDEN


# ── Leaving, kicking, banning ────────────────────────────────────────────────────────


async def test_leaving_is_for_members_and_invited_users(alice, bob, carol):
    room = await alice.creates_room()
    await alice.invites(room, bob)
    await bob.leaves(room)
    assert (await member(alice, room, bob))["membership"] == "leave"
    await bob.leaves(room)  # again
    assert await refusal(carol.leaves(room)) == FORBIDDEN
    assert await refusal(carol.leaves(NOWHERE)) == FORBIDDEN
    await alice.bans(room, bob)
    assert await refusal(bob.leaves(room)) == FORBIDDEN


async def test_a_kick_says_why_and_lets_the_user_come_back(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.kicks(room, bob, "noise")
    event = (await alice.full_state(room))["m.room.member", bob.user_id]
    assert event["content"] == {"membership": "leave", "reason": "noise"}
    assert event["sender"] == alice.user_id
    assert await refusal(alice.kicks(room, bob)) == FORBIDDEN  # not there any more
    await bob.joins(room)
    assert await refusal(bob.kicks(room, alice)) == FORBIDDEN  # no power


async def test_a_kick_takes_an_invite_back(alice, bob):
    room = await alice.creates_room()
    await alice.invites(room, bob)
    await alice.kicks(room, bob)
    assert await refusal(bob.joins(room)) == FORBIDDEN


async def test_a_ban_lasts_until_it_is_lifted(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.bans(room, bob, "spam")
    assert await member(alice, room, bob) == {"membership": "ban", "reason": "spam"}
    assert await refusal(bob.joins(room)) == FORBIDDEN
    assert await refusal(bob.sends(room, "x")) == FORBIDDEN
    assert await refusal(alice.kicks(room, bob)) == FORBIDDEN
    await carol.joins(room)
    assert await refusal(carol.unbans(room, bob)) == FORBIDDEN
    await alice.unbans(room, bob)
    await bob.joins(room)
    assert await refusal(alice.unbans(room, bob)) == (403, "M_BAD_STATE")


async def test_one_may_be_banned_before_coming(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await alice.bans(room, bob)
    assert await refusal(bob.joins(room)) == FORBIDDEN


# ── Knocking ─────────────────────────────────────────────────────────────────────────


async def test_a_knock_is_answered_by_an_invite(alice, bob, carol):
    room = await alice.creates_room(initial_state=KNOCK, room_alias_name="door")
    reply = await bob.post(path("knock", room), {"reason": "please"})
    assert reply == {"room_id": room}
    assert (await member(alice, room, bob))["membership"] == "knock"
    assert (await member(alice, room, bob))["reason"] == "please"
    await alice.invites(room, bob)
    await bob.joins(room)
    assert await refusal(bob.knocks(room)) == FORBIDDEN
    await carol.knocks("#door:hearth.test")
    await carol.leaves(room)
    assert (await member(alice, room, carol))["membership"] == "leave"


async def test_not_every_room_can_be_knocked_on(alice, bob):
    room = await alice.creates_room()
    assert await refusal(bob.knocks(room)) == FORBIDDEN
    old = await alice.creates_room(room_version="6", initial_state=KNOCK)
    assert await refusal(bob.knocks(old)) == FORBIDDEN
    assert await refusal(bob.knocks("#nothing:hearth.test")) == (404, "M_NOT_FOUND")
    assert await refusal(bob.knocks(NOWHERE)) == (404, "M_NOT_FOUND")


# ── Forgetting ───────────────────────────────────────────────────────────────────────


async def test_only_who_left_can_forget(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    assert await refusal(bob.forgets(room)) == (400, "M_UNKNOWN")
    await bob.leaves(room)
    assert (await bob.messages(room))["chunk"]
    await bob.forgets(room)
    assert await refusal(bob.messages(room)) == FORBIDDEN
    assert await refusal(bob.full_state(room)) == FORBIDDEN
    await bob.forgets(room)  # again
    assert await refusal(carol.forgets(room)) == FORBIDDEN
    await bob.joins(room)
    assert (await bob.messages(room))["chunk"]


# ── Member events that clients write ─────────────────────────────────────────────────


async def test_member_events_do_what_the_endpoints_do(alice, bob, carol):
    room = await alice.creates_room()

    async def sets(who: Client, target: Client, **content: object) -> str:
        return await who.sets_state(room, "m.room.member", content, target.user_id)

    invited = await sets(alice, bob, membership="invite")
    assert (await alice.reads_event(room, invited))["state_key"] == bob.user_id
    joined = await sets(bob, bob, membership="join", displayname="B")
    assert (await alice.reads_event(room, joined))["content"]["displayname"] == "B"
    await sets(bob, bob, membership="join", displayname="BB")
    assert (await member(alice, room, bob))["displayname"] == "BB"
    assert await refusal(sets(carol, carol, membership="join")) == FORBIDDEN
    assert await refusal(sets(bob, carol, membership="join")) == FORBIDDEN
    await sets(alice, bob, membership="leave")
    assert await refusal(bob.sends(room, "x")) == FORBIDDEN
    await sets(alice, bob, membership="ban")
    await sets(alice, bob, membership="leave")
    await alice.invites(room, bob)
    await sets(bob, bob, membership="leave")


async def test_member_events_must_be_well_formed(alice):
    room = await alice.creates_room()
    for key, content, answer in [
        (alice.user_id, {}, (400, "M_BAD_JSON")),
        (alice.user_id, {"membership": 1}, (400, "M_BAD_JSON")),
        (alice.user_id, {"membership": "dance"}, FORBIDDEN),
        ("nobody", {"membership": "join"}, (400, "M_INVALID_PARAM")),
        ("", {"membership": "join"}, (400, "M_INVALID_PARAM")),
    ]:
        call = alice.sets_state(room, "m.room.member", content, key)
        assert await refusal(call) == answer


# ── Profiles ─────────────────────────────────────────────────────────────────────────


async def test_a_new_name_is_told_to_all_rooms(alice, bob):
    rooms = [await alice.creates_room(**PUBLIC) for _ in range(3)]
    left = await alice.creates_room(**PUBLIC)
    await bob.joins(left)
    await alice.leaves(left)
    await alice.sets_displayname("Alicia")
    await alice.sets_avatar("mxc://hearth.test/face")
    for room in rooms:
        assert await member(alice, room, alice) == {
            "membership": "join",
            "displayname": "Alicia",
            "avatar_url": "mxc://hearth.test/face",
        }
    assert (await member(bob, left, alice))["membership"] == "leave"
    await bob.joins(rooms[0])
    later = await alice.creates_room()
    assert (await member(alice, later, alice))["displayname"] == "Alicia"


# ── Other processes ──────────────────────────────────────────────────────────────────


async def test_all_processes_know_of_a_membership_at_once(alice, bob, another_process):
    there = Client(
        lambda: another_process.session,
        another_process.base_url,
        bob.access_token,
        user_id=bob.user_id,
        device_id=bob.device_id,
    )
    for _ in range(5):
        room = await alice.creates_room(**PUBLIC)
        await there.joins(room)
        await bob.sends(room, "from here")
        await there.sends(room, "from there")
        await bob.leaves(room)
        assert await refusal(there.sends(room, "late")) == FORBIDDEN


async def test_a_process_that_is_behind_refuses_nothing_for_that(
    alice, bob, another_process
):
    """What one process acknowledged holds at the others, whether they heard or not."""
    there = Client(
        lambda: another_process.session,
        another_process.base_url,
        bob.access_token,
        user_id=bob.user_id,
        device_id=bob.device_id,
    )
    room = await alice.creates_room(**PUBLIC)
    assert await refusal(there.sends(room, "early")) == FORBIDDEN
    # From here on it learns of nothing unless it asks.
    await another_process.ctx.live.follower.stop()
    await bob.joins(room)
    await there.sends(room, "from there")
    await bob.leaves(room)
    await alice.sets_state(room, "m.room.topic", {"topic": "tea"})
    await bob.joins(room)
    assert (await there.state_of(room, "m.room.topic"))["topic"] == "tea"
    await alice.kicks(room, bob)
    await alice.sets_state(room, "m.room.topic", {"topic": "not for bob"})
    assert (await there.state_of(room, "m.room.topic"))["topic"] == "tea"
