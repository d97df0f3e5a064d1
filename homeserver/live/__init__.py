"""The live view and the committer: one position for everything (DESIGN 4 and 5).

Tables: sequencer, changes; the committer also writes rooms, events, event_json,
state_nodes, current_state, memberships, room_servers.

`committer` hands out positions inside the writing transaction, groups commits and
applies them to the view; `follower` moves the view forward over other processes'
changes; `view` is what is kept of rooms and users, all of it as of one position;
`writers` lets one room have one writer at a time in this process.
"""
