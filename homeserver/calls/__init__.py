"""Calls: what clients need of their server to reach each other.

The server carries no media and reads no call: it tells where the transports are. What
else calls rest on are delayed events (homeserver/delayed) and sticky events
(homeserver/sticky).

`[calls]` in the configuration says all of it; there are no tables.
"""
