"""The reasons to refuse an event, by name, and their numbers in each version's text.

The rules of all versions are one nested list; a version leaves out the entries that
it does not have, so its numbers are the places that remain. `_OUTLINE` writes that
list down once, and `number_of` counts.

Numbers are those a reader sees: version 12's text has "5." where the fourth entry of
its rule 3 stands, which every Markdown renderer shows as 4.

Spec: rooms/v1#authorisation-rules, rooms/v12#authorisation-rules
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Final, TypeAlias

from federation.errors import Rejected
from federation.room_versions import RoomVersion


class Rule(Enum):
    """What a rule refuses. Its number depends on the room version."""

    CREATE_PREV_EVENTS = auto()
    CREATE_ROOM_ID = auto()
    CREATE_ROOM_VERSION = auto()
    CREATE_CREATOR = auto()
    CREATE_ADDITIONAL = auto()
    ROOM_ID = auto()
    AUTH_DUPLICATE = auto()
    AUTH_NOT_SELECTED = auto()
    AUTH_REJECTED = auto()
    AUTH_NO_CREATE = auto()
    AUTH_OTHER_ROOM = auto()
    FEDERATE = auto()
    ALIASES_STATE_KEY = auto()
    ALIASES_DOMAIN = auto()
    MEMBER_INCOMPLETE = auto()
    MEMBER_VOUCHER = auto()
    MEMBER_UNKNOWN = auto()
    JOIN_SENDER = auto()
    JOIN_BANNED = auto()
    JOIN_VOUCHER = auto()
    JOIN_NOT_ADMITTED = auto()
    TOKEN_BANNED = auto()
    TOKEN_SIGNED = auto()
    TOKEN_INCOMPLETE = auto()
    TOKEN_MXID = auto()
    TOKEN_UNKNOWN = auto()
    TOKEN_SENDER = auto()
    TOKEN_SIGNATURE = auto()
    INVITE_SENDER = auto()
    INVITE_TARGET = auto()
    INVITE_LEVEL = auto()
    LEAVE_OWN = auto()
    LEAVE_SENDER = auto()
    LEAVE_BAN_LEVEL = auto()
    LEAVE_KICK_LEVEL = auto()
    BAN_SENDER = auto()
    BAN_LEVEL = auto()
    KNOCK_JOIN_RULE = auto()
    KNOCK_SENDER = auto()
    KNOCK_MEMBERSHIP = auto()
    SENDER_NOT_JOINED = auto()
    THIRD_PARTY_LEVEL = auto()
    REQUIRED_LEVEL = auto()
    STATE_KEY = auto()
    LEVELS_NAMED = auto()
    LEVELS_EVENTS = auto()
    LEVELS_USERS = auto()
    LEVELS_CREATORS = auto()
    LEVELS_NAMED_CURRENT = auto()
    LEVELS_NAMED_NEW = auto()
    LEVELS_EVENTS_CURRENT = auto()
    LEVELS_EVENTS_NEW = auto()
    LEVELS_USERS_CURRENT = auto()
    LEVELS_USERS_NEW = auto()
    REDACTION = auto()


_Applies: TypeAlias = Callable[[RoomVersion], bool]
# An entry is a refusal, an entry that refuses nothing (`_ALLOW`: it allows, or is the
# heading of nothing we name), a list of entries, or one that not all versions have.
_Entry: TypeAlias = "Rule | Sequence[_Entry] | _Only | None"


@dataclass(frozen=True, slots=True)
class _Only:
    """An entry in the texts of some versions."""

    applies: _Applies
    entry: _Entry


_ALLOW: Final = None


def _has_creator(version: RoomVersion) -> bool:
    return not version.creator_is_sender


def _creators(version: RoomVersion) -> bool:
    return version.privileged_creators


def _hashed_room_id(version: RoomVersion) -> bool:
    return version.room_id_is_create_hash


def _named_room_id(version: RoomVersion) -> bool:
    return not version.room_id_is_create_hash


def _aliases(version: RoomVersion) -> bool:
    return version.special_aliases


def _restricted(version: RoomVersion) -> bool:
    return version.restricted_joins


def _knock(version: RoomVersion) -> bool:
    return version.knock


def _integers(version: RoomVersion) -> bool:
    return version.integer_power_levels


def _redaction(version: RoomVersion) -> bool:
    return version.redaction_in_auth_rules


_OUTLINE: Final[Sequence[_Entry]] = (
    (  # If type is m.room.create
        Rule.CREATE_PREV_EVENTS,
        Rule.CREATE_ROOM_ID,
        Rule.CREATE_ROOM_VERSION,
        _Only(_has_creator, Rule.CREATE_CREATOR),
        _Only(_creators, Rule.CREATE_ADDITIONAL),
        _ALLOW,
    ),
    _Only(_hashed_room_id, Rule.ROOM_ID),
    (  # Considering the event's auth_events
        Rule.AUTH_DUPLICATE,
        Rule.AUTH_NOT_SELECTED,
        Rule.AUTH_REJECTED,
        _Only(_named_room_id, Rule.AUTH_NO_CREATE),
        Rule.AUTH_OTHER_ROOM,
    ),
    Rule.FEDERATE,
    _Only(_aliases, (Rule.ALIASES_STATE_KEY, Rule.ALIASES_DOMAIN, _ALLOW)),
    (  # If type is m.room.member
        Rule.MEMBER_INCOMPLETE,
        _Only(_restricted, (Rule.MEMBER_VOUCHER,)),
        (  # If membership is join
            _ALLOW,  # the creator, right after the create event
            Rule.JOIN_SENDER,
            Rule.JOIN_BANNED,
            _ALLOW,  # invite, knock
            _Only(_restricted, (_ALLOW, Rule.JOIN_VOUCHER, _ALLOW)),
            _ALLOW,  # public
            Rule.JOIN_NOT_ADMITTED,
        ),
        (  # If membership is invite
            (  # If content has a third_party_invite property
                Rule.TOKEN_BANNED,
                Rule.TOKEN_SIGNED,
                Rule.TOKEN_INCOMPLETE,
                Rule.TOKEN_MXID,
                Rule.TOKEN_UNKNOWN,
                Rule.TOKEN_SENDER,
                _ALLOW,  # any signature matches any key
                Rule.TOKEN_SIGNATURE,
            ),
            Rule.INVITE_SENDER,
            Rule.INVITE_TARGET,
            _ALLOW,  # the sender has the invite level
            Rule.INVITE_LEVEL,
        ),
        (  # If membership is leave
            Rule.LEAVE_OWN,
            Rule.LEAVE_SENDER,
            Rule.LEAVE_BAN_LEVEL,
            _ALLOW,  # the sender has the kick level and more power than the target
            Rule.LEAVE_KICK_LEVEL,
        ),
        (  # If membership is ban
            Rule.BAN_SENDER,
            _ALLOW,  # the sender has the ban level and more power than the target
            Rule.BAN_LEVEL,
        ),
        _Only(
            _knock,
            (Rule.KNOCK_JOIN_RULE, Rule.KNOCK_SENDER, _ALLOW, Rule.KNOCK_MEMBERSHIP),
        ),
        Rule.MEMBER_UNKNOWN,
    ),
    Rule.SENDER_NOT_JOINED,
    (Rule.THIRD_PARTY_LEVEL,),
    Rule.REQUIRED_LEVEL,
    Rule.STATE_KEY,
    (  # If type is m.room.power_levels
        _Only(_integers, Rule.LEVELS_NAMED),
        _Only(_integers, Rule.LEVELS_EVENTS),
        Rule.LEVELS_USERS,
        _Only(_creators, Rule.LEVELS_CREATORS),
        _ALLOW,  # there are no power levels yet
        (Rule.LEVELS_NAMED_CURRENT, Rule.LEVELS_NAMED_NEW),
        (Rule.LEVELS_EVENTS_CURRENT,),
        (Rule.LEVELS_EVENTS_NEW,),
        (Rule.LEVELS_USERS_CURRENT,),
        (Rule.LEVELS_USERS_NEW,),
        _ALLOW,
    ),
    _Only(_redaction, (_ALLOW, _ALLOW, Rule.REDACTION)),
    _ALLOW,
)


def _numbered(
    entries: Sequence[_Entry], version: RoomVersion, prefix: str = ""
) -> Iterator[tuple[Rule, str]]:
    place = 0
    for entry in entries:
        if isinstance(entry, _Only):
            if not entry.applies(version):
                continue
            entry = entry.entry  # noqa: PLW2901 - the entry is what it holds
        place += 1
        number = f"{prefix}{place}"
        if isinstance(entry, Rule):
            yield entry, number
        elif isinstance(entry, tuple):
            yield from _numbered(entry, version, number + ".")


@cache  # one table per room version
def numbers(version: RoomVersion) -> dict[Rule, str]:
    """Every rule of the room version and the number that its text gives it."""
    return dict(_numbered(_OUTLINE, version))


def refuse(version: RoomVersion, rule: Rule, why: str) -> Rejected:
    """The refusal by a rule, with its number in this version's text; to be raised."""
    return Rejected(numbers(version)[rule], why)
