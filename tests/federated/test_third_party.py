"""Invites of e-mail addresses across servers."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client
from tests.support.identity import Identity
from tests.support.sites import Site, agree

KIND = "m.room.third_party_invite"


async def test_an_address_that_belongs_to_a_user_of_another_server(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    identity = Identity()
    room = await alice.creates_room()
    await alice.sets_state(room, KIND, identity.invite(), "token")
    body = identity.bound(bob.user_id, alice.user_id, room, "token")
    where = "/_matrix/federation/v1/3pid/onbind"
    wire = a.processes[0].ctx.wire
    await wire.request(b.name, "PUT", where, body=body, signed=False)
    await bob.is_shown(room, "invite")
    await bob.joins(room)
    await alice.sees_member(room, bob, "join")
    await agree(room, a, b)


async def test_joining_with_what_an_identity_server_signed(
    a: Site, b: Site, alice: Client, bob: Client
) -> None:
    identity = Identity()
    room = await alice.creates_room()
    await alice.sets_state(room, KIND, identity.invite(), "token")
    where = path("rooms", room, "join")
    forged = {**Identity().signed(bob.user_id, "token"), "sender": alice.user_id}
    with pytest.raises(RefusedError) as refused:
        await bob.post(where, {"third_party_signed": forged})
    assert refused.value.status == 403
    signed = {**identity.signed(bob.user_id, "token"), "sender": alice.user_id}
    await bob.post(where, {"third_party_signed": signed})
    await alice.sees_member(room, bob, "join")
    await agree(room, a, b)
