"""The states of presence, by how present they are.

Spec: client-server-api#presence; MSC3026 for `busy`, which is not in the specification
yet and has the long name between clients and servers.
"""

from typing import Final

OFFLINE: Final = "offline"
UNAVAILABLE: Final = "unavailable"
ONLINE: Final = "online"
BUSY: Final = "org.matrix.msc3026.busy"

RANKS: Final = {OFFLINE: 0, UNAVAILABLE: 1, ONLINE: 2, BUSY: 3, "busy": 3}
STATES: Final = (OFFLINE, UNAVAILABLE, ONLINE, BUSY)

MAX_STATUS: Final = 2048  # characters of a status message
