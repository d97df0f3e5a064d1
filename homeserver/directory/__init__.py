"""The directory: names for rooms, and the list of those that are published.

Tables: room_aliases, published_rooms (written by `rooms.aliases`). No positions: who
asks sees what is there.

`listing` makes pages of published rooms, the largest first; `remote` asks other
servers for theirs.
"""
