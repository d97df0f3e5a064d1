"""Profiles: what users say of themselves to everybody.

Tables: profiles, one row a field, of accounts, and profile_tellings. Positions:
PROFILE, one for each change. Member events carry two of the fields, name and avatar;
`telling` tells the user's rooms in the background when they change.

`fields` says what a field may be, `find` looks profiles up here and elsewhere.
"""
