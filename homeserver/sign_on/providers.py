"""What all kinds of providers have in common."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from homeserver import errors
from homeserver.config.sign_on import OnLogout
from homeserver.sign_on.identity import Identity


class Rules(Struct, frozen=True, kw_only=True):
    """What who comes from a provider may do here."""

    name: str
    sign_up: bool = True
    choose_name: bool = True
    link_by_email: bool = False
    on_logout: OnLogout = "devices"


class Sent(Struct, frozen=True, kw_only=True):
    """Where to send a browser, and what the answer must fit then."""

    where: str
    secrets: dict[str, str] = {}


class Provider(Protocol):
    """Somebody who says who people are."""

    rules: Rules

    async def begin(self, back: str, state: str, *, fresh: bool) -> Sent:
        """Where to send a browser, which then comes back to `back` with `state`.

        `fresh`: the person is to log in there once more. Raises: NotIdentified.
        """

    async def identify(
        self, answer: Mapping[str, str], back: str, secrets: Mapping[str, str]
    ) -> Identity:
        """Who has come back. Raises: NotIdentified."""

    async def picture(self, url: str) -> tuple[bytes, str]:
        """A picture and its content type. Raises: NotIdentified."""


class Providers:
    """All that are configured, by ID."""

    def __init__(self) -> None:
        self._providers: dict[str, Provider] = {}

    def add(self, provider_id: str, provider: Provider) -> None:
        """Let people in through it."""
        self._providers[provider_id] = provider

    def get(self, provider_id: str) -> Provider:
        """The provider. Raises: M_NOT_FOUND."""
        found = self._providers.get(provider_id)
        if found is None:
            raise errors.not_found("This server knows no such identity provider.")
        return found
