"""The same requests to two servers, and their replies brought into a form to compare.

A step is one request; `{name}` in it stands for what an earlier step kept. Of a reply
the status, the errcode, the keys and the types of values count, not the values.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.api import Json
from tests.support.client import Client

# Keys that are names of somebody or something.
_SIGILS = {"@": "<user>", "!": "<room>", "$": "<event>", "#": "<alias>"}
_NAME = re.compile(r"\{(\w+)\}")
_LOCALHOST = re.compile(r"localhost:\d+")


@dataclass(frozen=True)
class Step:
    """One request. `keeps` names values of the reply, by their place in it."""

    name: str
    method: str
    path: str
    body: Any = None
    who: str = "alice"
    query: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, str] = field(default_factory=dict)
    # Parts of the reply that are free: what a server advertises, for example.
    free: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What of a reply is compared."""

    status: int
    errcode: str | None
    shape: frozenset[str]

    def differences(self, other: "Outcome") -> list[str]:
        """What this one has otherwise than the other, line by line."""
        found = []
        if self.status != other.status:
            found.append(f"status {self.status}, not {other.status}")
        if self.errcode != other.errcode:
            found.append(f"errcode {self.errcode}, not {other.errcode}")
        if self.status < 400 and other.status < 400:
            found += [f"more: {line}" for line in sorted(self.shape - other.shape)]
            found += [f"less: {line}" for line in sorted(other.shape - self.shape)]
        return found


def shape_of(value: Any, free: Iterable[str], where: str = "") -> Iterator[str]:
    """The keys and types in a value, a line for each."""
    if where.lstrip(".") in free:
        return
    match value:
        case dict():
            if not value:
                yield f"{where or '.'}: object"
            for key, inner in value.items():
                name = _SIGILS.get(key[:1], _LOCALHOST.sub("<server>", key))
                yield from shape_of(inner, free, f"{where}.{name}")
        case list():
            yield f"{where}: list"
            for inner in value:
                yield from shape_of(inner, free, f"{where}[]")
        case bool():
            yield f"{where}: boolean"
        case int() | float():
            yield f"{where}: number"
        case None:
            yield f"{where}: null"
        case _:
            yield f"{where}: {type(value).__name__}"


class Player:
    """Plays steps to one server."""

    def __init__(self, people: Mapping[str, Client], server_name: str) -> None:
        self._people = people
        self._kept = {"server": server_name}
        for name, person in people.items():
            self._kept[f"{name}_id"] = person.user_id
            self._kept[f"{name}_device"] = person.device_id

    async def plays(self, step: Step) -> Outcome:
        """Make the request; what of the reply is compared."""
        status, reply = await self._people[step.who].answer(
            step.method,
            self._filled(step.path),
            self._filled(step.body),
            query={key: self._filled(value) for key, value in step.query.items()},
        )
        for name, place in step.keeps.items():
            self._kept[name] = _at(reply, place)
        errcode = reply.get("errcode") if status >= 400 else None
        free = (*step.free, "soft_logout", "error")
        return Outcome(status, errcode, frozenset(shape_of(reply, free)))

    def _filled(self, value: Any) -> Any:
        match value:
            case str():
                return _NAME.sub(lambda match: self._kept[match[1]], value)
            case dict():
                return {self._filled(k): self._filled(v) for k, v in value.items()}
            case list():
                return [self._filled(each) for each in value]
            case _:
                return value


def _at(reply: Json, place: str) -> str:
    value: Any = reply
    for part in place.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return str(value)
