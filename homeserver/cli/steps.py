"""What a command says while it works, and how it ends; without libraries.

`hearth serve` needs no more than this: what parses and paints for the other commands
would stay in the server's memory.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from federation.errors import ProtocolError
from homeserver.config import ConfigError
from homeserver.db.errors import DatabaseError
from homeserver.http.sockets import CannotListen
from homeserver.signing_key import UnusableKey

INTERRUPTED: Final = 130  # 128 + SIGINT
_GREEN: Final = "32"
_FAINT: Final = "2"
_RED: Final = "1;31"
_TO_START: Final = "\r\x1b[K"  # to the start of the line, which is wiped


class Refused(Exception):  # noqa: N818 - reads as a sentence at the raise
    """What was asked for cannot be done; the text says why."""


# What is wrong with the surroundings and not with us: told in a line, no traceback.
EXPECTED: Final = (
    CannotListen,
    ConfigError,
    DatabaseError,
    ProtocolError,
    Refused,
    UnusableKey,
)


class Steps:
    """Shows what is being done: a line that is wiped at a terminal, plain lines else.

    Call it with each step's name; the one before counts as done.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._step = ""
        self._since = 0.0

    @property
    def _out(self) -> TextIO:
        # Looked up late: whoever replaces sys.stdout gets the steps as well.
        return self._stream or sys.stdout

    def __call__(self, step: str) -> None:
        """Begin a step."""
        if self._quiet:
            return
        if not self._out.isatty():
            self._write(f"{step}\n")
            return
        self.done()
        self._step, self._since = step, time.monotonic()
        self._write(f"… {step}")

    def done(self) -> None:
        """End the step that is under way."""
        if not self._step:
            return
        seconds = time.monotonic() - self._since
        mark = _painted("✓", _GREEN, self._out)
        took = _painted(f"{seconds:.1f} s", _FAINT, self._out)
        self._write(f"{_TO_START}{mark} {self._step} {took}\n")
        self._step = ""

    def interrupted(self) -> None:
        """Take the line away: the step did not end well."""
        if self._step:
            self._write(_TO_START)
            self._step = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _painted(text: str, colour: str, stream: TextIO) -> str:
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def say(text: str) -> None:
    """A line of the answer."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fail(text: str) -> None:
    """Say what is wrong."""
    sys.stderr.write(f"{_painted('hearth:', _RED, sys.stderr)} {text}\n")


def ending_well_or_told(work: Callable[[], None]) -> None:
    """Do it; what is wrong with the surroundings is told, and ends the process."""
    try:
        work()
    except EXPECTED as error:
        fail(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def myself() -> str:
    """The command as it can be typed again: `hearth`, or by its path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{sys.executable} -m homeserver"
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    return str(called)
