"""Who else knows people's passwords, such as an LDAP directory."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from federation.ids import UserId

# Whether the password is the user's there; it makes the account of who is new here.
Source: TypeAlias = Callable[[UserId, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class PasswordSources:
    """All of them, in the order in which they are asked."""

    sources: list[Source] = field(default_factory=list)

    async def know(self, user_id: UserId, password: str) -> bool:
        """Whether one of them knows the user by this password."""
        for source in self.sources:
            if await source(user_id, password):
                return True
        return False
