"""A real bridge: people on IRC and on our server talk, and restarts lose nothing.

It is heisenbridge, which others wrote for Synapse, between our server and ngircd.
"""

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.interop.conftest import keep_log
from tests.support.api import eventually, path
from tests.support.certificates import CertificateAuthority
from tests.support.client import Client
from tests.support.hearth import Hearth
from tests.support.irc import Heisenbridge, IrcPerson, IrcServer

CHANNEL = "#hearth"


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[IrcServer]:
    if not os.environ.get("HEARTH_INTEROP"):
        pytest.skip("HEARTH_INTEROP is not set: `make interop` runs these")
    async with IrcServer(tmp_path / "irc") as server:
        yield server


@pytest.fixture
async def ian(irc: IrcServer) -> AsyncIterator[IrcPerson]:
    person = IrcPerson("ian")
    await person.connects(irc)
    yield person
    await person.leaves()


async def invited(who: Client, *, but: Sequence[str] = (), asking: str = "") -> str:
    """Take the next invite to a room, or ask for it in the last of these; its ID."""
    found: list[str] = []

    async def attempt() -> bool:
        if asking:
            await who.sends(but[-1], asking)
        reply = await who.syncs(wait=1)
        invites = reply.get("rooms", {}).get("invite", {})
        found.extend(room for room in invites if room not in but)
        return bool(found)

    await eventually(attempt, f"{who.user_id} is invited")
    return await who.joins(found[0])


def said(who: Client, room: str, *, not_by: str) -> list[str]:
    """What others than the bridge's own user said in a room."""
    return [
        event["content"]["body"]
        for event in who.seen.room(room).timeline
        if event["type"] == "m.room.message"
        and event["sender"] not in (who.user_id, not_by)
    ]


async def test_people_talk_through_a_bridge(
    irc: IrcServer, ian: IrcPerson, tmp_path: Path, authority: CertificateAuthority
) -> None:
    server = Hearth(tmp_path / "ours", authority)
    owner = f"@ann:{server.name}"
    bridge = Heisenbridge(tmp_path / "bridge", server.base_url, owner)
    server.registrations = (bridge.file,)
    ian.joins(CHANNEL)
    async with server:
        ann = await server.registers("ann")
        await bridge.start()
        try:
            await _talk(server, ann, bridge, irc, ian)
        finally:
            await bridge.child.kill()
            keep_log(server)


async def _talk(
    server: Hearth, ann: Client, bridge: Heisenbridge, irc: IrcServer, ian: IrcPerson
) -> None:
    bot = f"@{bridge.localpart}:{server.name}"
    control = await invited(ann, but=())
    await ann.sends(control, "ADDNETWORK test")
    await ann.sends(control, f"ADDSERVER test 127.0.0.1 {irc.port}")
    await ann.sends(control, "OPEN test")
    network = await invited(ann, but=[control])
    await ann.sends(network, "NICK ann")
    await ann.sends(network, "CONNECT")
    room = await invited(ann, but=[control, network], asking=f"JOIN {CHANNEL}")
    await ian.sees_join(CHANNEL, "ann")

    # Both ways.
    await ann.sends(room, "hello from matrix")
    await ian.hears(CHANNEL, "hello from matrix")
    ian.says(CHANNEL, "hello from irc")
    event = await ann.sees(room, "hello from irc")
    assert event["sender"].startswith("@irc_")
    name = await ann.get(path("profile", event["sender"], "displayname"))
    assert name["displayname"] == "ian"

    # Our server stops and dies with something to tell: it tells that afterwards. What
    # IRC says while the server is away is dropped by this bridge.
    bridge.pauses()
    await ann.sends(room, "before the restart")
    await server.stop()
    await server.start()
    ann.http = lambda: server.http
    await ann.sends(room, "before the crash")
    await server.kill()
    await server.start()
    bridge.goes_on()
    await ian.hears(CHANNEL, "before the restart")
    await ian.hears(CHANNEL, "before the crash")
    ian.says(CHANNEL, "still here")
    await ann.sees(room, "still here")

    # The bridge is away for a while: our server keeps what Matrix says.
    await bridge.stop()
    await ann.sends(room, "while the bridge was away")
    await bridge.start()
    await ian.sees_join(CHANNEL, "ann")
    ian.says(CHANNEL, "welcome back")
    await ann.sees(room, "welcome back", seconds=60)
    await ann.sends(room, "thanks")
    await ian.hears(CHANNEL, "thanks")

    assert said(ann, room, not_by=bot) == [
        "hello from irc",
        "still here",
        "welcome back",
    ]
    # What comes before the bridge is back on IRC, this bridge says or drops.
    texts = ian.texts(CHANNEL)
    assert len(texts) == len(set(texts))
    assert [t for t in texts if t != "while the bridge was away"] == [
        "hello from matrix",
        "before the restart",
        "before the crash",
        "thanks",
    ]
