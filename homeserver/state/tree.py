"""The persistent map from key_nid to event_nid: a hash-array-mapped trie.

Laws. Nodes never change and are shared between versions. The shape depends on the
content alone: a leaf splits when it holds more than LEAF_SIZE entries and a branch
closes to a leaf when no more than that remain. Nodes have numbers, not hashes, so two
roots may differ and yet hold the same; equality is the empty difference. Root 0 is the
empty map.

Nodes come from outside: operations are generators that yield the numbers of the nodes
they need and receive them, so that one body serves a cache hit and a database read.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

FAN_OUT: Final = 16
LEAF_SIZE: Final = 16
_BITS: Final = 4
_MAX_LEVEL: Final = 64 // _BITS
_MASK: Final = 2**64 - 1
_LEAF_TAG: Final = 0
_BRANCH_TAG: Final = 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """Up to LEAF_SIZE entries (more only where 64 bits of hash are used up)."""

    entries: dict[int, int]

    @property
    def count(self) -> int:
        """How many entries it holds."""
        return len(self.entries)


@dataclass(frozen=True, slots=True)
class Branch:
    """Sixteen children by the next four bits of the key's hash; 0 is none."""

    children: tuple[int, ...]
    count: int


Node: TypeAlias = Leaf | Branch
EMPTY: Final = Leaf({})
Result = TypeVar("Result")
# Yields node numbers it needs, receives those nodes, returns the result.
Walk: TypeAlias = Generator[frozenset[int], Mapping[int, Node], Result]


@dataclass(slots=True)
class Update:
    """The outcome of an update: the new root and the nodes that did not exist."""

    root: int
    nodes: list[tuple[int, Node]]


def hash_of(key: int) -> int:
    """Sixty-four well-mixed bits of a key (splitmix64); part of the stored format."""
    value = (key + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _digit(key: int, level: int) -> int:
    return (hash_of(key) >> (_BITS * level)) & (FAN_OUT - 1)


def corner_of(key: int) -> tuple[int, int]:
    """Where below the root, and below that, the key is."""
    return _digit(key, 0), _digit(key, 1)


def get(root: int, keys: Iterable[int]) -> Walk[dict[int, int]]:
    """The values of those keys that the map holds."""
    found: dict[int, int] = {}
    wanted: dict[int, list[int]] = {root: list(keys)} if root else {}
    level = 0
    while wanted:
        nodes = yield frozenset(wanted)
        below: dict[int, list[int]] = {}
        for nid, mine in wanted.items():
            node = nodes[nid]
            if isinstance(node, Leaf):
                found.update((k, node.entries[k]) for k in mine if k in node.entries)
                continue
            for key in mine:
                child = node.children[_digit(key, level)]
                if child:
                    below.setdefault(child, []).append(key)
        wanted = below
        level += 1
    return found


def items(root: int) -> Walk[dict[int, int]]:
    """Everything the map holds."""
    found: dict[int, int] = {}
    wanted = frozenset((root,)) if root else frozenset[int]()
    while wanted:
        nodes = yield wanted
        below: list[int] = []
        for nid in wanted:
            node = nodes[nid]
            if isinstance(node, Leaf):
                found.update(node.entries)
            else:
                below.extend(child for child in node.children if child)
        wanted = frozenset(below)
    return found


def diff(before: int, after: int) -> Walk[dict[int, tuple[int | None, int | None]]]:
    """The keys whose values differ, with both; only unshared nodes are read."""
    found: dict[int, tuple[int | None, int | None]] = {}
    pairs = [] if before == after else [(before, after)]
    level = 0
    while pairs:
        nodes = yield frozenset(nid for pair in pairs for nid in pair if nid)
        below: list[tuple[int, int]] = []
        for a, b in pairs:
            left = nodes[a] if a else EMPTY
            right = nodes[b] if b else EMPTY
            if isinstance(left, Branch) and isinstance(right, Branch):
                below.extend(
                    pair
                    for pair in zip(left.children, right.children, strict=True)
                    if pair[0] != pair[1]
                )
                continue
            mine = yield from _entries_under(left)
            theirs = yield from _entries_under(right)
            for key in mine.keys() | theirs.keys():
                if mine.get(key) != theirs.get(key):
                    found[key] = (mine.get(key), theirs.get(key))
        pairs = below
        level += 1
    return found


def _entries_under(node: Node) -> Walk[dict[int, int]]:
    if isinstance(node, Leaf):
        return node.entries
    found: dict[int, int] = {}
    for child in node.children:
        if child:
            found.update((yield from items(child)))
    return found


def update(
    root: int, changes: Mapping[int, int | None], new_nid: Callable[[], int]
) -> Walk[Update]:
    """A map with those values set, or removed where None; numbers by `new_nid`.

    The same root comes back when nothing changes.
    """
    made: list[tuple[int, Node]] = []
    maker = _Maker(new_nid, made)
    node: Node = EMPTY
    if root:
        node = (yield frozenset((root,)))[root]
    nid, _ = yield from maker.update(root, node, 0, changes)
    return Update(nid, made)


@dataclass(slots=True)
class _Maker:
    new_nid: Callable[[], int]
    made: list[tuple[int, Node]]

    def update(
        self, nid: int, node: Node, level: int, changes: Mapping[int, int | None]
    ) -> Walk[tuple[int, int]]:
        """The number and count of the node with the changes applied."""
        if isinstance(node, Leaf):
            entries = dict(node.entries)
            _apply(entries, changes)
            if entries == node.entries:
                return nid, node.count
            return self.build(entries, level)
        by_digit: dict[int, dict[int, int | None]] = {}
        for key, value in changes.items():
            by_digit.setdefault(_digit(key, level), {})[key] = value
        touched = frozenset(node.children[d] for d in by_digit if node.children[d])
        below: Mapping[int, Node] = (yield touched) if touched else {}
        children = list(node.children)
        count = node.count
        for digit, mine in by_digit.items():
            old = children[digit]
            child = below[old] if old else EMPTY
            new, new_count = yield from self.update(old, child, level + 1, mine)
            children[digit] = new
            count += new_count - child.count
        if tuple(children) == node.children:
            return nid, node.count
        if count <= LEAF_SIZE:
            return (yield from self._close(children, level))
        return self._keep(Branch(tuple(children), count)), count

    def _close(self, children: list[int], level: int) -> Walk[tuple[int, int]]:
        """A leaf of what is left under a branch; some children are new, not stored."""
        fresh = dict(self.made)
        entries: dict[int, int] = {}
        for child in children:
            if not child:
                continue
            node = fresh.get(child)
            if node is None:
                node = (yield frozenset((child,)))[child]
            entries.update((yield from _entries_under(node)))
        # Children made on the way here are part of no map now.
        gone = frozenset(children)
        self.made[:] = [(nid, node) for nid, node in self.made if nid not in gone]
        return self.build(entries, level)

    def build(self, entries: dict[int, int], level: int) -> tuple[int, int]:
        """The canonical subtree of these entries."""
        if not entries:
            return 0, 0
        if len(entries) <= LEAF_SIZE or level >= _MAX_LEVEL:
            return self._keep(Leaf(entries)), len(entries)
        parts: list[dict[int, int]] = [{} for _ in range(FAN_OUT)]
        for key, value in entries.items():
            parts[_digit(key, level)][key] = value
        children = tuple(self.build(part, level + 1)[0] for part in parts)
        return self._keep(Branch(children, len(entries))), len(entries)

    def _keep(self, node: Node) -> int:
        nid = self.new_nid()
        self.made.append((nid, node))
        return nid


def _apply(entries: dict[int, int], changes: Mapping[int, int | None]) -> None:
    for key, value in changes.items():
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = value


def encode(node: Node) -> bytes:
    """The bytes of a node: a tag, then variable-length integers.

    A leaf: key deltas and values in key order. A branch: count, a 16-bit map of the
    children it has, and their numbers.
    """
    out = bytearray()
    if isinstance(node, Leaf):
        out.append(_LEAF_TAG)
        last = 0
        for key in sorted(node.entries):
            _put(out, key - last)
            _put(out, node.entries[key])
            last = key
        return bytes(out)
    out.append(_BRANCH_TAG)
    _put(out, node.count)
    bitmap = sum(1 << i for i, child in enumerate(node.children) if child)
    out += bitmap.to_bytes(2, "big")
    for child in node.children:
        if child:
            _put(out, child)
    return bytes(out)


def decode(data: bytes) -> Node:
    """The node that `encode` wrote."""
    if data[0] == _LEAF_TAG:
        numbers = _numbers(data, 1)
        entries: dict[int, int] = {}
        key = 0
        for i in range(0, len(numbers), 2):
            key += numbers[i]
            entries[key] = numbers[i + 1]
        return Leaf(entries)
    count, at = _take(data, 1)
    bitmap = int.from_bytes(data[at : at + 2], "big")
    present = iter(_numbers(data, at + 2))
    return Branch(
        tuple(next(present) if bitmap >> i & 1 else 0 for i in range(FAN_OUT)), count
    )


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _take(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _numbers(data: bytes, at: int) -> list[int]:
    found = []
    while at < len(data):
        number, at = _take(data, at)
        found.append(number)
    return found


def run(walk: Walk[Result], nodes: Mapping[int, Node]) -> Result:
    """Drive a walk whose nodes are all at hand."""
    try:
        wanted = next(walk)
        while True:
            wanted = walk.send({nid: nodes[nid] for nid in wanted})
    except StopIteration as stop:
        result: Result = stop.value
        return result
