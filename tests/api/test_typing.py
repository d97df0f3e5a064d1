"""Typing notifications."""

import asyncio

import pytest

from homeserver.live.committer import Overloaded
from homeserver.typing import edus, store
from tests.support.api import RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
FORBIDDEN = (403, "M_FORBIDDEN")
BAD_JSON = (400, "M_BAD_JSON")


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def types(client: Client, room: str, **body: object) -> None:
    await client.put(path("rooms", room, "typing", client.user_id), body)


async def typing(hearth, room: str) -> list[str]:
    nid = (await hearth.ctx.live.room(room)).nid
    async with hearth.ctx.db.read() as tx:
        return list((await store.typing_in(tx, [nid]))[nid])


async def test_who_types_is_shown_and_who_stops_no_longer(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.syncs()
    await bob.sets_typing(room)
    await alice.sees_typing(room, bob)
    await alice.sets_typing(room)
    await alice.sees_typing(room, alice, bob)
    await bob.sets_typing(room, typing=False)
    await alice.sees_typing(room, alice)


async def test_typing_ends_by_itself_and_those_who_wait_hear_of_it(hearth, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await alice.syncs()
    await types(bob, room, typing=True, timeout=1)  # the shortest is a second
    await alice.sees_typing(room, bob)
    await alice.sees_typing(room, seconds=5)
    assert await typing(hearth, room) == []


async def test_who_leaves_types_no_longer(hearth, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await bob.sets_typing(room)
    await bob.leaves(room)
    assert await typing(hearth, room) == []


async def test_going_on_puts_the_end_off(hearth, alice):
    room = await alice.creates_room()
    await types(alice, room, typing=True, timeout=1000)
    await types(alice, room, typing=True, timeout=60_000)
    await asyncio.sleep(2.2)
    assert await typing(hearth, room) == [alice.user_id]


@pytest.mark.parametrize("wanted", [10**15, -5, 0, None])
async def test_any_time_is_brought_within_bounds(hearth, alice, wanted):
    room = await alice.creates_room()
    await types(alice, room, typing=True, timeout=wanted)
    nid = (await hearth.ctx.live.room(room)).nid
    async with hearth.ctx.db.read() as tx:
        left = await tx.fetchval(
            "SELECT extract(epoch FROM until - now()) FROM typing WHERE room_nid = $1",
            nid,
        )
    assert 0 < left <= 120


async def test_what_is_no_typing_is_refused(alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    for body in ({}, {"typing": "yes"}, {"typing": True, "timeout": "long"}):
        assert await refusal(types(alice, room, **body)) == BAD_JSON
    where = path("rooms", room, "typing", bob.user_id)
    assert await refusal(alice.put(where, {"typing": True})) == FORBIDDEN
    assert await refusal(types(carol, room, typing=True)) == FORBIDDEN


async def test_typing_is_dropped_when_there_is_too_much_to_write(
    hearth, alice, monkeypatch
):
    room = await alice.creates_room()

    def full(*_: object) -> None:
        raise Overloaded

    monkeypatch.setattr(type(hearth.ctx.live.committer), "submit", full)
    await types(alice, room, typing=True)
    monkeypatch.undo()
    assert await typing(hearth, room) == []


async def test_users_of_other_servers_type_where_they_are(hearth, alice, bob):
    ctx = hearth.ctx
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)

    async def told(user: str, where: str = room, *, typing: bool = True) -> None:
        content = {"room_id": where, "user_id": user, "typing": typing}
        await edus.receive(ctx, "hearth.test", content)

    await told("@stranger:hearth.test")
    await told(bob.user_id, "!nowhere:hearth.test")
    assert await typing(hearth, room) == []
    await told(bob.user_id)
    assert await typing(hearth, room) == [bob.user_id]
    await told(bob.user_id, typing=False)
    assert await typing(hearth, room) == []
