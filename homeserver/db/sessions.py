"""What every connection gets: our settings, and an end to waiting for silence.

Settings are made once it stands, not while it begins: a pooler in between (pgbouncer)
refuses most of them there.
"""

import asyncio
import socket
from typing import Final

import asyncpg

_SETTINGS: Final = """
    SET idle_in_transaction_session_timeout TO '15s';
    SET statement_timeout TO '60s';
    SET lock_timeout TO '10s';
    SET jit TO 'off';
    SET timezone TO 'UTC'
"""
# Longer than the server's own patience: only for one that hangs as a whole.
COMMAND_SECONDS: Final = 75.0

# A machine that is gone, or a switch, says nothing: what was sent and not confirmed for
# so long is lost, and who says nothing is asked.
_UNCONFIRMED_MS: Final = 10_000
_IDLE_SECONDS: Final = 10
_PROBE_SECONDS: Final = 3
_PROBES: Final = 3


async def prepare(connection: asyncpg.Connection) -> None:
    """Make a new connection of a pool ready."""
    notice_silence(connection)
    # A hung process cannot hold the sequencer row.
    await connection.execute(_SETTINGS)


def notice_silence(connection: asyncpg.Connection) -> None:
    """Have the kernel find out when nobody is there any more."""
    # asyncpg has no option for this.
    transport: asyncio.Transport | None = getattr(connection, "_transport", None)
    raw = transport.get_extra_info("socket") if transport is not None else None
    if raw is None or raw.family == socket.AF_UNIX:
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_SECONDS),
        ("TCP_KEEPINTVL", _PROBE_SECONDS),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", _UNCONFIRMED_MS),
    ):
        option = getattr(socket, name, None)  # not on every system
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
