"""What a step to another state changes in the room's current state and memberships."""

from collections.abc import Mapping

from federation.ids import UserId
from federation.pdu import StateKey
from homeserver.live.live import Live
from homeserver.live.steps import Step
from homeserver.live.writers import RoomWriter
from homeserver.rooms.build import note_membership


async def note_state(live: Live, writer: RoomWriter, step: Step, root: int) -> None:
    """What the current state becomes, found by its difference to what it was."""
    difference = await live.states.diff(writer.head.state_root, root)
    await note_changes(live, writer, step, difference)


async def note_changes(
    live: Live,
    writer: RoomWriter,
    step: Step,
    difference: Mapping[StateKey, tuple[int | None, int | None]],
) -> None:
    """The same where it is known what differs: the events before and after by key."""
    step.state = {key: after for key, (_, after) in difference.items()}
    step.state_key_nids = await live.states.keys.nids(difference)
    members = {k: pair for k, pair in difference.items() if k[0] == "m.room.member"}
    events = await live.events.by_nids(
        nid for _, nid in members.values() if nid is not None
    )

    def was_joined(user_id: UserId) -> bool:
        return writer.membership(user_id) == "join"

    for (_, state_key), (old, new) in members.items():
        event = None if new is None else events[new]
        nid = new if new is not None else old
        if nid is not None:
            pdu = None if event is None else event.pdu
            note_membership(step, was_joined, state_key, pdu, nid)
