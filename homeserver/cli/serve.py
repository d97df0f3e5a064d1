"""`hearth serve`: run the server.

The usual forms of the command are read here, so that a server carries neither the
parser nor the painter of the other commands.
"""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from homeserver import logs, memory
from homeserver.accounts.store import overview
from homeserver.app import Server
from homeserver.cli import running
from homeserver.cli.steps import ending_well_or_told, myself, say
from homeserver.config import Config

DEFAULT_FILE: Final = Path("hearth.toml")
_OPTION: Final = ("--config", "-c")

_TURN_SECONDS: Final = 0.001  # of a thread, when others wait

# New objects, and searches of the young and the middle-aged, before the next search.
_GARBAGE_THRESHOLDS: Final = (20_000, 20, 20)


def named_file(arguments: Sequence[str]) -> tuple[bool, Path | None]:
    """Whether the arguments are `serve` alone, and the file of `--config FILE`."""
    words, named = list(arguments), None
    commands = 0
    while words:
        word = words.pop(0)
        if word == "serve":
            commands += 1
        elif word in _OPTION and words:
            named = Path(words.pop(0))
        elif word.startswith("--config="):
            named = Path(word.removeprefix("--config="))
        else:
            return False, None
    return commands == 1, named


def config_file(named: Path | None) -> Path | None:
    """The file that is named, or found here; None: no file."""
    return named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def serve(named: Path | None) -> None:
    """Run the server until Ctrl-C or SIGTERM. Raises: what EXPECTED names."""
    memory.tame_allocator()
    config = Config.load(config_file(named))
    logs.set_up(config.logging.level, config.logging.format)
    option = f" --config {named}" if named is not None else ""

    async def greet(server: Server) -> None:
        spare_pauses()
        take_short_turns()
        for address in server.addresses:
            served = ", ".join(address.serves) or "nothing: federation is switched off"
            say(f"listening at {address.url} for {served}")
        async with server.context.db.read() as tx:
            has_administrator = await overview.has_administrator(tx)
        if not has_administrator:
            say("make the first administrator with:")
            say(f"  {myself()} user create{option} NAME --admin")
        say("stop with Ctrl-C")

    running.run(config, Server, greet)


def take_short_turns() -> None:
    """Have threads give way to each other sooner than Python does by itself.

    Whoever answers requests waits for its turn at each system call while other threads
    check signatures: a dozen turns of 5 ms are felt.
    """
    sys.setswitchinterval(_TURN_SECONDS)


def spare_pauses() -> None:
    """Have the search for cyclic garbage pass over what was there from the start.

    It found next to nothing, and held everything up for 50 ms and more each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def main(named: Path | None) -> None:
    """The whole process of a server."""
    ending_well_or_told(lambda: serve(named))
    sys.exit(0)
