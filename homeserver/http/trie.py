"""Find the route of a path, by one dictionary look-up a segment.

Laws. The raw path is split at `/` before it is decoded, so `%2F` inside an identifier
stays in its segment. A literal segment goes before a parameter; if that way ends
nowhere, the parameter is tried. Names of parameters belong to the route, not to the
place in the tree, so `/rooms/{roomId}` and `/rooms/{roomIdOrAlias}/…` share one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

Target = TypeVar("Target")

_PARAMETER: Final = re.compile(r"\{([A-Za-z0-9_]+)\}")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadPath(ValueError):  # noqa: N818 - reads as a sentence at the raise
    """A path that cannot be decoded: a bad escape, or not UTF-8."""


@dataclass(slots=True)
class Node(Generic[Target]):
    """A place in the tree; `targets` by method when a path ends here."""

    literals: "dict[str, Node[Target]]" = field(default_factory=dict)
    parameter: "Node[Target] | None" = None
    targets: dict[str, Target] = field(default_factory=dict)


class Trie(Generic[Target]):
    """All paths, with what they lead to by method."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: Node[Target] = Node()

    def add(self, method: str, path: str, target: Target) -> None:
        """Add a path such as `/rooms/{roomId}/send`. Raises: ValueError, when taken."""
        node = self._root
        for segment in path.split("/")[1:]:
            if _PARAMETER.fullmatch(segment):
                if node.parameter is None:
                    node.parameter = Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, Node())
        if method in node.targets:
            raise ValueError(f"{method} {path} is there already")
        node.targets[method] = target

    def find(self, segments: Sequence[str]) -> tuple[dict[str, Target], list[str]]:
        """The targets by method and the parameters' values; no targets: unknown."""
        node = self._root
        values: list[str] = []
        for segment in segments:
            child = node.literals.get(segment)
            if child is None:
                child = node.parameter
                if child is None:
                    return self._find_otherwise(segments)
                values.append(segment)
            node = child
        if not node.targets:
            return self._find_otherwise(segments)
        return node.targets, values

    def _find_otherwise(
        self, segments: Sequence[str]
    ) -> tuple[dict[str, Target], list[str]]:
        """The same, trying parameters where literals lead nowhere."""
        ways: list[tuple[Node[Target], int, list[str]]] = [(self._root, 0, [])]
        while ways:
            node, depth, values = ways.pop()
            if depth == len(segments):
                if node.targets:
                    return node.targets, values
                continue
            segment = segments[depth]
            if node.parameter is not None:
                ways.append((node.parameter, depth + 1, [*values, segment]))
            literal = node.literals.get(segment)
            if literal is not None:
                ways.append((literal, depth + 1, values))
        return {}, []


def parameters_of(path: str) -> tuple[str, ...]:
    """The names of the parameters in a path, in order."""
    return tuple(_PARAMETER.findall(path))


def split(raw_path: str) -> list[str]:
    """The decoded segments of a raw path. Raises: BadPath."""
    segments = raw_path.split("/")
    del segments[0]
    if "%" in raw_path or not raw_path.isascii():
        return [_decode(segment) for segment in segments]
    return segments


def _decode(segment: str) -> str:
    if "%" not in segment and segment.isascii():
        return segment
    if _BAD_ESCAPE.search(segment):
        raise BadPath("a '%' must be followed by two hexadecimal digits")
    try:
        raw = segment.encode("utf-8", "surrogateescape")
        return unquote_to_bytes(raw).decode()
    except UnicodeError:
        raise BadPath("the path must be UTF-8") from None
