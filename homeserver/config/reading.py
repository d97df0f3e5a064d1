"""A TOML file turned into Structs, with everything that is wrong told at once.

Knows no key by name: types, bounds, checks and paths are in the Structs' fields
(`msgspec.Meta`, its `extra` holding `check`, a function, and `path`, "file" for one
that must be readable or "place" for one that need not be there).
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, structs

from homeserver.config.text import KeyPath, Places, decode_error, locate, to_toml

S = TypeVar("S", bound=Struct)

# Keys whose values are passwords or hold some: never shown.
_PRIVATE: Final = re.compile("secret|password|url")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and the line as it could be right."""

    line: int | None
    text: str
    mended: str = ""


class ConfigError(Exception):
    """The configuration is wrong; the text lists everything, with its lines."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = list(problems)
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for problem in self.problems:
            line = f":{problem.line}" if problem.line else ""
            yield f"{self.file}{line}: {problem.text}"
            if problem.mended:
                yield f"    {problem.mended}"


def read_text(path: Path) -> str:
    """The file's text. Raises: ConfigError when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = Problem(None, f"cannot be read: {error.strerror or error}")
        raise ConfigError(str(path), [problem]) from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(line, "this is not UTF-8 text")
        raise ConfigError(str(path), [problem]) from None


def read(type_: type[S], text: str, name: str, base: Path) -> S:
    """The Struct that the text describes; relative file names begin at `base`.

    Raises: ConfigError with all that is wrong.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, line = decode_error(str(error))
        raise ConfigError(name, [Problem(line, f"this is not TOML: {what}")]) from None
    reader = _Reader(type_, locate(text))
    config = reader.struct(type_, tables, ())
    if not reader.problems:
        config = reader.resolve(config, base, ())
    if reader.problems:
        raise ConfigError(name, sorted(reader.problems, key=lambda p: p.line or 0))
    return config


def resolve(config: S, base: Path) -> S:
    """The same with absolute file names, whatever is there or not."""
    return _Reader(type(config), Places({})).resolve(config, base, ())


def meta_of(type_: object) -> tuple[Any, Meta]:
    """The type without its annotation, and that."""
    if get_origin(type_) is Annotated:
        inner, *metas = get_args(type_)
        return inner, next((m for m in metas if isinstance(m, Meta)), Meta())
    return type_, Meta()


def section_type(type_: object) -> type[Struct] | None:
    """The Struct of a section or of a list of them; None for a plain value."""
    inner = get_args(type_)[0] if get_origin(type_) is tuple else type_
    if isinstance(inner, type) and issubclass(inner, Struct):
        return inner
    return None


@dataclass(slots=True)
class _Reader:
    """Collects what does not fit while it goes through the tables."""

    root: type[Struct]
    places: Places
    problems: list[Problem] = field(default_factory=list)

    def struct(self, type_: type[S], table: Mapping[str, Any], at: KeyPath) -> S:
        """The table as a Struct; what does not fit has its default."""
        known = {f.name: f.type for f in structs.fields(type_)}
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in known:
                self._unknown(key, value, at, known)
                continue
            read_value = self._value(known[key], key, value, (*at, key))
            if read_value is not msgspec.UNSET:
                values[key] = read_value
        try:
            return type_(**values)
        except ValueError as error:  # of its __post_init__: a reason, a place within
            if not self.problems:  # else it may be the defaults that do not fit
                reason, *place = error.args
                self._complain((*at, *place), reason)
            return type_()

    def resolve(self, struct: S, base: Path, at: KeyPath) -> S:
        """The Struct with absolute file names; complains of what cannot be read."""
        changed: dict[str, Any] = {}
        for one in structs.fields(struct):
            value = getattr(struct, one.name)
            _, meta = meta_of(one.type)
            kind = (meta.extra or {}).get("path")
            if kind and isinstance(value, tuple):
                paths = [(base / Path(v).expanduser()).absolute() for v in value]
                changed[one.name] = tuple(map(str, paths))
                for number, path in enumerate(paths):
                    self._check_file(path, (*at, one.name, number))
            elif kind and value:
                path = (base / Path(value).expanduser()).absolute()
                changed[one.name] = str(path)
                if kind == "file":
                    self._check_file(path, (*at, one.name))
            elif isinstance(value, Struct):
                changed[one.name] = self.resolve(value, base, (*at, one.name))
            elif section_type(one.type) is not None:
                changed[one.name] = tuple(
                    self.resolve(part, base, (*at, one.name, number))
                    for number, part in enumerate(value)
                )
        return structs.replace(struct, **changed)

    def _check_file(self, path: Path, at: KeyPath) -> None:
        if not os.access(path, os.R_OK) or path.is_dir():
            self._complain(at, f"`{at[-1]}`: there is no readable file {path}")

    def _complain(self, at: KeyPath, text: str, mended: str = "") -> None:
        if at and _PRIVATE.search(str(at[-1])):
            mended = ""
        self.problems.append(Problem(self.places.line(at), text, mended))

    def _value(self, type_: object, key: str, value: object, at: KeyPath) -> object:
        section = section_type(type_)
        if section is None:
            return self._plain(type_, key, value, at)
        if get_origin(type_) is not tuple:
            if isinstance(value, dict):
                return self.struct(section, value, at)
            self._complain(at, f"`{key}` is a section: write [{key}]", f"[{key}]")
        elif isinstance(value, list) and all(isinstance(v, dict) for v in value):
            return tuple(
                self.struct(section, part, (*at, number))
                for number, part in enumerate(value)
            )
        else:
            text = f"`{key}` may be there several times: write [[{key}]]"
            self._complain(at, text, f"[[{key}]]")
        return msgspec.UNSET

    def _plain(self, type_: object, key: str, value: object, at: KeyPath) -> object:
        try:
            fitting = msgspec.convert(value, type_)
        except msgspec.ValidationError:
            mended = mend(type_, value)
            self._complain(
                at,
                f"`{key}` must be {describe(type_)}, not {_shown(key, value)}",
                f"{key} = {to_toml(mended)}" if mended is not None else "",
            )
            return msgspec.UNSET
        check = (meta_of(type_)[1].extra or {}).get("check")
        try:
            if check is not None:
                check(fitting)
        except ValueError as error:
            self._complain(at, f"`{key}`: {error}")
            return msgspec.UNSET
        return fitting

    def _unknown(
        self, key: str, value: object, at: KeyPath, known: Mapping[str, object]
    ) -> None:
        what = "section" if isinstance(value, dict) and not at else "key"
        text = f"unknown {what} `{key}`" + (f" in [{at[0]}]" if at else "")
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        home = self._home_of(key)
        mended = ""
        if near:
            text += f"; did you mean `{near[0]}`?"
            mended = f"{near[0]} = {to_toml(value)}"
            if section_type(known[near[0]]) is not None:
                many = get_origin(known[near[0]]) is tuple
                mended = f"[[{near[0]}]]" if many else f"[{near[0]}]"
        elif home is not None:
            text += f"; it belongs {home}"
        else:
            text += "; there are: " + ", ".join(known)
        self._complain((*at, key), text, mended)

    def _home_of(self, key: str) -> str | None:
        """Where in the file such a key belongs."""
        for top in structs.fields(self.root):
            if top.name == key:
                return "at the top of the file, before all sections"
            section = section_type(top.type)
            if section and any(f.name == key for f in structs.fields(section)):
                many = get_origin(top.type) is tuple
                return f"in [[{top.name}]]" if many else f"in [{top.name}]"
        return None


def describe(type_: object) -> str:
    """What a value of the type is, in words."""
    inner, meta = meta_of(type_)
    if inner is bool:
        return "true or false"
    if inner is int:
        return f"an integer from {meta.ge} to {meta.le}"
    if get_origin(inner) is Literal:
        return "one of " + ", ".join(map(to_toml, get_args(inner)))
    if get_origin(inner) is tuple:
        item, _ = meta_of(get_args(inner)[0])
        some = "a list, not empty," if meta.min_length else "a list"
        if get_origin(item) is Literal:
            return f"{some} of any of " + ", ".join(map(to_toml, get_args(item)))
        return f"{some} of strings"
    return "a string"


def _shown(key: str, value: object) -> str:
    """A value in a message, shortened; what may be private is not shown."""
    text = "what it is" if _PRIVATE.search(key) else to_toml(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def mend(type_: object, value: object) -> object:
    """The value that was probably meant, or None."""
    inner, _ = meta_of(type_)
    if inner is bool:
        return _WORDS.get(str(value).lower())
    if get_origin(inner) is Literal:
        near = difflib.get_close_matches(str(value).lower(), get_args(inner), 1, 0.5)
        return near[0] if near else None
    if get_origin(inner) is tuple:
        return _fitting(type_, [value])
    if inner is int:
        digits = str(value).strip()
        return _fitting(type_, int(digits)) if digits.isdecimal() else None
    return str(value) if type(value) in (int, float) else None


def _fitting(type_: object, value: object) -> object:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return None
    return value
