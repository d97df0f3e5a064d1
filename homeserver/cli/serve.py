"""One process that serves: the whole server, or one of several identical ones."""

import gc
import os
import sys
from pathlib import Path
from typing import Final

from homeserver import logs, memory
from homeserver.app import Server
from homeserver.cli import greeting, running
from homeserver.cli.slot import Slot, ToParent
from homeserver.config import Config
from homeserver.http.siblings import Siblings

_TURN_SECONDS: Final = 0.001  # of a thread, when others wait

# New objects, and searches of the young and the middle-aged, before the next search.
_GARBAGE_THRESHOLDS: Final = (20_000, 20, 20)

# How long connections are kept by a process whose place others take.
_LINGER_SECONDS: Final = 2.0


def serve(config: Config, named: Path | None) -> None:
    """Run the server until Ctrl-C or SIGTERM. Raises: what EXPECTED names."""
    memory.tame_allocator()
    logs.set_up(config.logging.level, config.logging.format)

    async def greet(server: Server) -> None:
        _settle()
        server.context.live.follower.on_loss = start_over
        for address in server.addresses:
            greeting.say_where(config, address)
        await greeting.say_first_steps(server.context.db, named)

    running.run(config, Server, greet, linger)


def serve_in(slot: Slot) -> None:
    """Be one of several processes, until the parent says that it is enough, or is gone.

    Raises: what EXPECTED names.
    """
    memory.tame_allocator()
    config = Config.load(slot.file)
    logs.set_up(config.logging.level, config.logging.format, process=slot.number)
    parent = ToParent(slot)

    async def greet(_server: Server) -> None:
        _settle()
        parent.say_ready()

    server = Server(
        config,
        slot.dsn or config.database_url,
        descriptors=slot.listening,
        siblings=Siblings(slot.number, slot.counts, slot.telling),
    )
    running.run_one_of_several(server, greet, linger, parent.until_gone)


def start_over() -> None:
    """Be as new, without a word to anybody, as after a crash."""
    again = [sys.executable, *sys.orig_argv[1:]]
    os.execv(sys.executable, again)  # noqa: S606 - the same command


def linger(server: Server) -> None:
    """Others take over: give what comes on our connections a last answer."""
    server.linger_s = _LINGER_SECONDS


def _settle() -> None:
    spare_pauses()
    take_short_turns()


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
