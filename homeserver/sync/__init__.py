"""Sync: what moved for a user since a token.

The live view says which rooms moved; nothing of that means waiting, without a look at
the database. For those that did, `timelines` finds the events, `states` what the state
became, `joined` and `left` make the sections; `v2` puts them together and streams
initial syncs room by room. A token is a position, so any process serves any client.
`lazy` remembers which member events a device has, to spare them; it may be forgotten.
`sliding` answers clients that name the rooms they look at, from the same sources.
"""
