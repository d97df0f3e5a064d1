"""What push rules say of events: globs, conditions, and the order of rules."""

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.auth_rules.power_levels import PowerLevels
from federation.ids import EventId, RoomId, UserId
from federation.pdu import Pdu
from federation.room_versions import ROOM_VERSIONS
from homeserver.errors import MatrixError
from homeserver.globs import MAX_PATTERN, Glob
from homeserver.push.digests import Digest, decode_digests, encode_digests
from homeserver.push.evaluation import (
    SILENT,
    Evaluator,
    Occasion,
    outcome_of,
    path_of,
)
from homeserver.push.rules import (
    NOTHING_CHANGED,
    Changes,
    Place,
    Rule,
    RuleKind,
    encode_changes,
    parse_changes,
    parse_rule,
    ruleset_of,
    with_rule,
    with_set,
    without_rule,
)

ALICE, BOB = UserId("@alice:hearth.test"), UserId("@bob:hearth.test")
ROOM = RoomId("!room:hearth.test")
V11 = ROOM_VERSIONS["11"]
NOTIFY = {"actions": ["notify"]}


def event(content: Any = None, type_: str = "m.room.message", **more: Any) -> Pdu:
    fields: dict[str, Any] = {
        "version": V11,
        "event_id": EventId("$event"),
        "room_id": ROOM,
        "type": type_,
        "state_key": None,
        "sender": BOB,
        "origin_server_ts": 1_700_000_000_000,
        "depth": 5,
        "prev_events": (),
        "auth_events": (),
        "content": {"body": "hello"} if content is None else content,
        "redacts": None,
        "json": {},
    }
    return Pdu(**{**fields, **more})


def matches(condition: Any, pdu: Pdu | None = None, **more: Any) -> bool:
    """Whether a rule with this condition alone matches the event."""
    rule = parse_rule(RuleKind.OVERRIDE, "x", {"conditions": [condition], **NOTIFY})
    changes = with_rule(NOTHING_CHANGED, RuleKind.OVERRIDE, rule, Place())
    # Nothing else may match.
    for name in ("message", "room_one_to_one"):
        changes = with_set(
            changes, RuleKind.UNDERRIDE, f".m.rule.{name}", enabled=False
        )
    occasion = Occasion(event() if pdu is None else pdu, **{"joined": 5, **more})
    return Evaluator(ruleset_of(ALICE, changes)).evaluate(occasion).notifies


# ── Globs ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pattern", "text", "whole", "word"),
    [
        ("lunc?*", "Lunch plans", True, True),
        ("lunc?*", "LUNCH", True, True),
        ("lunc?*", " lunch", False, True),
        ("lunc?*", "lunc", False, False),
        ("ex*ple", "An example event.", False, True),
        ("ex*ple", "exple", True, True),
        ("ex*ple", "An exciting triple-whammy", False, True),
        ("ex*ple", "examples", False, False),
        ("cake", "pancake", False, False),
        ("cake", "cake_1", False, False),
        ("cake", "some cake!", False, True),
        ("cake", "käcake", False, True),
        ("cake", "ücake", False, True),
        ("*", "", True, True),
        ("", "", True, True),
        ("?", "", False, False),
        ("a.c", "abc", False, False),
        ("a*b*c", "a c b", False, False),
        ("a*b*c", "a\nb\nc", True, True),
        ("**a**", "xax", True, True),
        ("a*a", "a", False, False),
        ("[ab]", "a", False, False),
        ("foo*bar", "foobar xbar", True, True),
        ("foo*bar", "foo xbar bar", True, True),
        ("STRASSE", "strasse", True, True),
    ],
)
def test_globs(pattern: str, text: str, *, whole: bool, word: bool) -> None:
    assert Glob(pattern).matches(text) is whole
    assert Glob(pattern, words=True).matches(text) is word


def naive(pattern: str, text: str, *, words: bool) -> bool:
    """The same by backtracking, which is slow and plain."""
    expression = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    flags = re.IGNORECASE | re.DOTALL
    if not words:
        return re.fullmatch(expression, text, flags) is not None
    edges = [
        at
        for at in range(len(text) + 1)
        if at in (0, len(text)) or re.search(r"[^A-Za-z0-9_]", text[at - 1 : at + 1])
    ]
    starts = [at for at in edges if at == 0 or not is_word(text[at - 1])]
    ends = [at for at in edges if at == len(text) or not is_word(text[at])]
    return any(
        re.fullmatch(expression, text[start:end], flags)
        for start in starts
        for end in ends
        if start <= end
    )


def is_word(char: str) -> bool:
    return re.fullmatch("[A-Za-z0-9_]", char) is not None


@given(
    pattern=st.text("aAb *?-", max_size=8),
    text=st.text("aAb -_", max_size=10),
    words=st.booleans(),
)
def test_globs_agree_with_backtracking(pattern: str, text: str, *, words: bool) -> None:
    expected = naive(pattern, text, words=words)
    assert Glob(pattern, words=words).matches(text) is expected


def test_hostile_globs_take_no_time() -> None:
    text = "a" * 60_000
    began = time.perf_counter()
    for pattern in ("a*" * 200 + "b", "*a?" * 100 + "*b", "?" * 400 + "b"):
        assert not Glob(pattern).matches(text)
        assert not Glob(pattern, words=True).matches(text)
    assert time.perf_counter() - began < 5


# ── Conditions ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.mentions.room", ("content", "m.mentions", "room")),
        (r"content.m\\foo", ("content", "m\\foo")),
        (r"content.\x", ("content", "\\x")),
        (r"a\\.b", ("a\\", "b")),
        ("", ("",)),
        ("a..b", ("a", "", "b")),
        ("a\\", ("a\\",)),
    ],
)
def test_paths(key: str, path: tuple[str, ...]) -> None:
    assert path_of(key) == path


def event_match(key: str, pattern: Any) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def test_event_match_looks_at_texts_of_the_client_format() -> None:
    topic = event({"topic": "Lunch", "n": 1, "deep": {"a.b": "x"}}, state_key="")
    for key, pattern, expected in [
        ("content.topic", "lunch", True),
        ("content.topic", "lu", False),
        ("content.n", "*", False),
        ("content.none", "*", False),
        (r"content.deep.a\.b", "x", True),
        ("content.deep", "*", False),
        ("content.topic.deeper", "*", False),
        ("type", "M.ROOM.*", True),
        ("state_key", "", True),
        ("sender", BOB, True),
        ("room_id", ROOM, True),
        ("event_id", "$ev?nt", True),
        ("depth", "*", False),
        ("type.x", "*", False),
        ("origin_server_ts", "*", False),
        ("", "*", False),
    ]:
        assert matches(event_match(key, pattern), topic) is expected, key
    assert not matches(event_match("state_key", ""), event())
    assert matches(event_match("content.body", "HELL?"))
    assert matches(event_match("content.body", "hello"), event({"body": "oh, hello!"}))
    assert not matches(event_match("content.body", "hell"))


def test_properties_are_compared_without_casts() -> None:
    given = event({"b": True, "n": 1, "s": "x", "none": None, "list": [1, "x", None]})
    for key, value, expected in [
        ("content.b", True, True),
        ("content.b", 1, False),
        ("content.n", 1, True),
        ("content.n", True, False),
        ("content.n", "1", False),
        ("content.s", "X", False),
        ("content.none", None, True),
        ("content.absent", None, False),
        ("content.list", "x", False),
    ]:
        condition = {"kind": "event_property_is", "key": key, "value": value}
        assert matches(condition, given) is expected, (key, value)
    for value, expected in [(1, True), (True, False), ("x", True), (None, True)]:
        condition = {
            "kind": "event_property_contains",
            "key": "content.list",
            "value": value,
        }
        assert matches(condition, given) is expected
    condition = {"kind": "event_property_contains", "key": "content.s", "value": "x"}
    assert not matches(condition, given)


def test_member_counts() -> None:
    for wanted, expected in [
        ("5", True),
        ("==5", True),
        ("4", False),
        ("<5", False),
        ("<6", True),
        (">4", True),
        (">5", False),
        ("<=5", True),
        (">=6", False),
        (">= 5", False),
        ("=5", False),
        ("", False),
        ("\N{ARABIC-INDIC DIGIT FIVE}", False),
        (5, False),
    ]:
        condition = {"kind": "room_member_count", "is": wanted}
        assert matches(condition) is expected, wanted


def test_display_names_are_words() -> None:
    condition = {"kind": "contains_display_name"}
    for name, body, expected in [
        ("Al.", "hi al. there", True),
        ("al", "hi alice", False),
        ("*", "anything", False),
        ("", "anything", False),
        (None, "anything", False),
        ("hi", 7, False),
    ]:
        given = event({"body": body})
        assert matches(condition, given, display_name=name) is expected


def test_only_those_with_power_notify_a_room() -> None:
    condition = {"kind": "sender_notification_permission", "key": "room"}
    for content, expected in [
        ({"users": {BOB: 50}}, True),
        ({"users": {BOB: 49}}, False),
        ({"users": {BOB: 10}, "notifications": {"room": 10}}, True),
        ({}, False),
    ]:
        levels = PowerLevels(V11, None, content)
        assert matches(condition, levels=levels) is expected
    assert not matches(condition)


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "org.example.moon"},
        {"kind": "event_match"},
        event_match("type", 7),
        event_match("type", "*" * (MAX_PATTERN + 1)),
        {"kind": "event_match", "pattern": "*"},
        {"kind": "event_property_is", "key": "type"},
        {"kind": "event_property_is", "key": "content.list", "value": []},
        {"kind": "event_property_contains", "key": "content.list", "value": {}},
        {"kind": "event_property_contains", "value": 1},
        {"kind": "room_member_count"},
        {"kind": "sender_notification_permission"},
    ],
)
def test_what_is_not_understood_matches_nothing(condition: dict[str, Any]) -> None:
    assert not matches(condition, event({"list": [[], {}, None], "body": "x"}))


# ── Actions, order ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("actions", "notifies", "highlights"),
    [
        ([], False, False),
        (["notify"], True, False),
        ([{"set_tweak": "highlight"}], False, False),
        (["notify", {"set_tweak": "highlight"}], True, True),
        (["notify", {"set_tweak": "highlight", "value": True}], True, True),
        (["notify", {"set_tweak": "highlight", "value": False}], True, False),
        (["notify", {"set_tweak": "sound", "value": "x"}], True, False),
    ],
)
def test_actions(actions: list[Any], *, notifies: bool, highlights: bool) -> None:
    outcome = outcome_of(actions)
    assert (outcome.notifies, outcome.highlights) == (notifies, highlights)


def names(changes: Changes, pdu: Pdu, joined: int = 5) -> Any:
    """What the rules say, by the sound that each rule plays."""
    outcome = Evaluator(ruleset_of(ALICE, changes)).evaluate(Occasion(pdu, joined))
    if outcome is SILENT or not outcome.notifies:
        return None
    return outcome.actions[-1]


def test_kinds_are_checked_in_order() -> None:
    changes = NOTHING_CHANGED
    pdu = event({"body": "cake"})
    expected: list[Any] = ["notify"]
    assert names(changes, pdu) == "notify"
    for kind, rule_id, more in [
        (RuleKind.UNDERRIDE, "u", {}),
        (RuleKind.SENDER, BOB, {}),
        (RuleKind.ROOM, ROOM, {}),
        (RuleKind.CONTENT, "c", {"pattern": "cake"}),
        (RuleKind.OVERRIDE, "o", {}),
    ]:
        sound = {"set_tweak": "sound", "value": kind.value}
        rule = parse_rule(kind, rule_id, {"actions": ["notify", sound], **more})
        changes = with_rule(changes, kind, rule, Place())
        expected.append(sound)
        assert names(changes, pdu) == sound
    elsewhere = event({"body": "x"}, room_id=RoomId("!y:z"), sender=UserId("@c:z"))
    assert names(changes, elsewhere) == expected[-1]
    changes = with_set(changes, RuleKind.OVERRIDE, "o", enabled=False)
    assert names(changes, pdu) == expected[-2]
    assert names(changes, elsewhere) == expected[1]
    changes = with_set(changes, RuleKind.OVERRIDE, ".m.rule.master", enabled=True)
    assert names(changes, pdu) is None


def test_predefined_rules() -> None:
    loud = {"set_tweak": "sound", "value": "default"}
    ring = {"set_tweak": "sound", "value": "ring"}
    highlight = {"set_tweak": "highlight"}
    mention = {"m.mentions": {"user_ids": [ALICE]}}
    edit = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}
    member = {"type_": "m.room.member"}
    for content, more, joined, expected in [
        ({"body": "x"}, {}, 5, "notify"),
        ({"body": "x"}, {}, 2, loud),
        ({}, {"type_": "m.room.encrypted"}, 2, loud),
        ({}, {"type_": "m.room.encrypted"}, 5, "notify"),
        ({}, {"type_": "m.call.invite"}, 5, ring),
        ({"msgtype": "m.notice", **mention}, {}, 5, None),
        (mention, {}, 5, highlight),
        ({**mention, **edit}, {}, 5, highlight),
        (edit, {}, 5, None),
        ({"body": "alice"}, {}, 5, "notify"),
        ({}, {"type_": "m.reaction"}, 5, None),
        ({}, {"type_": "m.room.tombstone", "state_key": ""}, 5, highlight),
        ({}, {"type_": "m.room.tombstone"}, 5, None),
        ({}, {"type_": "m.room.server_acl", "state_key": ""}, 5, None),
        ({"membership": "invite"}, {**member, "state_key": ALICE}, 5, loud),
        ({"membership": "invite"}, {**member, "state_key": BOB}, 5, None),
        ({"membership": "join"}, {**member, "state_key": ALICE}, 5, None),
        ({"m.mentions": {"room": True}}, {}, 5, "notify"),
        ({}, {"type_": "org.matrix.msc3381.poll.start"}, 5, "notify"),
        ({}, {"type_": "org.matrix.msc3381.poll.start"}, 2, loud),
        ({}, {"type_": "org.matrix.msc3381.poll.end"}, 5, "notify"),
        ({}, {"type_": "org.matrix.msc3381.poll.end"}, 2, loud),
        ({}, {"type_": "org.matrix.msc3381.poll.response"}, 2, None),
    ]:
        assert names(NOTHING_CHANGED, event(content, **more), joined) == expected


def test_default_rules_are_told_from_others() -> None:
    assert ruleset_of(ALICE).is_default_in(ROOM)
    mute = Rule(ROOM, ())
    muted = with_rule(NOTHING_CHANGED, RuleKind.ROOM, mute, Place())
    assert not ruleset_of(ALICE, muted).is_default_in(ROOM)
    assert ruleset_of(ALICE, muted).is_default_in("!other:x")
    by_sender = with_rule(muted, RuleKind.SENDER, Rule(BOB, ()), Place())
    assert not ruleset_of(ALICE, by_sender).is_default_in("!other:x")
    again = without_rule(muted, RuleKind.ROOM, ROOM)
    assert ruleset_of(ALICE, again).is_default_in(ROOM)
    changed = with_set(
        NOTHING_CHANGED, RuleKind.UNDERRIDE, ".m.rule.call", enabled=False
    )
    assert not ruleset_of(ALICE, changed).is_default_in(ROOM)


def test_changes_are_read_as_they_were_written() -> None:
    rule = parse_rule(
        RuleKind.OVERRIDE,
        "\0x",
        {"conditions": [{"kind": "x", "y": [1, None, {"z": 2.5}]}], **NOTIFY},
    )
    changes = with_rule(NOTHING_CHANGED, RuleKind.OVERRIDE, rule, Place())
    changes = with_set(changes, RuleKind.OVERRIDE, ".m.rule.master", enabled=True)
    text = encode_changes(changes)
    assert "\0" not in text
    assert parse_changes(text) == changes
    with pytest.raises(MatrixError):
        encode_changes(
            with_rule(changes, RuleKind.CONTENT, Rule("x" * 300_000, ()), Place())
        )


@given(
    st.lists(
        st.builds(
            Digest,
            st.integers(1, 2**50),
            st.sampled_from([ALICE, BOB, "@ü:x"]),
            st.sampled_from(["main", "$a", "$b"]),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.frozensets(st.sampled_from([ALICE, BOB])),
        )
    )
)
def test_digests_are_read_as_they_were_written(digests: list[Digest]) -> None:
    assert decode_digests(encode_digests(digests)) == digests
