"""Sending to other servers: one durable cursor for each destination.

Everything outgoing up to `destinations.position` was sent. What is outgoing to a
server: events of ours in rooms that it is in (`room_servers`), events for servers that
are no longer in the room after them (`outgoing_events`), EDUs that must not be lost
(`outgoing_edus`), and our users' receipts. Typing is sent to whoever is reachable.

Of all processes one at a time sends to a destination: it is the row's `holder`, for as
long as it renews its own lease. It keeps a short queue of fresh events while the
destination keeps up, else reads them by the cursor. One transaction is under way at a
time, and the cursor moves when it has been answered.

`queue` runs with each stored event, `sender` is a process's sender, `destination` what
it keeps of one server, `watch` what takes typing and receipts to it.

Spec: server-server-api#transactions
"""
