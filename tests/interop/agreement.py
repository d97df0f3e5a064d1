"""Whether two servers hold the same room."""

from tests.support.api import eventually
from tests.support.client import Client

State = dict[tuple[str, str], str]


async def state_ids(who: Client, room: str) -> State:
    return {
        key: event["event_id"] for key, event in (await who.full_state(room)).items()
    }


async def agree(room: str, one: Client, other: Client) -> None:
    """Wait until both see the same state, event by event."""
    ours: State = {}
    theirs: State = {}

    async def same() -> bool:
        nonlocal ours, theirs
        ours, theirs = await state_ids(one, room), await state_ids(other, room)
        return ours == theirs

    try:
        await eventually(same, "the states are the same", seconds=30)
    except AssertionError:
        differing = {
            key: (ours.get(key), theirs.get(key))
            for key in ours.keys() | theirs.keys()
            if ours.get(key) != theirs.get(key)
        }
        raise AssertionError(f"the states of {room} differ: {differing}") from None


async def both_hear(room: str, *people: Client) -> None:
    """Each says something and all see it: the room works in every direction."""
    for speaker in people:
        said = await speaker.sends(room, f"I am {speaker.user_id}")
        for listener in people:
            await listener.sees_id(room, said)
