"""Simplified sliding sync: what moved in the rooms that a client looks at.

A request names its rooms by lists (filters, sorting by recency, ranges) and by
subscriptions. What a client has got is its connection's state (`connection`): for each
room, whether it was sent, in which form, and whether it is up to date as of the
position in the token, or behind at an older one. So the state changes only when the
set of rooms or their form does; a message in a room that is up to date moves the
position in the token and nothing is written. States are immutable and named by chance;
`connections` keeps the two newest of each connection in the table
`sliding_connections`, so that an answer that was lost is given again.

`request` parses, `required` chooses state, `lists` finds the rooms, `rooms` makes their
sections, `extensions` all the rest, `answer` one answer of these. `facts` remembers
what filters ask about rooms. The sources are those of sync v2.

Spec: MSC4186, MSC3575 where clients still speak it.
"""
