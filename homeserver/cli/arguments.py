"""The usual forms of `hearth serve`, read without the parser of the other commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_FILE: Final = Path("hearth.toml")
MOST_PROCESSES: Final = 64
_CONFIG: Final = ("--config", "-c")
_PROCESSES: Final = "--processes"


@dataclass(frozen=True, slots=True)
class Arguments:
    """`serve`, and what was said with it."""

    file: Path | None = None
    processes: int | None = None


def of_serve(words: Sequence[str]) -> Arguments | None:
    """What the arguments say, when they are `serve` and its options alone."""
    rest, said = list(words), dict[str, str]()
    commands = 0
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name == "serve" and not has_value:
            commands += 1
        elif name in (*_CONFIG, _PROCESSES) and (has_value or rest):
            said[name] = value if has_value else rest.pop(0)
        else:
            return None
    number = said.get(_PROCESSES)
    is_number = number is None or (number.isascii() and number.isdigit())
    if commands != 1 or not is_number:
        return None
    processes = None if number is None else int(number)
    if processes is not None and not 1 <= processes <= MOST_PROCESSES:
        return None  # the parser says what is wrong with it
    file = next((said[name] for name in _CONFIG if name in said), None)
    return Arguments(None if file is None else Path(file), processes)


def config_file(named: Path | None) -> Path | None:
    """The file that is named, or found here; None: no file."""
    return named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
