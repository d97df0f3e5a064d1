"""Transactions that other servers push: PDUs for rooms, EDUs for features.

Table: received_transactions, for a day: a repetition gets the answer that it got. Of
each origin one transaction is worked on at a time, as the specification has it.

Spec: server-server-api#transactions
"""
