"""Receipts: how far users have read, and their fully read markers.

Table: receipts. Positions: RECEIPT, one for each receipt that moves; a fully read
marker is account data of its room (ACCOUNT_DATA).

A user has one receipt for each room, type and thread, and it moves only forwards.
`m.read` is told to everybody in the room and (by `destinations`) to other servers,
`m.read.private` to its user alone. `client_api` and `edus` take them, `threads` tells
which event belongs to which thread, `content` writes receipts as clients get them.
"""
