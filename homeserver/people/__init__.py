"""The user directory: finding people by what they are called; and farewells.

Tables: user_directory (everybody in a room that we know, and users of ours), and
directory_progress (how far it is).

It follows memberships and profiles by their positions, in the background and one
process at a time (`keeper`), so that writing costs nothing and nothing is missed.
`words` makes of names what is looked up: whole words by their beginnings, single
characters and pairs for scripts without spaces, and triples of letters for what is
nearly right. Who may see whom is decided when somebody searches, by the rooms of then.

`farewells` lets users leave who have ended their accounts.
"""
