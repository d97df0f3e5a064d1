"""Delayed events: what the server is to send later, unless its user thinks better.

A call's end is such an event: a client that is there puts it off again and again, and
when the client is gone the server sends it. MSC4140, in the shape of today's clients (a
query parameter of the endpoints that send) and in the proposal's own.

An event is scheduled, then finalised: sent (it has an event ID), failed (it has an
error) or cancelled. Whoever sends one claims its row for some seconds first, so that
nobody cancels or sends it meanwhile; it goes out with its delay ID as transaction ID,
so it stands in the room once, also when the process dies in between. Time is the
database's, for all processes the same.

Table: delayed_events. No positions: clients ask for it, /sync does not tell.
"""
