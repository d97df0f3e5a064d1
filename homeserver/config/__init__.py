"""The configuration: hearth.toml, read once at the start.

`sections` declares every key, `reading` turns a file into these and collects all that
is wrong with it, `text` knows where in the file a key stands, `sample` writes a file
that says everything.
"""

from homeserver.config.accounts import Registration
from homeserver.config.reading import ConfigError, Problem
from homeserver.config.sections import (
    Calls,
    Config,
    Federation,
    Limits,
    Listen,
    Logging,
)

__all__ = [
    "Calls",
    "Config",
    "ConfigError",
    "Federation",
    "Limits",
    "Listen",
    "Logging",
    "Problem",
    "Registration",
]
