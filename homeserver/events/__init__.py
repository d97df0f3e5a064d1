"""Stored events, by number and by ID.

Tables: events, event_json, backward_edges, redactions. An event's row is written once;
later only `position` (an outlier that becomes visible) and `redacted_by` change, and
both come as changes to the live view, so events may be cached for as long as there is
room.
"""
