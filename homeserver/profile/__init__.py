"""Profiles: what users say of themselves to everybody.

Table: profiles, one row a field, of accounts. Member events carry two of the fields,
display name and avatar; `rooms.membership.update_profile` tells the user's rooms when
they change.

`fields` says what a field may be, `find` looks profiles up here and elsewhere.
"""
