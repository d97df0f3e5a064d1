"""The demo fails when something does not arrive; that it succeeds is `make demo`."""

import asyncio
import sys

import pytest

from homeserver.cli import demo as command
from homeserver.cli.main import main
from homeserver.demo import people
from homeserver.demo.dialogue import Dialogue
from homeserver.demo.people import DidNotArrive, Person
from homeserver.demo.servers import DidNotStart


class Fake(Person):
    """A person whose server answers from a table; `timeline` is what syncs show."""

    timeline = ()

    async def ask(self, method, path, body=None):
        await asyncio.sleep(0.01)
        if path == "/createRoom":
            return {"room_id": "!r:a"}
        if path.startswith("/sync"):
            joined = {"!r:a": {"timeline": {"events": list(self.timeline)}}}
            return {"next_batch": "s1", "rooms": {"join": joined}}
        return {"event_id": "$1"}


def fake(name):
    return Fake(name, f"@{name}:a", "", "", None)


async def test_what_is_not_seen_in_time_is_an_error(monkeypatch):
    monkeypatch.setattr(people, "PATIENCE", 0.1)
    monkeypatch.setattr(Fake, "timeline", [{"event_id": "$1", "content": {}}])
    bob = fake("bob")
    assert await bob.sees("it", lambda event: event["event_id"] == "$1") >= 0
    with pytest.raises(DidNotArrive, match="bob does not see it"):
        await bob.sees("it", lambda event: event["event_id"] == "$2")


async def test_a_line_that_does_not_arrive_ends_the_dialogue(monkeypatch):
    monkeypatch.setattr(people, "PATIENCE", 0.1)
    joined = {
        "type": "m.room.member",
        "state_key": "@bob:a",
        "content": {"membership": "join"},
    }
    # Bob's join is seen, the first line comes with another text.
    changed = {"event_id": "$1", "content": {"body": "something else"}}
    monkeypatch.setattr(Fake, "timeline", [joined, changed])
    said = []
    dialogue = Dialogue(fake("alice"), fake("bob"), lambda *line: said.append(line))
    with pytest.raises(DidNotArrive):
        await dialogue.run()
    assert said[-1] == ("alice", "“Is anybody there?”")


def test_a_server_that_does_not_start_is_a_failure(monkeypatch, capsys):
    async def start(*_):
        raise DidNotStart("localhost:1 did not start")

    monkeypatch.setattr(command.DemoServer, "start", start)
    monkeypatch.setattr(sys, "argv", ["hearth", "demo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "did not start" in capsys.readouterr().err
