"""matrix-appservice-bridge, the library of most bridges that run on Node.js."""

import fcntl
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.support.api import path
from tests.support.certificates import CertificateAuthority
from tests.support.child import Child
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST, free_port, repository
from tests.support.irc import answers
from tests.support.javascript import node, npm

SOURCE = Path(__file__).parent / "bridge"


def install() -> Path:
    """The directory with the bridge in it. Installs what it needs once."""
    home = repository() / ".work" / "bridge"
    home.mkdir(parents=True, exist_ok=True)
    wanted = (SOURCE / "package-lock.json").read_text()
    ready = home / "installed.txt"
    with (home / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copytree(SOURCE, home, dirs_exist_ok=True)
        if not (ready.exists() and ready.read_text() == wanted):
            subprocess.run(
                [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=home,
                check=True,
                stdout=sys.stderr,
            )
            ready.write_text(wanted)
    return home


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[Hearth, Child, int]]:
    server = Hearth(tmp_path / "hearth", CertificateAuthority.create())
    port = free_port()
    file = tmp_path / "echo.yaml"
    namespaces = {
        "users": [{"exclusive": True, "regex": f"@echo_.*:{server.name}"}],
        "aliases": [{"exclusive": True, "regex": f"#echo_.*:{server.name}"}],
        "rooms": [],
    }
    registration = {
        "id": "echo",
        "url": f"http://{HOST}:{port}",
        "as_token": secrets.token_hex(16),
        "hs_token": secrets.token_hex(16),
        "sender_localpart": "echo",
        "rate_limited": False,
        "namespaces": namespaces,
    }
    file.write_text(yaml.safe_dump(registration))
    server.registrations = (file,)
    bridge = Child(
        [
            *(str(node()), "echo.cjs", str(file), server.base_url, server.name),
            str(port),
        ],
        log=tmp_path / "bridge.log",
        cwd=install(),
    )
    async with server:
        bridge.start()
        try:
            await answers(port, bridge)
            yield server, bridge, port
        finally:
            await bridge.kill()


async def test_a_bridge_of_node_lives_its_day(
    site: tuple[Hearth, Child, int],
) -> None:
    server, bridge, port = site
    ann = await server.registers("ann")

    # The room is made while ann asks for it, the user while somebody looks.
    room = await ann.joins(f"#echo_canyon:{server.name}")
    assert (await ann.state_of(room, "m.room.name"))["name"] == "Canyon"
    profile = await ann.get(path("profile", f"@echo_anybody:{server.name}"))
    assert profile["displayname"] == "An echo"

    async def hears(text: str, seconds: float = 20) -> None:
        def is_echo(event: dict) -> bool:
            is_puppet = event["sender"] == f"@echo_of_ann:{server.name}"
            return is_puppet and event["content"].get("body") == text

        await ann.sees_event(room, is_echo, f"the echo of {text!r}", seconds=seconds)

    await ann.sends(room, "hello")
    await hears("hello")

    # The bridge is away; what was said meanwhile comes back once it is there.
    await bridge.kill()
    for number in range(5):
        await ann.sends(room, f"is anybody there? {number}")
    bridge.start()
    await answers(port, bridge)
    for number in range(5):
        await hears(f"is anybody there? {number}", seconds=40)

    # So it does when the server dies.
    await ann.sends(room, "goodbye")
    await server.kill()
    await server.start()
    await hears("goodbye", seconds=40)
    echoes = [
        event["content"]["body"]
        for event in ann.seen.room(room).timeline
        if event["sender"] == f"@echo_of_ann:{server.name}"
        and event["type"] == "m.room.message"
    ]
    asked = [f"is anybody there? {number}" for number in range(5)]
    # Each once. The bridge answers what comes in one transaction side by side.
    assert [echoes[0], *sorted(echoes[1:-1]), echoes[-1]] == [
        "hello",
        *asked,
        "goodbye",
    ]
