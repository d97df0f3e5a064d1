"""Persistent state maps kept in PostgreSQL, with their nodes in a cache."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from federation.pdu import StateKey
from homeserver.bounded import LruCache
from homeserver.db.pool import Database, Tx
from homeserver.events.keys import StateKeys
from homeserver.events.numbers import Numbers
from homeserver.state import tree
from homeserver.state.tree import Node, Result, Walk

NodeRow = tuple[int, int, bytes]  # node_nid, room_nid, data

_CAPACITY: Final = 64 * 1024 * 1024
_NODE_COST: Final = 300  # bytes of an empty node's objects, roughly
_ENTRY_COST: Final = 100
_BATCH: Final = 5000


def _cost_of(node: Node) -> int:
    held = node.count if isinstance(node, tree.Leaf) else tree.FAN_OUT
    return _NODE_COST + _ENTRY_COST * held


class States:
    """State maps by root. A root of 0 is the empty state; nodes never change."""

    def __init__(self, db: Database, keys: StateKeys) -> None:
        self._db = db
        self.keys = keys
        self.numbers = Numbers(db, "node_nids")
        self._nodes: LruCache[int, Node] = LruCache(_CAPACITY, _cost_of)

    async def _drive(self, walk: Walk[Result]) -> Result:
        try:
            wanted = next(walk)
            while True:
                wanted = walk.send(await self._load(wanted))
        except StopIteration as stop:
            result: Result = stop.value
            return result

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
        # A change touches one path of at most 16 nodes, splits one leaf into 17.
        async with self.numbers.reserved(len(changes) * 4 + 64) as take:
            done = await self._drive(tree.update(root, by_nid, take))
        for nid, node in done.nodes:
            self._nodes.put(nid, node)
        rows = [(nid, room_nid, tree.encode(node)) for nid, node in done.nodes]
        return done.root, rows


async def insert_nodes(tx: Tx, rows: Sequence[NodeRow]) -> None:
    """Store nodes, outside of the committer: bulk work before it becomes visible."""
    await tx.copy_records_to_table(
        "state_nodes", records=rows, columns=("node_nid", "room_nid", "data")
    )
