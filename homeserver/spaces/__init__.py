"""Rooms seen from outside: summaries of rooms, and the tree of a space.

`summaries` describes rooms that this server is in, `remote` asks other servers for the
rest and keeps their answers for a while, `walk` goes through a space.

Spec: client-server-api#spaces, client-server-api#room-previews
"""
