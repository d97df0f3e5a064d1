"""Each refusal carries the number that its room version's text gives the rule."""

import os
import re
from pathlib import Path

import pytest

from federation.auth_rules.rules import Rule, numbers, refuse
from federation.room_versions import (
    ROOM_VERSIONS,
    V1,
    V2,
    V3,
    V4,
    V5,
    V6,
    V7,
    V8,
    V9,
    V10,
    V11,
    V12,
)

FAMILIES = [[V1, V2], [V3, V4, V5], [V6], [V7], [V8, V9], [V10], [V11], [V12]]

# Copied from the pages by hand; "-" where the versions have no such rule.
NUMBERS = """
                       1,2     3-5     6       7       8,9     10      11      12
CREATE_PREV_EVENTS     1.1     1.1     1.1     1.1     1.1     1.1     1.1     1.1
CREATE_ROOM_ID         1.2     1.2     1.2     1.2     1.2     1.2     1.2     1.2
CREATE_ROOM_VERSION    1.3     1.3     1.3     1.3     1.3     1.3     1.3     1.3
CREATE_CREATOR         1.4     1.4     1.4     1.4     1.4     1.4     -       -
CREATE_ADDITIONAL      -       -       -       -       -       -       -       1.4
ROOM_ID                -       -       -       -       -       -       -       2
AUTH_DUPLICATE         2.1     2.1     2.1     2.1     2.1     2.1     2.1     3.1
AUTH_NOT_SELECTED      2.2     2.2     2.2     2.2     2.2     2.2     2.2     3.2
AUTH_REJECTED          2.3     2.3     2.3     2.3     2.3     2.3     2.3     3.3
AUTH_NO_CREATE         2.4     2.4     2.4     2.4     2.4     2.4     2.4     -
AUTH_OTHER_ROOM        2.5     2.5     2.5     2.5     2.5     2.5     2.5     3.4
FEDERATE               3       3       3       3       3       3       3       4
ALIASES_STATE_KEY      4.1     4.1     -       -       -       -       -       -
ALIASES_DOMAIN         4.2     4.2     -       -       -       -       -       -
MEMBER_INCOMPLETE      5.1     5.1     4.1     4.1     4.1     4.1     4.1     5.1
MEMBER_VOUCHER         -       -       -       -       4.2.1   4.2.1   4.2.1   5.2.1
MEMBER_UNKNOWN         5.6     5.6     4.6     4.7     4.8     4.8     4.8     5.8
JOIN_SENDER            5.2.2   5.2.2   4.2.2   4.2.2   4.3.2   4.3.2   4.3.2   5.3.2
JOIN_BANNED            5.2.3   5.2.3   4.2.3   4.2.3   4.3.3   4.3.3   4.3.3   5.3.3
JOIN_VOUCHER           -       -       -       -       4.3.5.2 4.3.5.2 4.3.5.2 5.3.5.2
JOIN_NOT_ADMITTED      5.2.6   5.2.6   4.2.6   4.2.6   4.3.7   4.3.7   4.3.7   5.3.7
TOKEN_BANNED           5.3.1.1 5.3.1.1 4.3.1.1 4.3.1.1 4.4.1.1 4.4.1.1 4.4.1.1 5.4.1.1
TOKEN_SIGNED           5.3.1.2 5.3.1.2 4.3.1.2 4.3.1.2 4.4.1.2 4.4.1.2 4.4.1.2 5.4.1.2
TOKEN_INCOMPLETE       5.3.1.3 5.3.1.3 4.3.1.3 4.3.1.3 4.4.1.3 4.4.1.3 4.4.1.3 5.4.1.3
TOKEN_MXID             5.3.1.4 5.3.1.4 4.3.1.4 4.3.1.4 4.4.1.4 4.4.1.4 4.4.1.4 5.4.1.4
TOKEN_UNKNOWN          5.3.1.5 5.3.1.5 4.3.1.5 4.3.1.5 4.4.1.5 4.4.1.5 4.4.1.5 5.4.1.5
TOKEN_SENDER           5.3.1.6 5.3.1.6 4.3.1.6 4.3.1.6 4.4.1.6 4.4.1.6 4.4.1.6 5.4.1.6
TOKEN_SIGNATURE        5.3.1.8 5.3.1.8 4.3.1.8 4.3.1.8 4.4.1.8 4.4.1.8 4.4.1.8 5.4.1.8
INVITE_SENDER          5.3.2   5.3.2   4.3.2   4.3.2   4.4.2   4.4.2   4.4.2   5.4.2
INVITE_TARGET          5.3.3   5.3.3   4.3.3   4.3.3   4.4.3   4.4.3   4.4.3   5.4.3
INVITE_LEVEL           5.3.5   5.3.5   4.3.5   4.3.5   4.4.5   4.4.5   4.4.5   5.4.5
LEAVE_OWN              5.4.1   5.4.1   4.4.1   4.4.1   4.5.1   4.5.1   4.5.1   5.5.1
LEAVE_SENDER           5.4.2   5.4.2   4.4.2   4.4.2   4.5.2   4.5.2   4.5.2   5.5.2
LEAVE_BAN_LEVEL        5.4.3   5.4.3   4.4.3   4.4.3   4.5.3   4.5.3   4.5.3   5.5.3
LEAVE_KICK_LEVEL       5.4.5   5.4.5   4.4.5   4.4.5   4.5.5   4.5.5   4.5.5   5.5.5
BAN_SENDER             5.5.1   5.5.1   4.5.1   4.5.1   4.6.1   4.6.1   4.6.1   5.6.1
BAN_LEVEL              5.5.3   5.5.3   4.5.3   4.5.3   4.6.3   4.6.3   4.6.3   5.6.3
KNOCK_JOIN_RULE        -       -       -       4.6.1   4.7.1   4.7.1   4.7.1   5.7.1
KNOCK_SENDER           -       -       -       4.6.2   4.7.2   4.7.2   4.7.2   5.7.2
KNOCK_MEMBERSHIP       -       -       -       4.6.4   4.7.4   4.7.4   4.7.4   5.7.4
SENDER_NOT_JOINED      6       6       5       5       5       5       5       6
THIRD_PARTY_LEVEL      7.1     7.1     6.1     6.1     6.1     6.1     6.1     7.1
REQUIRED_LEVEL         8       8       7       7       7       7       7       8
STATE_KEY              9       9       8       8       8       8       8       9
LEVELS_NAMED           -       -       -       -       -       9.1     9.1     10.1
LEVELS_EVENTS          -       -       -       -       -       9.2     9.2     10.2
LEVELS_USERS           10.1    10.1    9.1     9.1     9.1     9.3     9.3     10.3
LEVELS_CREATORS        -       -       -       -       -       -       -       10.4
LEVELS_NAMED_CURRENT   10.3.1  10.3.1  9.3.1   9.3.1   9.3.1   9.5.1   9.5.1   10.6.1
LEVELS_NAMED_NEW       10.3.2  10.3.2  9.3.2   9.3.2   9.3.2   9.5.2   9.5.2   10.6.2
LEVELS_EVENTS_CURRENT  10.4.1  10.4.1  9.4.1   9.4.1   9.4.1   9.6.1   9.6.1   10.7.1
LEVELS_EVENTS_NEW      10.5.1  10.5.1  9.5.1   9.5.1   9.5.1   9.7.1   9.7.1   10.8.1
LEVELS_USERS_CURRENT   10.6.1  10.6.1  9.6.1   9.6.1   9.6.1   9.8.1   9.8.1   10.9.1
LEVELS_USERS_NEW       10.7.1  10.7.1  9.7.1   9.7.1   9.7.1   9.9.1   9.9.1   10.10.1
REDACTION              11.3    -       -       -       -       -       -       -
"""
TABLE = {
    Rule[name]: numbers for name, *numbers in map(str.split, NUMBERS.splitlines()[2:])
}

# Words by which one knows each rule in the text.
WORDS = {
    Rule.CREATE_PREV_EVENTS: "it has any `prev_events`",
    Rule.CREATE_ROOM_ID: "room_id`",
    Rule.CREATE_ROOM_VERSION: "`content.room_version` is present and is not",
    Rule.CREATE_CREATOR: "`content` has no `creator` property",
    Rule.CREATE_ADDITIONAL: "If `additional_creators` is present",
    Rule.ROOM_ID: "`room_id` is not an event ID for an accepted",
    Rule.AUTH_DUPLICATE: "duplicate entries for a given `type`",
    Rule.AUTH_NOT_SELECTED: "entries whose `type` and `state_key` don't match",
    Rule.AUTH_REJECTED: "entries which were themselves rejected",
    Rule.AUTH_NO_CREATE: "no `m.room.create` event among the entries",
    Rule.AUTH_OTHER_ROOM: "has a `room_id` which does not match",
    Rule.FEDERATE: "property `m.federate` set to `false`",
    Rule.ALIASES_STATE_KEY: "If event has no `state_key`",
    Rule.ALIASES_DOMAIN: "sender's domain doesn't match `state_key`",
    Rule.MEMBER_INCOMPLETE: "no `state_key` property, or no `membership`",
    Rule.MEMBER_VOUCHER: "not validly signed by the homeserver",
    Rule.MEMBER_UNKNOWN: "Otherwise, the membership is unknown",
    Rule.JOIN_SENDER: "`sender` does not match `state_key`",
    Rule.JOIN_BANNED: "`sender` is banned",
    Rule.JOIN_VOUCHER: "is not a user with sufficient permission to invite",
    Rule.JOIN_NOT_ADMITTED: "Otherwise, reject",
    Rule.TOKEN_BANNED: "*target user* is banned",
    Rule.TOKEN_SIGNED: "does not have a `signed`",
    Rule.TOKEN_INCOMPLETE: "`signed` does not have `mxid` and `token`",
    Rule.TOKEN_MXID: "`mxid` does not match `state_key`",
    Rule.TOKEN_UNKNOWN: "with `state_key` matching `token`",
    Rule.TOKEN_SENDER: "`sender` does not match `sender` of the",
    Rule.TOKEN_SIGNATURE: "Otherwise, reject",
    Rule.INVITE_SENDER: "`sender`'s current membership state is not `join`",
    Rule.INVITE_TARGET: "membership state is `join` or `ban`",
    Rule.INVITE_LEVEL: "Otherwise, reject",
    Rule.LEAVE_OWN: "`sender` matches `state_key`, allow if and only if",
    Rule.LEAVE_SENDER: "`sender`'s current membership state is not `join`",
    Rule.LEAVE_BAN_LEVEL: "power level is less than the *ban level*",
    Rule.LEAVE_KICK_LEVEL: "Otherwise, reject",
    Rule.BAN_SENDER: "`sender`'s current membership state is not `join`",
    Rule.BAN_LEVEL: "Otherwise, reject",
    Rule.KNOCK_JOIN_RULE: "`join_rule` is anything other than `knock`",
    Rule.KNOCK_SENDER: "`sender` does not match `state_key`",
    Rule.KNOCK_MEMBERSHIP: "Otherwise, reject",
    Rule.SENDER_NOT_JOINED: "`sender`'s current membership state is not `join`",
    Rule.THIRD_PARTY_LEVEL: "than or equal to the *invite level*",
    Rule.REQUIRED_LEVEL: "event type's *required power level* is greater",
    Rule.STATE_KEY: "`state_key` that starts with an `@`",
    Rule.LEVELS_NAMED: "in `content` are present and not an integer",
    Rule.LEVELS_EVENTS: "properties `events` or `notifications` in `content`",
    Rule.LEVELS_USERS: "`users` property in `content` is not an object",
    Rule.LEVELS_CREATORS: "`users` property in `content` contains the `sender`",
    Rule.LEVELS_NAMED_CURRENT: "current value is",
    Rule.LEVELS_NAMED_NEW: "new value is",
    Rule.LEVELS_EVENTS_CURRENT: "current value is greater than the",
    Rule.LEVELS_EVENTS_NEW: "new value is greater than the",
    Rule.LEVELS_USERS_CURRENT: "current value is greater than or equal to",
    Rule.LEVELS_USERS_NEW: "new value is greater than the",
    Rule.REDACTION: "Otherwise, reject",
}

ROOMS = (
    Path(os.environ.get("MATRIX_SPEC") or Path(__file__).parents[3] / "shared/spec")
    / "text/rooms"
)


@pytest.mark.parametrize("rule", Rule)
def test_the_numbers_are_those_of_the_text(rule: Rule) -> None:
    for family, number in zip(FAMILIES, TABLE[rule], strict=True):
        for version in family:
            expected = None if number == "-" else number
            assert numbers(version).get(rule) == expected, version


def numbered_text(page: str) -> dict[str, str]:
    """The rules of a room version's page by number, counted as a renderer counts."""
    rules: dict[str, str] = {}
    places: list[tuple[int, int]] = []  # indentation and place, outermost first
    for line in page.splitlines():
        entry = re.match(r"( *)\d+\. +(.*)", line)
        if entry:
            indent, place = len(entry[1]), 1
            while places and places[-1][0] >= indent:
                place = places.pop()[1] + 1
            places.append((indent, place))
            rules[".".join(str(place) for _, place in places)] = entry[2]
        elif places and line.startswith("  "):
            number = ".".join(str(place) for _, place in places)
            rules[number] += " " + line.strip()
        elif places and line.strip():
            break  # the list is over
    return rules


def rules_of(version: str) -> dict[str, str]:
    page = (ROOMS / f"v{version}.md").read_text()
    fragment = re.search(r'rver-fragment name="(v\d+-auth-rules)"', page)
    if fragment:
        page = (ROOMS / f"fragments/{fragment[1]}.md").read_text()
    begin = re.search(r"^The .*rules.* as follows:$", page, re.MULTILINE)
    assert begin is not None
    return numbered_text(page[begin.end() :])


@pytest.mark.skipif(not ROOMS.is_dir(), reason="the specification is not here")
@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_the_text_has_each_rule_at_its_number(version: str) -> None:
    text = rules_of(version)
    ours = numbers(ROOM_VERSIONS[version])
    for rule, number in ours.items():
        assert WORDS[rule] in text[number], (rule, number)
    # and we have a name for each place where the text rejects
    assert set(ours.values()) == {
        number
        for number, words in text.items()
        if re.search(r"reject|allow if and only if", words, re.IGNORECASE)
    }


def test_a_refusal_says_why() -> None:
    rejected = refuse(V12, Rule.JOIN_BANNED, "the user is banned")
    assert rejected.rule == "5.3.3"
    assert str(rejected) == "rule 5.3.3: the user is banned"
