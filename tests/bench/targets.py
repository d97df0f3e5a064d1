"""What each figure has to reach, from the issues: only then the report shows it green.

`times` is against Synapse in the same run; `bound` is for ours alone, in the figure's
unit: at most so much, or at least where more is better.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Target:
    times: float | None = None
    bound: float | None = None


# Where nothing else is asked for.
USUAL: Final = Target(times=3)
_FIVE: Final = Target(times=5)
_TEN: Final = Target(times=10)
_TWENTY: Final = Target(times=20)

# By row; a figure that is not named has the row's own target, under "". Bytes of a
# state change are those of its event, its state nodes, and its place in the tables.
TARGETS: Final[dict[str, dict[str, Target]]] = {
    # Issue 6: messages and their delivery.
    "send_one_room": {"rate": _TWENTY, "server CPU": Target(20, bound=0.5)},
    "send_fifty_rooms": {"rate": _TWENTY, "server CPU": Target(20, bound=0.5)},
    "send_old_room": {
        "fresh": _TWENTY,
        "old": _TWENTY,
        "old for fresh": Target(bound=90),
    },
    "two_processes": {"times one": Target(bound=1.7)},
    "delivery": {"": _TEN},
    "delivery_under_load": {"": _TEN},
    "fan_out": {"": _TEN},
    # Issue 6: syncs.
    "initial_profiles": {"": _TEN},
    "initial_sync": {"": _TEN},
    "incremental_sync": {
        "idle CPU": Target(3, bound=0.15),
        "idle transactions": Target(bound=0.05),
    },
    "sliding_first": {"cold": Target(bound=50), "warm": Target(bound=50)},
    # Issue 6: federation, memory, database.
    "federation_in": {"": _TEN},
    "idle_memory": {"resident": Target(bound=90)},
    "database": {
        "WAL per message": Target(bound=6),
        "transactions": Target(3, bound=2),
        "state nodes": Target(bound=700),
    },
    # Issue 3.
    "join_2000": {"": _TEN},
    # Issue 4.
    "one_of_many_changed": {"": _FIVE},
    "history_pages": {"": _FIVE},
    "search": {"": _FIVE},
    # Issue 5.
    "keys_upload": {"": _FIVE},
    "keys_query": {"": _FIVE},
    "keys_claim": {"": _FIVE},
    "send_to_device": {"": _FIVE},
    "waiting_messages": {"": _FIVE},
    # Issue 9.
    "bridge": {"": _FIVE},
    "push": {"p50 to the gateway": Target(5, bound=50)},
    "push room": {"": _FIVE},
}


def target_of(row: str, figure: str) -> Target:
    """What the figure of the row has to reach."""
    of_row = TARGETS.get(row, {})
    return of_row.get(figure, of_row.get("", USUAL))
