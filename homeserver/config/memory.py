"""[memory]: how much the process may have before caches give back."""

from typing import Annotated

from msgspec import Meta, Struct

from homeserver.config import checks


class Memory(Struct, frozen=True, kw_only=True):
    """The memory of one process. Every cache and queue is bounded besides."""

    soft_limit: Annotated[
        str,
        Meta(
            description="Over so much resident memory caches give back what they hold,"
            ' such as "512M" or "2G". A busy server is faster with more. 0: no limit.',
            extra={"check": checks.size},
        ),
    ] = "512M"

    @property
    def soft_limit_bytes(self) -> int:
        """`soft_limit` in bytes; 0 is no limit."""
        return checks.parse_size(self.soft_limit)
