"""`hearth room reversals`: where did my ban go?"""

import asyncio
import io
import sys

import pytest

from federation.signatures import SigningKey
from homeserver.bounded import MIB, LruCache
from homeserver.cli.main import main
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.context import Context
from homeserver.db.pool import Database
from homeserver.live.live import Live
from tests.support.forks import Forked


@pytest.fixture
def hearth(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["hearth", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
async def dsn(new_dsn):
    return await new_dsn()


async def forked(dsn):
    """A room with a fork: who bans has given the power to do so away elsewhere."""
    async with await Database.connect(dsn, size=4) as database:
        live = Live(database, "example.org")
        await live.start()
        ctx = Context(
            config=Config(),
            server_name="example.org",
            db=database,
            key=SigningKey.generate("1"),
            wire=None,
            live=live,
            clock=Clock(),
            known_keys=LruCache("server keys", MIB, 300),
        )
        room = await Forked.make(ctx, 3)
        creator, other = room.moderators
        mine, theirs = dict(room.state), dict(room.state)
        levels = {"users": {creator: 100, other: 0}}
        taken = room.event(other, "m.room.power_levels", levels, "", [room.join], mine)
        ban = room.event(
            other,
            "m.room.member",
            {"membership": "ban", "reason": "enough"},
            room.people[0],
            [room.join],
            theirs,
        )
        await room.accepts(ban, taken)
        await live.stop()
        return room.room_id, ban, taken, room.people[0]


def test_it_tells_what_was_undone_when_and_why(hearth, tmp_path, dsn):
    (tmp_path / "hearth.toml").write_text(
        f'server_name = "example.org"\ndatabase_url = "{dsn}"\n'
    )
    status, _, said = hearth("room", "reversals", "!none:example.org")
    assert status != 0
    assert "there is no room !none:example.org" in said
    room_id, ban, taken, target = asyncio.run(forked(dsn))
    status, out, said = hearth("room", "reversals", room_id)
    assert status == 0, said
    (line,) = out.splitlines()
    when, what, lost, won, by, why = line.split("\t")
    assert len(when) == 19
    assert what == f"m.room.member {target}"
    assert lost == f"{ban.event_id} by {ban.sender}"
    assert won.endswith(f" by {target}")
    assert by == taken.event_id
    assert why.startswith("refused after all: rule ")
    assert hearth("room", "reversals", room_id, "--limit", "0")[0] != 0
