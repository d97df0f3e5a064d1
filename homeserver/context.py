"""What endpoints and tasks are given: the few things that a process has one of."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from federation.canonical_json import JsonObject
from federation.ids import KeyId, ServerName, UserId
from federation.server_keys import OldVerifyKey
from federation.signatures import SigningKey
from federation.wire.client import WireClient
from homeserver import errors
from homeserver.bounded import MIB, LruCache, Turns, Worth
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.db.pool import Database
from homeserver.live.live import Live
from homeserver.live.room import Room

_ASKED_SERVERS: Final = 6 * MIB


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key of a server; `valid_until_ms` is its expiry when it is retired.

    A retired key signs no requests any more, but its old events still count.
    """

    public: bytes
    valid_until_ms: int
    is_retired: bool = False


Part = TypeVar("Part")


class Parts:
    """What a process has one of and what stands further down in the tree, by its type.

    The feature that puts a part in is the one that takes it out.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[type, object] = {}

    def put(self, part: object) -> None:
        """Have `get` find it."""
        self._parts[type(part)] = part

    def get(self, kind: type[Part]) -> Part:
        """The part of this type, which `app.py` has made at the start."""
        part = self._parts[kind]
        if not isinstance(part, kind):
            raise TypeError(f"{part!r} is no {kind.__name__}")
        return part


async def _put_off_nothing(*_: object) -> str:
    # Never send at once what was meant for later, such as the end of a call.
    raise errors.unrecognized("This server schedules no events.")


@dataclass(frozen=True, slots=True)
class Context:
    """One process of one server."""

    config: Config
    server_name: ServerName
    db: Database
    key: SigningKey
    wire: WireClient
    live: Live
    clock: Clock
    known_keys: LruCache[tuple[ServerName, KeyId], KnownKey]
    # Keys that this server signed with once.
    old_keys: Mapping[KeyId, OldVerifyKey] = field(default_factory=dict)
    # When each server was last asked for its keys, by `clock.monotonic`.
    asked_for_keys: LruCache[ServerName, float] = field(
        default_factory=lambda: LruCache(
            "servers asked for keys", _ASKED_SERVERS, 100, Worth.NEEDED
        )
    )
    # By type: account data that users have before anything was set.
    account_data_defaults: Mapping[str, Callable[[UserId], JsonObject]] = field(
        default_factory=dict
    )
    # What this process does one at a time, such as joining a room over federation.
    turns: Turns = field(default_factory=Turns)
    # Each is called with every server whose signed request has been checked.
    on_sign_of_life: list[Callable[[ServerName], None]] = field(default_factory=list)
    # Each is called when a user of ours has joined a room through this process.
    on_join: list[Callable[["Context", UserId, Room], Awaitable[None]]] = field(
        default_factory=list
    )
    # Schedules what a request wants to have sent later; the ID for that. It is named
    # here as rooms stand above it: homeserver/delayed/schedule.py.
    put_off: Callable[["Context", Any, Any, int], Awaitable[str]] = _put_off_nothing
    # What more clients are told under /capabilities, by name.
    capabilities: dict[str, Callable[[], JsonObject]] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
