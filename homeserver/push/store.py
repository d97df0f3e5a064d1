"""The table `push_rules`: what users changed of their rules, and when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.accounts.store import account_data
from homeserver.accounts.store.account_data import OF_NO_ROOM, AccountData
from homeserver.config.push import Push
from homeserver.db.pool import Tx
from homeserver.live.changes import Positioned
from homeserver.push.rules import (
    NO_EXTRAS,
    NOTHING_CHANGED,
    Change,
    Changes,
    Extras,
    encode_changes,
    parse_changes,
    ruleset_of,
)

PUSH_RULES: Final = "m.push_rules"
# Older rules than so many changes ago are not kept: events of that time are judged by
# the default ones.
_KEEP: Final = 100


@dataclass(frozen=True, slots=True)
class RuleEdit:
    """A change of a user's rules, made when its turn comes."""

    user_id: UserId
    change: Change
    extras: Extras = NO_EXTRAS


def default_content(user_id: UserId, extras: Extras = NO_EXTRAS) -> JsonObject:
    """The account data of a user who has changed nothing."""
    return _content(user_id, NOTHING_CHANGED, extras)


async def read_content(tx: Tx, user_id: UserId, extras: Extras) -> JsonObject:
    """The account data of a user, with the predefined rules as they are now."""
    return _content(user_id, await read_changes(tx, user_id), extras)


def extras_of(config: Push) -> Extras:
    """The rules beside the specification's that the operator wants."""
    return Extras(config.encrypted_events, config.thread_subscriptions)


def defaults(config: Push) -> Mapping[str, Callable[[UserId], JsonObject]]:
    """By its type: what users have before they set anything."""
    return {PUSH_RULES: partial(default_content, extras=extras_of(config))}


def _content(user_id: UserId, changes: Changes, extras: Extras) -> JsonObject:
    return {"global": ruleset_of(user_id, changes, extras).as_json()}


async def read_changes(tx: Tx, user_id: UserId) -> Changes:
    """What the user has changed by now."""
    text = await tx.fetchval(
        """
        SELECT changes FROM push_rules
         WHERE user_id = $1 ORDER BY position DESC LIMIT 1
        """,
        user_id,
    )
    return NOTHING_CHANGED if text is None else parse_changes(text)


async def read_history(tx: Tx, user_id: UserId) -> list[tuple[int, Changes]]:
    """What the user had changed since which positions, in order."""
    rows = await tx.fetch(
        "SELECT position, changes FROM push_rules WHERE user_id = $1 ORDER BY position",
        user_id,
    )
    return [(position, parse_changes(text)) for position, text in rows]


async def change_rules(tx: Tx, batch: Sequence[Positioned[RuleEdit]]) -> None:
    """Change rules, each on top of the change before. For the committer.

    Clients get the whole ruleset as account data.
    """
    for each in batch:
        user_id, extras = each.item.user_id, each.item.extras
        changes = each.item.change(await read_changes(tx, user_id))
        await tx.execute(
            """
            WITH old AS (
                DELETE FROM push_rules
                 WHERE user_id = $1
                   AND position < (SELECT position FROM push_rules
                                    WHERE user_id = $1
                                    ORDER BY position DESC OFFSET $4 LIMIT 1)
            )
            INSERT INTO push_rules (user_id, position, changes) VALUES ($1, $2, $3)
            """,
            user_id,
            each.position,
            encode_changes(changes),
            _KEEP,
        )
        content = _content(user_id, changes, extras)
        data = AccountData(user_id, OF_NO_ROOM, PUSH_RULES, content)
        await account_data.put(tx, [Positioned(each.position, data)])
