"""What endpoints and tasks are given: the few things that a process has one of."""

from dataclasses import dataclass

from federation.ids import KeyId, ServerName
from federation.signatures import SigningKey
from federation.wire.client import WireClient
from homeserver.bounded import LruCache
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.db.pool import Database
from homeserver.live.live import Live


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key of a server; `valid_until_ms` is its expiry when it is retired."""

    public: bytes
    valid_until_ms: int


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
