"""Whose invites users take: at hand until their account data moves.

Spec: client-server-api#invite-permission; MSC4380, MSC4155
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import orjson

from federation.canonical_json import JsonObject, JsonValue
from federation.ids import ServerName, UserId, server_of
from homeserver.bounded import MIB, LruCache
from homeserver.db.pool import Database
from homeserver.globs import Glob
from homeserver.live.changes import Change, Kind
from homeserver.live.view import View

STABLE: Final = "m.invite_permission_config"
_MSC4380: Final = "org.matrix.msc4380.invite_permission_config"
_MSC4155: Final = "org.matrix.msc4155.invite_permission_config"
_TYPES: Final = (STABLE, _MSC4380, _MSC4155)
_BYTES: Final = 24 * MIB
_USER_COST: Final = 150  # bytes, roughly; and of each glob, which is compiled
_GLOB_COST: Final = 2000
_MAX_GLOBS: Final = 5_000  # of one user


class Verdict(Enum):
    """What becomes of an invite."""

    ALLOW = "allow"
    IGNORE = "ignore"  # it stands, and the user is not told
    BLOCK = "block"


# In the order in which they are looked at. MSC4155.
_ORDER: Final = (
    ("allowed_users", Verdict.ALLOW),
    ("ignored_users", Verdict.IGNORE),
    ("blocked_users", Verdict.BLOCK),
    ("allowed_servers", Verdict.ALLOW),
    ("ignored_servers", Verdict.IGNORE),
    ("blocked_servers", Verdict.BLOCK),
)


@dataclass(frozen=True, slots=True)
class InviteConfig:
    """What one user has set."""

    blocks_all: bool = False
    rules: Sequence[tuple[str, Glob, Verdict]] = ()

    @property
    def is_open(self) -> bool:
        """Whether every invite is taken."""
        return not self.blocks_all and not self.rules

    def verdict(self, sender: UserId) -> Verdict:
        """What becomes of an invite by that user."""
        if self.blocks_all:
            return Verdict.BLOCK
        if not self.rules:
            return Verdict.ALLOW
        host = _host_of(server_of(sender))
        for name, glob, verdict in self.rules:
            if glob.matches(sender if name.endswith("_users") else host):
                return verdict
        return Verdict.ALLOW


OPEN: Final = InviteConfig()


class InviteRules:
    """The settings of local users."""

    def __init__(self, db: Database, view: View) -> None:
        self._db = db
        self._of: LruCache[str, InviteConfig] = LruCache(
            "invite rules",
            _BYTES,
            lambda config: _USER_COST + _GLOB_COST * len(config.rules),
        )
        # Counts what was forgotten, so that what is being read does not outlive it.
        self._changes = 0
        view.on_change(Kind.ACCOUNT_DATA, self._on_change)
        view.on_reset(self._on_reset)

    def _on_change(self, _position: int, change: Change) -> None:
        if change.room_nid is None and change.user_id is not None:
            self._changes += 1
            self._of.pop(change.user_id)

    def _on_reset(self) -> None:
        self._changes += 1
        self._of.clear()

    async def of(self, user_id: UserId) -> InviteConfig:
        """What the user has set by now."""
        known = self._of.get(user_id)
        if known is not None:
            return known
        changes = self._changes
        async with self._db.read() as tx:
            rows = await tx.fetch(
                """
                SELECT type, content FROM account_data
                 WHERE user_id = $1 AND room_nid = 0 AND type = ANY($2)
                """,
                user_id,
                _TYPES,
            )
        config = read_config({type_: orjson.loads(text) for type_, text in rows})
        if changes == self._changes:
            self._of.put(user_id, config)
        return config


def read_config(contents: Mapping[str, JsonObject]) -> InviteConfig:
    """What account data says, by type; whatever a client has put there."""
    for type_ in (STABLE, _MSC4380):
        content = contents.get(type_, {})
        if content.get("default_action") == "block" or content.get("block_all") is True:
            return InviteConfig(blocks_all=True)
    lists = contents.get(_MSC4155, contents.get(STABLE, {}))
    if lists.get("enabled", True) is False:
        return OPEN
    rules = []
    for name, verdict in _ORDER:
        values = _strings(lists.get(name))
        if values is None:  # "the entire event being considered invalid"
            return OPEN
        rules += [(name, Glob(value), verdict) for value in values]
    return InviteConfig(rules=rules[:_MAX_GLOBS]) if rules else OPEN


def _strings(value: JsonValue) -> list[str] | None:
    if value is None:
        return []
    if not isinstance(value, list):
        return None
    texts = [each for each in value if isinstance(each, str)]
    return texts if len(texts) == len(value) else None


def _host_of(server: ServerName) -> str:
    """The server name without its port."""
    if server.startswith("["):
        return server[: server.index("]") + 1]
    return server.partition(":")[0]
