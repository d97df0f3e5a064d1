"""Push rules of proposals, and how rules are found by types of events."""

import pytest

from homeserver.errors import MatrixError
from homeserver.push.evaluation import Evaluator, Occasion
from homeserver.push.rules import (
    NO_EXTRAS,
    NOTHING_CHANGED,
    Changes,
    Extras,
    Place,
    Rule,
    RuleKind,
    parse_rule,
    ruleset_of,
    with_rule,
    with_set,
)
from tests.pure.test_push_rules import ALICE, NOTIFY, ROOM, event, matches


def test_rules_of_one_type_are_found_whatever_the_capitals() -> None:
    wanted = {"kind": "event_match", "key": "type", "pattern": "Org.Example.*"}
    exact = {"kind": "event_match", "key": "type", "pattern": "ORG.example.STRASSE"}
    is_type = {"kind": "event_property_is", "key": "type", "value": "org.example.X"}
    for condition, type_, expected in [
        (wanted, "org.EXAMPLE.y", True),
        (exact, "org.example.straße", True),
        (exact, "org.example.strase", False),
        (is_type, "org.example.X", True),
        (is_type, "org.example.x", False),
    ]:
        assert matches(condition, event({}, type_)) is expected, (condition, type_)
    # One evaluator sees more types than it remembers, again and again.
    rule = parse_rule(RuleKind.OVERRIDE, "x", {"conditions": [exact], **NOTIFY})
    changes = with_rule(NOTHING_CHANGED, RuleKind.OVERRIDE, rule, Place())
    evaluator = Evaluator(ruleset_of(ALICE, changes))
    for _ in range(2):
        for n in range(100):
            occasion = Occasion(event({}, f"org.example.{n}"), 5)
            assert not evaluator.evaluate(occasion).notifies
        assert evaluator.evaluate(
            Occasion(event({}, "org.example.strasse"), 5)
        ).notifies


def test_encrypted_events_are_pushed_where_a_server_wants_it() -> None:
    """MSC4028: also where only mentions are wanted, but not where all is muted."""
    extras = Extras(encrypted_events=True)
    pdu = event({}, "m.room.encrypted")
    mentions_only = with_rule(NOTHING_CHANGED, RuleKind.ROOM, Rule(ROOM, ()), Place())
    is_here = {"kind": "event_match", "key": "room_id", "pattern": ROOM}
    muted = with_rule(
        NOTHING_CHANGED,
        RuleKind.OVERRIDE,
        Rule(ROOM, (), conditions=(is_here,)),
        Place(),
    )

    def notifies(changes: Changes, extras: Extras) -> bool:
        ruleset = ruleset_of(ALICE, changes, extras)
        return Evaluator(ruleset).evaluate(Occasion(pdu, 5)).notifies

    assert notifies(NOTHING_CHANGED, extras)
    assert notifies(mentions_only, extras)
    assert not notifies(mentions_only, NO_EXTRAS)
    assert not notifies(muted, extras)
    off = with_set(
        mentions_only,
        RuleKind.OVERRIDE,
        ".org.matrix.msc4028.encrypted_event",
        enabled=False,
        extras=extras,
    )
    assert not notifies(off, extras)
    assert ruleset_of(ALICE, NOTHING_CHANGED, extras).is_default_in(ROOM)
    with pytest.raises(MatrixError):
        with_set(
            NOTHING_CHANGED,
            RuleKind.OVERRIDE,
            ".org.matrix.msc4028.encrypted_event",
            enabled=False,
        )
