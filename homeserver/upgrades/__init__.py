"""Room upgrades: a room of another version takes the place of one that is closed.

`upgrade` makes the new room and closes the old one, `carried` says what of the old
room's state goes along, and `settings` lets what each user keeps for the old room
follow them when they join the new one.

Spec: client-server-api#room-upgrades
"""
