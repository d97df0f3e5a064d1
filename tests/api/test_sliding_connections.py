"""Connections of sliding sync: places, lost answers, restarts, limits, and what is
written.
"""

import asyncio

import pytest

from homeserver.sync.sliding import answer, client_api, connections, tasks
from tests.support.api import RefusedError
from tests.support.client import Client
from tests.support.sliding import Sliding, bodies, one

PUBLIC = {"preset": "public_chat"}


async def refused(asking):
    with pytest.raises(RefusedError) as error:
        await asking
    return error.value.status, error.value.errcode


EXPIRED = (400, "M_UNKNOWN_POS")


def held_by(process, person, conn_id="room-list"):
    """The person's client, talking to another process."""
    client = Client(
        lambda: process.session,
        process.base_url,
        person.access_token,
        user_id=person.user_id,
        device_id=person.device_id,
    )
    return Sliding(client, conn_id)


async def stored(server, person):
    """What the table has of the person: connection to (older, newer) state."""
    async with server.ctx.db.read() as tx:
        rows = await tx.fetch(
            """
            SELECT conn_id, older, newer FROM sliding_connections
             WHERE user_id = $1 ORDER BY conn_id
            """,
            person.user_id,
        )
    return {row[0]: (row[1], row[2]) for row in rows}


@pytest.mark.parametrize(
    "pos", ["s5~0123456789ab", "nonsense", "s5", "s~0123456789ab", "0/m1", "s5~x\0"]
)
async def test_a_place_that_is_none_of_ours_means_beginning_anew(alice, pos):
    sliding = Sliding(alice)
    await sliding.asks()
    assert await refused(sliding.asks(pos=pos)) == EXPIRED


async def test_a_place_is_good_for_its_own_connection_only(hearth, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    mine = Sliding(alice)
    await mine.asks()
    await Sliding(bob).asks()
    assert await refused(Sliding(bob).asks(pos=mine.pos)) == EXPIRED
    assert await refused(Sliding(alice, "other").asks(pos=mine.pos)) == EXPIRED
    phone = await hearth.logs_in(alice.user_id)
    on_phone = Client(
        phone.http,
        phone.base_url,
        phone.access_token,
        user_id=phone.user_id,
        device_id=phone.device_id,
    )
    assert await refused(Sliding(on_phone).asks(pos=mine.pos)) == EXPIRED


async def test_a_position_that_was_never_reached_is_not_believed(alice, monkeypatch):
    monkeypatch.setattr(client_api, "_PATIENCE_SECONDS", 0.1)
    await alice.creates_room()
    sliding = Sliding(alice)
    name = (await sliding.asks())["pos"].partition("~")[2]
    assert await refused(sliding.asks(pos=f"s{10**17}~{name}")) == EXPIRED
    # One that lies back is not further back than the state.
    assert (await sliding.asks(pos=f"s0~{name}"))["rooms"] == {}


async def test_an_answer_that_was_lost_is_given_again(alice, bob):
    rooms = [await alice.creates_room(**PUBLIC) for _ in range(3)]
    sliding = Sliding(alice)
    await sliding.asks(ranges=[[0, 0]])
    before = sliding.pos
    first = await sliding.asks(ranges=[[0, 1]])
    again = await sliding.asks(ranges=[[0, 1]], pos=before)
    assert set(first["rooms"]) == set(again["rooms"]) == {rooms[1]}
    # The client may change its mind between.
    wider = await sliding.asks(ranges=[[0, 2]], pos=before)
    assert set(wider["rooms"]) == {rooms[0], rooms[1]}
    await alice.sends(rooms[0], "news")
    assert bodies(one(await sliding.asks(ranges=[[0, 2]]), rooms[0])) == ["news"]


async def test_once_a_place_is_used_the_ones_before_may_be_gone(alice):
    await alice.creates_room()
    sliding, places = Sliding(alice), []
    for limit in range(1, 4):
        await sliding.asks(ranges=[[0, 9]], timeline_limit=limit)
        places.append(sliding.pos)
    await sliding.asks(pos=places[1], timeline_limit=9)
    assert await refused(sliding.asks(pos=places[2], timeline_limit=20)) == EXPIRED


async def test_another_process_goes_on_where_one_stopped(
    hearth, another_process, alice, bob
):
    room = await alice.creates_room(**PUBLIC, name="Hall")
    await alice.creates_room(name="Other")
    here, there = Sliding(alice), held_by(another_process, alice)
    await here.asks(ranges=[[0, 0]], timeline_limit=5)
    await bob.joins(room)
    await bob.sends(room, "hi")
    there.pos, seen = here.pos, []
    while "hi" not in seen:
        reply = await there.asks(ranges=[[0, 0]], timeline_limit=5, wait=20)
        seen += bodies(one(reply, room))
    waiting = asyncio.create_task(
        there.asks(ranges=[[0, 0]], timeline_limit=5, wait=20)
    )
    await asyncio.sleep(0.2)
    await bob.sends(room, "to the other process")
    section = one(await waiting, room)
    assert "initial" not in section
    here.pos = there.pos
    assert (await here.asks(ranges=[[0, 0]], timeline_limit=5))["rooms"] == {}
    # The first answer had the other room, which was on top then.
    assert (await here.asks(timeline_limit=5))["rooms"] == {}


async def test_connections_of_one_device_do_not_meet(alice):
    room = await alice.creates_room()
    one_, two = Sliding(alice, "one"), Sliding(alice, "two")
    await one_.asks()
    await alice.sends(room, "news")
    assert one(await two.asks(), room)["initial"] is True
    assert "initial" not in one(await one_.asks(), room)


async def test_beginning_anew_sends_everything_again(alice):
    room = await alice.creates_room(name="Hall")
    sliding = Sliding(alice)
    await sliding.asks()
    before = sliding.pos
    sliding.pos = None
    section = one(await sliding.asks(required_state=[["m.room.name", ""]]), room)
    assert section["initial"] is True
    assert section["name"] == "Hall"
    # The answer may have been lost, and the client goes on with what it has.
    assert (await sliding.asks(pos=before))["rooms"] == {}


async def test_the_oldest_of_too_many_connections_ends(hearth, alice):
    await alice.creates_room()
    first = Sliding(alice, "first")
    await first.asks()
    for number in range(connections.MAX_CONNECTIONS):
        await Sliding(alice, f"c{number}").asks()
    assert len(await stored(hearth, alice)) == connections.MAX_CONNECTIONS
    await alice.creates_room()
    assert await refused(first.asks()) == EXPIRED


async def test_what_is_kept_goes_with_the_device(hearth, alice):
    await alice.creates_room()
    await Sliding(alice).asks()
    assert list(await stored(hearth, alice)) == ["room-list"]
    await alice.post("/_matrix/client/v3/logout", {})
    assert await stored(hearth, alice) == {}


async def test_messages_in_rooms_that_are_up_to_date_write_nothing(hearth, alice, bob):
    rooms = [await alice.creates_room(**PUBLIC) for _ in range(2)]
    for room in rooms:
        await bob.joins(room)
    sliding = Sliding(bob)
    extensions = {name: {"enabled": True} for name in ("receipts", "typing", "e2ee")}
    asked = {"extensions": extensions, "required_state": [["m.room.member", "$LAZY"]]}
    await sliding.asks(**asked)
    before = await stored(hearth, bob)
    places = {sliding.pos}
    for room in rooms * 2:
        await alice.sends(room, "news")
        assert bodies(one(await sliding.asks(**asked), room)) == ["news"]
        places.add(sliding.pos)
    assert len(places) == 5
    assert await stored(hearth, bob) == before


async def test_a_request_without_news_does_not_ask_the_database(
    hearth, alice, bob, monkeypatch
):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    names = ("receipts", "typing", "e2ee", "to_device", "account_data")
    asked = {
        "extensions": {name: {"enabled": True} for name in names},
        "filters": {"is_dm": False, "not_room_types": ["m.space"]},
        "room_subscriptions": {room: {"timeline_limit": 1, "required_state": []}},
    }
    sliding = Sliding(bob)
    await sliding.asks(**asked)
    await sliding.asks(**asked)
    used = []
    db = hearth.ctx.db
    for name in ("read", "snapshot", "transaction"):
        real = getattr(db, name)

        def counted(real=real, name=name):
            # Upkeep of the server runs in tasks with names of their own.
            if asyncio.current_task().get_name().startswith("Task-"):
                used.append(name)
            return real()

        monkeypatch.setattr(db, name, counted)
    assert (await sliding.asks(**asked, wait=0.3))["rooms"] == {}
    assert used == []
    await Sliding(bob, "new").asks()
    assert used != []


async def test_what_is_too_much_for_one_answer_comes_in_the_next_at_once(
    alice, monkeypatch
):
    monkeypatch.setattr(answer, "_ROOMS_AT_ONCE", 2)
    monkeypatch.setattr(answer, "_MAX_ROOMS", 2)
    rooms = [await alice.creates_room() for _ in range(5)]
    sliding, seen = Sliding(alice), []
    for _ in range(3):
        seen += (await sliding.asks(wait=20))["rooms"]
    assert seen == rooms[::-1]
    for room in rooms:
        await alice.sends(room, f"news of {room}")
    seen = []
    for _ in range(3):
        for room, section in (await sliding.asks(wait=20))["rooms"].items():
            assert bodies(section) == [f"news of {room}"]
            seen.append(room)
    assert seen == rooms[::-1]


async def test_a_connection_that_would_keep_too_much_ends(alice, monkeypatch):
    await alice.creates_room()
    sliding = Sliding(alice)
    await sliding.asks()
    monkeypatch.setattr(connections, "MAX_BYTES", 10)
    await alice.creates_room()
    assert await refused(sliding.asks()) == EXPIRED


async def test_connections_that_nobody_uses_are_forgotten(hearth, alice):
    await alice.creates_room()
    sliding = Sliding(alice)
    await sliding.asks()
    await tasks.forget_unused(hearth.ctx)
    assert await stored(hearth, alice)
    async with hearth.ctx.db.read() as tx:
        await tx.execute(
            """
            UPDATE sliding_connections SET used_at = now() - interval '31 days'
             WHERE user_id = $1
            """,
            alice.user_id,
        )
    await tasks.forget_unused(hearth.ctx)
    assert await stored(hearth, alice) == {}


async def test_a_state_of_another_release_means_beginning_anew(
    hearth, another_process, alice
):
    await alice.creates_room()
    sliding = Sliding(alice)
    await sliding.asks()
    async with hearth.ctx.db.read() as tx:
        await tx.execute(
            "UPDATE sliding_connections SET newer_state = 'x' WHERE user_id = $1",
            alice.user_id,
        )
    elsewhere = held_by(another_process, alice)
    assert await refused(elsewhere.asks(pos=sliding.pos)) == EXPIRED


async def test_a_place_is_a_start_for_history(alice):
    room = await alice.creates_room()
    await alice.sends(room, "one")
    sliding = Sliding(alice)
    await sliding.asks()
    await alice.sends(room, "two")
    page = await alice.messages(room, start=sliding.pos, limit=1)
    assert bodies({"timeline": page["chunk"]}) == ["one"]


async def test_clients_learn_that_it_is_there(hearth):
    versions = await hearth.nobody.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.simplified_msc3575"] is True


async def test_the_newer_of_two_requests_with_one_place_is_the_one_that_counts(alice):
    await alice.creates_room()
    sliding = Sliding(alice)
    await sliding.asks()
    for number in range(5):
        body = {"conn_id": "room-list", "lists": {"all": {"timeline_limit": 1}}}
        older = asyncio.create_task(sliding.asks(wait=20))
        await asyncio.sleep(0.05)
        newer = asyncio.create_task(sliding.posts(body, wait=20, pos=sliding.pos))
        await asyncio.sleep(0.05)
        room = await alice.creates_room(name=f"{number}")
        assert (await older)["rooms"] == {}
        reply = await newer
        assert room in reply["rooms"]
        sliding.pos = reply["pos"]
        assert (await sliding.asks())["rooms"] == {}
