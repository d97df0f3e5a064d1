"""Typing and read receipts, which go as EDUs."""

from tests.interop.agreement import both_hear
from tests.interop.stage import Stage


async def test_typing_goes_both_ways(newest: Stage) -> None:
    alice, bob = await newest.people()
    room = await newest.open_room(alice)
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    for speaker, listener in ((alice, bob), (bob, alice)):
        await speaker.sets_typing(room)
        await listener.sees_typing(room, speaker)
        await speaker.sets_typing(room, typing=False)
        await listener.sees_typing(room)


async def test_receipts_go_both_ways(newest: Stage) -> None:
    alice, bob = await newest.people()
    room = await newest.open_room(alice)
    await bob.joins(room, via=alice)
    await both_hear(room, alice, bob)
    for speaker, listener in ((alice, bob), (bob, alice)):
        said = await speaker.sends(room, "read this")
        await listener.sees_id(room, said)
        await listener.marks_read(room, said)
        await speaker.sees_receipt(room, said, by=listener)


async def test_nobody_types_in_rooms_of_others(newest: Stage) -> None:
    """Typing reaches only those in the room."""
    alice, bob = await newest.people()
    carol = await newest.another_guest()
    shared = await newest.open_room(alice)
    other = await newest.open_room(alice)
    await bob.joins(shared, via=alice)
    await carol.joins(other, via=alice)
    await both_hear(shared, alice, bob)
    await both_hear(other, alice, carol)
    await alice.sets_typing(shared)
    await bob.sees_typing(shared, alice)
    await alice.sends(other, "done")
    await carol.sees(other, "done")
    assert carol.seen.room(shared).typing == []
    assert carol.seen.room(other).typing == []
