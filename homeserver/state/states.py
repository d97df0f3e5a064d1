"""Persistent state maps kept in PostgreSQL, with their nodes in a cache."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic

from federation.pdu import StateKey
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database, Tx
from homeserver.events.keys import StateKeys
from homeserver.events.numbers import Numbers
from homeserver.state import tree
from homeserver.state.tree import Node, Result, Walk

NodeRow = tuple[int, int, bytes]  # node_nid, room_nid, data

_CAPACITY: Final = 64 * MIB
_NODE_COST: Final = 300  # bytes of an empty node's objects, roughly
_ENTRY_COST: Final = 100
_BATCH: Final = 500
_INLINE: Final = 60  # looking at more nodes takes over a few milliseconds
_CHANGES: Final = 250  # made at once, for the same reason


def _cost_of(node: Node) -> int:
    held = node.count if isinstance(node, tree.Leaf) else tree.FAN_OUT
    return _NODE_COST + _ENTRY_COST * held


class States:
    """State maps by root. A root of 0 is the empty state; nodes never change."""

    def __init__(self, db: Database, keys: StateKeys) -> None:
        self._db = db
        self.keys = keys
        self.numbers = Numbers(db, "node_nids")
        self._nodes: LruCache[int, Node] = LruCache("state nodes", _CAPACITY, _cost_of)

    async def _drive(self, walk: Walk[Result]) -> Result:
        done = _begun(walk)
        while not isinstance(done, _Ended):
            nodes = await self._load(done)
            if len(nodes) > _INLINE:
                done = await asyncio.to_thread(_sent, walk, nodes)
            else:
                done = _sent(walk, nodes)
        return done.result

    async def _load(self, nids: frozenset[int]) -> Mapping[int, Node]:
        nodes: dict[int, Node] = {}
        missing: list[int] = []
        for nid in nids:
            node = self._nodes.get(nid)
            if node is None:
                missing.append(nid)
            else:
                nodes[nid] = node
        for start in range(0, len(missing), _BATCH):
            async with self._db.read() as tx:
                rows = await tx.fetch(
                    "SELECT node_nid, data FROM state_nodes WHERE node_nid = ANY($1)",
                    missing[start : start + _BATCH],
                )
            for nid, data in rows:
                nodes[nid] = tree.decode(data)
                self._nodes.put(nid, nodes[nid])
            await asyncio.sleep(0)
        return nodes

    async def get(self, root: int, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        """The event numbers at those keys."""
        nids = await self.keys.nids(keys)
        found = await self._drive(tree.get(root, nids.values()))
        return {key: found[nid] for key, nid in nids.items() if nid in found}

    async def items(self, root: int) -> dict[StateKey, int]:
        """The whole state: event number by key."""
        found = await self._drive(tree.items(root))
        keys = await self.keys.keys(found)
        return {keys[nid]: event for nid, event in found.items()}

    async def nid_items(self, root: int) -> dict[int, int]:
        """The whole state by the numbers of its keys."""
        return await self._drive(tree.items(root))

    async def event_nids(self, root: int) -> list[int]:
        """The numbers of all events of the state."""
        return list((await self._drive(tree.items(root))).values())

    async def diff(
        self, before: int, after: int
    ) -> dict[StateKey, tuple[int | None, int | None]]:
        """The keys whose events differ, with both event numbers."""
        found = await self._drive(tree.diff(before, after))
        keys = await self.keys.keys(found)
        return {keys[nid]: pair for nid, pair in found.items()}

    async def added(self, before: int, after: int) -> list[tuple[int, int]]:
        """What the second state has where the first has nothing: key and event."""
        found = await self._drive(tree.diff(before, after))
        return [
            (key, new)
            for key, (old, new) in found.items()
            if old is None and new is not None
        ]

    async def keyed(self, entries: Iterable[tuple[int, int]]) -> dict[StateKey, int]:
        """Events by key, from those by the keys' numbers."""
        by_nid = dict(entries)
        keys = await self.keys.keys(by_nid)
        return {keys[nid]: event for nid, event in by_nid.items()}

    async def update(
        self, root: int, room_nid: int, changes: Mapping[StateKey, int | None]
    ) -> tuple[int, list[NodeRow]]:
        """The state with those events set, or removed where None.

        Gives the new root and the node rows that must be stored before, or with, the
        first row that names the root.
        """
        if not changes:
            return root, []
        nids = await self.keys.intern(changes)
        by_nid = {nids[key]: event for key, event in changes.items()}
        return await self.update_nids(root, room_nid, by_nid)

    async def update_nids(
        self, root: int, room_nid: int, changes: Mapping[int, int | None]
    ) -> tuple[int, list[NodeRow]]:
        """The same by the numbers of the keys."""
        made: dict[int, Node] = {}
        for part in await _parts(changes):
            # A change touches one path of at most 16 nodes, splits one leaf into 17.
            async with self.numbers.reserved(len(part) * 4 + 64) as take:
                done = await self._drive(tree.update(root, part, take))
            root = done.root
            for nid, node in done.nodes:
                self._nodes.put(nid, node)
            made.update(done.nodes)
            if len(part) < len(changes):
                await asyncio.sleep(0)
        rows = []
        for count, (nid, node) in enumerate(_reachable(root, made), 1):
            rows.append((nid, room_nid, tree.encode(node)))
            if count % _CHANGES == 0:
                await asyncio.sleep(0)
        return root, rows


@dataclass(frozen=True, slots=True)
class _Ended(Generic[Result]):
    result: Result


def _begun(walk: Walk[Result]) -> frozenset[int] | _Ended[Result]:
    try:
        return next(walk)
    except StopIteration as stop:
        return _Ended(stop.value)


def _sent(
    walk: Walk[Result], nodes: Mapping[int, Node]
) -> frozenset[int] | _Ended[Result]:
    try:
        return walk.send(nodes)
    except StopIteration as stop:
        return _Ended(stop.value)


async def _parts(changes: Mapping[int, int | None]) -> list[dict[int, int | None]]:
    """The changes in parts that are made at once, each in a corner of its own.

    So hardly a node of one part is made anew by another.
    """
    if len(changes) <= _CHANGES:
        return [dict(changes)]
    corners: defaultdict[tuple[int, int], dict[int, int | None]] = defaultdict(dict)
    for count, (key, value) in enumerate(changes.items(), 1):
        corners[tree.corner_of(key)][key] = value
        if count % (8 * _CHANGES) == 0:
            await asyncio.sleep(0)
    parts: list[dict[int, int | None]] = [{}]
    for corner in sorted(corners):
        if len(parts[-1]) + len(corners[corner]) > _CHANGES:
            parts.append({})
        parts[-1].update(corners[corner])
    return [part for part in parts if part]


def _reachable(root: int, made: Mapping[int, Node]) -> list[tuple[int, Node]]:
    """The new nodes that are part of the map after all."""
    found: list[tuple[int, Node]] = []
    wanted = [root]
    while wanted:
        nid = wanted.pop()
        node = made.get(nid)
        if node is not None:
            found.append((nid, node))
            if isinstance(node, tree.Branch):
                wanted += node.children
    return found


async def insert_nodes(tx: Tx, rows: Sequence[NodeRow]) -> None:
    """Store nodes, outside of the committer: bulk work before it becomes visible."""
    await tx.copy_records_to_table(
        "state_nodes", records=rows, columns=("node_nid", "room_nid", "data")
    )
