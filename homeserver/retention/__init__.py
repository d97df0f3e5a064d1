"""Deleting what a room, or the administrator, wants to be kept for a time only.

MSC1763. A message whose time is over loses its content as if it were redacted; what
remains is what the event graph needs. State and the newest message of a room stay.

Column: events.pruned.
"""
