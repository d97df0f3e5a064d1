"""Relations between events, as clients ask for them: children, threads, subscriptions.

What an event relates to stands in its own row (homeserver/events/relations.py); what
events come with is told wherever they are shown (homeserver/rooms/bundles.py).

Table: thread_subscriptions, whose rows move at positions of their own.
"""
