"""What the command says: steps with their time, and errors without a traceback."""

import shutil
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status

out: Final = Console(highlight=False, soft_wrap=True)
err: Final = Console(highlight=False, soft_wrap=True, stderr=True)


class Steps:
    """Shows what is being done: a spinner at a terminal, plain lines elsewhere.

    Call it with each step's name; the one before counts as done.
    """

    def __init__(self, console: Console = out, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._status: Status | None = None
        self._step = ""
        self._since = 0.0

    def __call__(self, step: str) -> None:
        """Begin a step."""
        if self._quiet:
            return
        if not self._console.is_terminal:
            self._console.print(escape(step))
            return
        self.done()
        self._step, self._since = step, time.monotonic()
        self._status = self._console.status(escape(step))
        self._status.start()

    def done(self) -> None:
        """End the step that is under way."""
        if self._status is None:
            return
        self._status.stop()
        self._status = None
        seconds = time.monotonic() - self._since
        self._console.print(f"[green]✓[/] {escape(self._step)} [dim]{seconds:.1f} s[/]")

    def interrupted(self) -> None:
        """Take the spinner away: the step did not end well."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def myself() -> str:
    """The command as it can be typed again: `hearth`, or by its path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{sys.executable} -m homeserver"
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    return str(called)


def fail(text: str) -> None:
    """Say what is wrong."""
    err.print(f"[bold red]hearth:[/] {escape(text)}")


def ask(question: str, default: str = "") -> str:
    """Ask at the terminal; the default when the answer is empty."""
    hint = f" [{default}]" if default else ""
    sys.stdout.write(f"{question}{hint}: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip() or default


def at_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
