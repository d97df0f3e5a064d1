"""Presence: whether people are there, and what they say of it.

Tables: presence (ours and others'), presence_devices (ours); unlogged: a crash of the
database forgets them. Positions: PRESENCE, when what others see of somebody changes.

Each device says how its user is; the most present one counts. A process keeps in memory
which devices sync through it (`attendance`), so that a sync that tells nothing new
writes nothing; now and then it says which of them are still there. `upkeep` makes users
idle and offline as time goes by. Other servers are told by `destinations.watch`.

Under overload presence is dropped. When `[presence] enabled` is false nobody is there.
"""
