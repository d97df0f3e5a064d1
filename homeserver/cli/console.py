"""The terminal of the commands that paint and ask."""

import sys
from typing import Final

from rich.console import Console

out: Final = Console(highlight=False, soft_wrap=True)


def ask(question: str, default: str = "") -> str:
    """Ask at the terminal; the default when the answer is empty."""
    hint = f" [{default}]" if default else ""
    sys.stdout.write(f"{question}{hint}: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip() or default


def at_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
