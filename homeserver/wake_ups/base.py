"""The one interface of both kinds of wake-ups."""

from collections.abc import Callable
from typing import Final, Protocol

# PostgreSQL's limit for NOTIFY, which holds for both.
MAX_PAYLOAD_BYTES: Final = 7999

# With a payload, or with None: some may have been missed. It must not block.
OnWakeUp = Callable[[str | None], None]


class WakeUps(Protocol):
    """Short texts to all processes of the server, this one included."""

    async def listen(self, subject: str, callback: OnWakeUp) -> None:
        """Call back with every payload from now on, and with None at the start."""

    async def tell(self, subject: str, payload: str) -> bool:
        """Send a payload to all who listen; False: it surely did not go out.

        Raises: ValueError when the payload is longer than MAX_PAYLOAD_BYTES.
        """

    async def close(self) -> None:
        """Listen and tell no longer."""


def check_size(payload: str) -> bytes:
    """The payload's bytes. Raises: ValueError when there are too many."""
    encoded = payload.encode()
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload has at most {MAX_PAYLOAD_BYTES} bytes")
    return encoded
