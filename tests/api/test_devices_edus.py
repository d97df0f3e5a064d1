"""What other servers tell of devices: nonsense is refused and breaks nothing."""

import contextlib

import pytest

from federation.errors import Malformed
from homeserver.devices import edus
from tests.support.app import Running
from tests.support.client import Client

FAR = "far.test"
USER = f"@x:{FAR}"


def variations(good: dict, wrong: list) -> list[dict]:
    """The content with each of its values wrong in every way, or missing."""
    return [
        *({**good, name: value} for name in good for value in wrong),
        *({k: v for k, v in good.items() if k != name} for name in good),
    ]


WRONG = [None, 1, -(2**60), 1.5, "", "x" * 70_000, "\0", "\x10", [], {}, [[1]], True]
MESSAGE = {
    "sender": USER,
    "type": "m.x",
    "message_id": "m1",
    "messages": {"@nobody:hearth.test": {"*": {}}},
}
LIST = {
    "user_id": USER,
    "device_id": "D",
    "stream_id": 5,
    "prev_id": [4],
    "deleted": False,
    "device_display_name": "x",
    "keys": {"user_id": USER, "device_id": "D"},
}
SIGNING = {"user_id": USER, "master_key": {}, "self_signing_key": {}}


async def far_user_in_a_room(hearth: Running, alice: Client) -> None:
    """As if a user of another server were in a room with one of ours."""
    room = await alice.creates_room()
    event = await alice.sends(room, "x")
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO memberships
                   (room_nid, user_id, membership, event_nid, position, local)
            SELECT room_nid, $2, 'join', event_nid, position, false
              FROM events WHERE event_id = $1
            """,
            event,
            USER,
        )


@pytest.mark.parametrize(
    ("receive", "good"),
    [
        (edus.receive_message, MESSAGE),
        (edus.receive_device_list_update, LIST),
        (edus.receive_signing_key_update, SIGNING),
    ],
    ids=["message", "list", "signing"],
)
async def test_nonsense_is_refused_and_breaks_nothing(
    hearth: Running, alice: Client, receive, good: dict
):
    await far_user_in_a_room(hearth, alice)
    for content in variations(good, WRONG):
        with contextlib.suppress(Malformed):
            await receive(hearth.ctx, FAR, content)
    await alice.syncs()


async def test_a_server_speaks_for_its_own_users_only(hearth: Running, alice: Client):
    for receive, content in (
        (edus.receive_message, {**MESSAGE, "sender": alice.user_id}),
        (edus.receive_device_list_update, {**LIST, "user_id": alice.user_id}),
        (edus.receive_signing_key_update, {"user_id": alice.user_id}),
    ):
        with pytest.raises(Malformed):
            await receive(hearth.ctx, FAR, content)
