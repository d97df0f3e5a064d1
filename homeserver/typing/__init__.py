"""Typing notifications: who is writing in a room just now.

Table: typing (unlogged: a crash of the database forgets it). Positions: TYPING, one
whenever somebody begins, goes on or stops.

A user types until a time that the client gives, at most two minutes; `tasks` ends what
has run out, so that waiting clients hear of it. Under overload typing is dropped.
"""
