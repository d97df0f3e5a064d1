"""TOML as text: where in a TOML file a key stands, and TOML from values.

`tomllib` says what a file holds and not where, so `locate` goes over the text once
more. It is only asked about texts that `tomllib` has accepted.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_SPACE: Final = re.compile(r"[ \t\r\n]+|#[^\n]*")
_HEADER: Final = re.compile(r"(\[\[?)[ \t]*")
_KEY: Final = re.compile(
    r"""[ \t]*(?: "(?P<basic>(?:[^"\\]|\\.)*)" | '(?P<literal>[^']*)'
         | (?P<bare>[A-Za-z0-9_-]+) )[ \t]*""",
    re.VERBOSE,
)
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'',
    re.DOTALL,
)
_DECODE_ERROR: Final = re.compile(r"(.*) \(at line (\d+), column (\d+)\)")
WIDTH: Final = 80


class Places:
    """The lines of the keys of one TOML text."""

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self._lines = lines

    def line(self, path: KeyPath) -> int | None:
        """The line of that key, or of the nearest thing around it that has one."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


def locate(text: str) -> Places:
    """Where the tables and keys of a valid TOML text stand."""
    return Places(_Scanner(text).scan())


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._table: KeyPath = ()
        self._counts: dict[KeyPath, int] = {}
        self._lines: dict[KeyPath, int] = {}

    def scan(self) -> Mapping[KeyPath, int]:
        while self._skip_space():
            line = self._text.count("\n", 0, self._at) + 1
            if header := _HEADER.match(self._text, self._at):
                self._at = header.end()
                self._enter(tuple(self._keys()), many=header[1] == "[[")
                self._at += len(header[1])
                self._lines.setdefault(self._table, line)
            else:
                keys = tuple(self._keys())
                self._at += 1  # "="
                for length in range(1, len(keys) + 1):
                    self._lines.setdefault(self._table + keys[:length], line)
                self._skip_value()
        return self._lines

    def _skip_space(self) -> bool:
        while match := _SPACE.match(self._text, self._at):
            self._at = match.end()
        return self._at < len(self._text)

    def _keys(self) -> Iterator[str]:
        while match := _KEY.match(self._text, self._at):
            self._at = match.end()
            if match["basic"] is not None:
                yield json.loads(f'"{match["basic"]}"', strict=False)
            else:
                yield (
                    match["literal"] if match["literal"] is not None else match["bare"]
                )
            if not self._text.startswith(".", self._at):
                return
            self._at += 1

    def _enter(self, keys: tuple[str, ...], *, many: bool) -> None:
        """The table that a header names, through the last of each list of tables."""
        path: KeyPath = ()
        for number, key in enumerate(keys, 1):
            path += (key,)
            if many and number == len(keys):
                self._counts[path] = self._counts.get(path, -1) + 1
                self._lines.setdefault(path, self._text.count("\n", 0, self._at) + 1)
            if path in self._counts:
                path += (self._counts[path],)
        self._table = path

    def _skip_value(self) -> None:
        """Go to the end of the line on which the value ends."""
        depth = 0
        while self._at < len(self._text):
            if match := _STRING.match(self._text, self._at):
                self._at = match.end()
                continue
            mark = self._text[self._at]
            if mark == "#":
                end = self._text.find("\n", self._at)
                self._at = end if end >= 0 else len(self._text)
                continue
            if mark == "\n" and depth == 0:
                return
            depth += (mark in "[{") - (mark in "]}")
            self._at += 1


def decode_error(message: str) -> tuple[str, int | None]:
    """What a TOMLDecodeError says, and on which line."""
    if match := _DECODE_ERROR.fullmatch(message):
        return f"{match[1]} (column {match[3]})", int(match[2])
    return message, None


def to_toml(value: object) -> str:
    """A value as TOML writes it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # JSON's escapes are all TOML's too, but for the slash, which JSON leaves.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(map(to_toml, value)) + "]"
        case dict():
            inner = ", ".join(f"{k} = {to_toml(v)}" for k, v in value.items())
            return "{ " + inner + " }" if inner else "{}"
        case _:
            return str(value)


def comment(text: str) -> Iterator[str]:
    """The text as comment lines."""
    for line in textwrap.wrap(text, WIDTH - 2):
        yield f"# {line}"
