"""Registrations of application services: their form, and what a name means to one.

Spec: application-service-api#registration
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import msgspec

from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_user_id
from homeserver.bounded import MIB, LruCache

_REMEMBERED: Final = 4 * MIB  # bytes
_NAME: Final = 120
_MIN_TOKEN: Final = 8
_MAX_TEXT: Final = 4096


class UnusableRegistration(Exception):  # noqa: N818 - reads as what happened
    """A registration cannot be used; the text says why."""


class Namespace(msgspec.Struct, frozen=True):
    """Names that a service is interested in; exclusive ones are its own."""

    regex: str
    exclusive: bool = False


class Namespaces(msgspec.Struct, frozen=True):
    """The three kinds of names. Bridges write null for an empty list."""

    users: list[Namespace] | None = None
    aliases: list[Namespace] | None = None
    rooms: list[Namespace] | None = None


class Registration(msgspec.Struct, frozen=True, rename={"service_id": "id"}):
    """A registration as the specification has it, and with what bridges add.

    Bridges of the time before v1.13 and v1.17 say the same by unstable names.
    """

    service_id: str
    as_token: str
    hs_token: str
    sender_localpart: str
    namespaces: Namespaces
    url: str | None
    rate_limited: bool = True
    protocols: list[str] | None = None
    receive_ephemeral: bool | None = None
    push_ephemeral: bool | None = msgspec.field(
        default=None, name="de.sorunome.msc2409.push_ephemeral"
    )
    soru_push_ephemeral: bool | None = msgspec.field(
        default=None, name="push_ephemeral"
    )
    with_encryption: bool = msgspec.field(default=False, name="org.matrix.msc3202")
    manages_devices: bool = msgspec.field(default=False, name="io.element.msc4190")


@dataclass(frozen=True, slots=True)
class _Names:
    """One kind of namespaces, compiled; what was found is remembered."""

    interesting: Sequence[re.Pattern[str]]
    exclusive: Sequence[re.Pattern[str]]
    known: LruCache[str, bool] = field(
        default_factory=lambda: LruCache("names in namespaces", _REMEMBERED, _NAME),
        compare=False,
    )

    def match(self, name: str) -> bool:
        if not self.interesting:
            return False
        found = self.known.get(name)
        if found is None:
            found = any(each.match(name) for each in self.interesting)
            self.known.put(name, found)
        return found

    def own(self, name: str) -> bool:
        return any(each.match(name) for each in self.exclusive)


class Service:
    """An application service: its registration, made ready for questions."""

    def __init__(self, registration: Registration, server_name: ServerName) -> None:
        """Raises: UnusableRegistration."""
        self.registration = registration
        self._ending = f":{server_name}"
        _check(registration)
        try:
            localpart = registration.sender_localpart
            self.sender: UserId = parse_user_id(f"@{localpart}:{server_name}")
        except Malformed as error:
            raise UnusableRegistration(f"sender_localpart: {error}") from None
        kinds = registration.namespaces
        self._users = _compile("users", kinds.users)
        self._aliases = _compile("aliases", kinds.aliases)
        self._rooms = _compile("rooms", kinds.rooms)

    @property
    def service_id(self) -> str:
        """The ID, which never changes."""
        return self.registration.service_id

    @property
    def url(self) -> str | None:
        """Where it listens, without a slash at the end; None when it does not."""
        url = self.registration.url
        return url.rstrip("/") if url else None

    @property
    def wants_ephemeral(self) -> bool:
        """Whether it is told of typing, receipts, presence and messages to devices."""
        each = self.registration
        return bool(
            each.receive_ephemeral or each.push_ephemeral or each.soru_push_ephemeral
        )

    @property
    def protocols(self) -> Sequence[str]:
        """The third-party networks that it is a bridge to."""
        return self.registration.protocols or ()

    @property
    def has_aliases(self) -> bool:
        """Whether any alias may interest it."""
        return bool(self._aliases.interesting)

    def is_user(self, user_id: str) -> bool:
        """Whether this is a user of ours in its namespace, or its own."""
        if user_id == self.sender:
            return True
        return user_id.endswith(self._ending) and self._users.match(user_id)

    def is_alias(self, alias: str) -> bool:
        """Whether the alias is in its namespace."""
        return self._aliases.match(alias)

    def is_room(self, room_id: str) -> bool:
        """Whether the room is in its namespace."""
        return self._rooms.match(room_id)

    def owns_user(self, user_id: str) -> bool:
        """Whether nobody else may have this name."""
        if user_id == self.sender:
            return True
        return user_id.endswith(self._ending) and self._users.own(user_id)

    def owns_alias(self, alias: str) -> bool:
        """Whether nobody else may make or delete this alias."""
        return self._aliases.own(alias)


def _check(registration: Registration) -> None:
    for name in ("service_id", "as_token", "hs_token", "sender_localpart"):
        value = getattr(registration, name)
        shown = "id" if name == "service_id" else name
        if not value or len(value) > _MAX_TEXT or not value.isprintable():
            raise UnusableRegistration(f"{shown}: a printable text is needed")
        if name.endswith("_token") and not (
            value.isascii() and " " not in value and len(value) >= _MIN_TOKEN
        ):
            raise UnusableRegistration(
                f"{shown}: at least {_MIN_TOKEN} characters of ASCII, without spaces"
            )
    url = registration.url
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UnusableRegistration("url: it must begin with http:// or https://")


def _compile(kind: str, namespaces: Sequence[Namespace] | None) -> _Names:
    interesting, exclusive = [], []
    for number, each in enumerate(namespaces or ()):
        try:
            pattern = re.compile(each.regex)
        except (re.error, OverflowError, RecursionError) as error:
            raise UnusableRegistration(
                f"namespaces.{kind}[{number}].regex: {error}"
            ) from None
        interesting.append(pattern)
        if each.exclusive:
            exclusive.append(pattern)
    return _Names(interesting, exclusive)


def read_registration(value: object) -> Registration:
    """A registration from what its file or row holds. Raises: UnusableRegistration."""
    if isinstance(value, dict) and "url" not in value:
        # Required by the specification; left out by bots that only speak.
        value = {**value, "url": None}
    try:
        return msgspec.convert(value, Registration)
    except msgspec.ValidationError as error:
        raise UnusableRegistration(str(error)) from None


def check_together(services: Sequence[Service]) -> None:
    """IDs and tokens must be different. Raises: UnusableRegistration."""
    for what in ("service_id", "as_token"):
        seen: set[str] = set()
        for service in services:
            value = getattr(service.registration, what)
            if value in seen:
                shown = "id" if what == "service_id" else what
                raise UnusableRegistration(
                    f"two services have the same {shown};"
                    f" one of them is {service.service_id!r}"
                )
            seen.add(value)
