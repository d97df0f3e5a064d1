"""Rooms of 2,000 members, which come after who joins: from Synapse and from us."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.agreement import agree
from tests.support.api import eventually, path
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.homeserver import Homeserver
from tests.support.resident import Resident
from tests.support.synapse import Synapse

MEMBERS = 2000
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def resident(
    ours: Homeserver, authority: CertificateAuthority, tmp_path: Path
) -> AsyncIterator[Resident]:
    """A third server, on which all these members are."""
    async with Resident(
        tmp_path / "resident", authority, MEMBERS, can_omit=True
    ) as made:
        yield made


async def _has(who: Client, room: str, members: int) -> None:
    async def all_there() -> bool:
        # Synapse holds this back until it has the whole state.
        status, reply = await who.answer(
            "GET", path("rooms", room, "joined_members"), seconds=120
        )
        return status == 200 and len(reply["joined"]) == members

    await eventually(all_there, f"{who.user_id} knows all members", seconds=120)


async def test_synapse_joins_through_us_and_we_through_synapse(
    ours: Homeserver, peer: Synapse, second: Homeserver, resident: Resident
) -> None:
    alice = await ours.registers("alice_in_the_crowd")
    bob = await peer.registers("bob_in_the_crowd")
    carol = await second.registers("carol_in_the_crowd")
    room = await alice.joins(resident.room_id, via=resident.name)
    await _has(alice, room, MEMBERS + 1)
    # Each reads and writes before the members are there.
    await bob.joins(room, via=alice)
    await bob.sends(room, "hello from Synapse")
    await alice.sees(room, "hello from Synapse", by=bob)
    await _has(bob, room, MEMBERS + 2)
    await carol.joins(room, via=bob)
    await carol.sends(room, "hello through Synapse")
    for who in (alice, bob):
        await who.sees(room, "hello through Synapse", by=carol, seconds=60)
    await _has(carol, room, MEMBERS + 3)
    await agree(room, alice, bob)
    await agree(room, bob, carol)
