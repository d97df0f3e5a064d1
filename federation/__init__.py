"""What two Matrix servers must agree on for a room to hold together.

This package knows no database, no configuration and no users. It is pure but for
`wire/`, the only part that does I/O.
"""
