"""State resolution: version 1, version 2 and 2.1.

When branches of a room's event graph meet, their states may differ. Every server must
make the same state of them, whatever it saw first.

Algorithms here are generators that ask for events (`needs`), so they run over any
store. They look at the conflict only; the cost follows from what differs, not from
the size of the room:

1. the caller finds the keys in which the states differ (or `separate` does);
2. `compare` walks the auth chains (`auth_chains`), on the store's own numbers if it
   likes, and finds the auth difference and the conflicted state subgraph;
3. `resolve` gives the winners for those keys (`v1`, or `v2` with `ordering`).

`resolve_states` does all three for states at hand.

Spec: server-server-api#room-state-resolution
"""

from federation.state_resolution.auth_chains import (
    AuthSets,
    auth_difference,
    compare,
    conflicted_subgraph,
)
from federation.state_resolution.needs import Known, Linked, Need, Resolving, Steps, run
from federation.state_resolution.states import resolve, resolve_states, separate

__all__ = [
    "AuthSets",
    "Known",
    "Linked",
    "Need",
    "Resolving",
    "Steps",
    "auth_difference",
    "compare",
    "conflicted_subgraph",
    "resolve",
    "resolve_states",
    "run",
    "separate",
]
