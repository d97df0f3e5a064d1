"""The database: PostgreSQL, our own private one or one that is given.

- `embedded` runs a private PostgreSQL under the data directory; `binaries` finds its
  programs, `os_user` decides as whom it runs, `postmaster` tells whether one still
  lives, `guard` is what stands between us and it.
- `pool` holds the connections, `rows` turns rows into values, `migrate` brings the
  schema up to date, `leases` lets one process at a time do a piece of work.

Tables of its own: `migrations` (made by `migrate`) and `leases`.
"""
