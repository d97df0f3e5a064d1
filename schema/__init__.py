"""The database schema, shipped inside the wheel.

`tables.sql` is the whole of it, for fresh databases; `NNNN_{pre,post}_what.sql` are the
steps that lead there. `pre` steps suit the running release, `post` steps come after it.
A test keeps both the same.
"""
