"""Rooms: building events, accepting those of others, membership, history.

Flows: `build` makes events of our users; `accept` judges events of other servers by the
specification's numbered checks and stores them. Both end in one step for the committer.
"""
