"""Receipts: how far users have read, and their fully read markers.

Table: receipts. Positions: RECEIPT, one for each receipt that moves; a fully read
marker is account data of its room (ACCOUNT_DATA).

A user has one receipt for each room, type and thread, and it moves only forwards.
`m.read` is told to everybody in the room and to other servers, `m.read.private` to its
user alone. `client_api` and `edus` take them, `content` writes them as clients get
them, `store` holds what sync and the senders to other servers ask.
"""
