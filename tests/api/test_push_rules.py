"""Push rules: what is predefined, what users change, and how clients learn of it."""

import pytest

from tests.support.api import RefusedError, path
from tests.support.client import Client

INVALID = (400, "M_INVALID_PARAM")
MISSING = (400, "M_MISSING_PARAM")
BAD_JSON = (400, "M_BAD_JSON")
NOT_FOUND = (404, "M_NOT_FOUND")
UNKNOWN = (400, "M_UNKNOWN")
RULES = path("pushrules") + "/"
NOTIFY = {"actions": ["notify"]}


def rule(kind: str, rule_id: str, what: str | None = None) -> str:
    return path("pushrules", "global", kind, rule_id, *([what] if what else []))


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def ids(client: Client, kind: str) -> list[str]:
    return [each["rule_id"] for each in (await client.get(RULES))["global"][kind]]


async def own(client: Client, kind: str) -> list[str]:
    return [each for each in await ids(client, kind) if not each.startswith(".")]


def pushed(reply: dict) -> list[dict]:
    """The rulesets that a sync tells of."""
    events = reply.get("account_data", {}).get("events", [])
    return [e["content"]["global"] for e in events if e["type"] == "m.push_rules"]


async def test_everybody_has_the_predefined_rules(alice):
    assert await ids(alice, "override") == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
        ".org.matrix.msc3930.rule.poll_response",
    ]
    assert await ids(alice, "underride") == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
        ".org.matrix.msc3930.rule.poll_start_one_to_one",
        ".org.matrix.msc3930.rule.poll_start",
        ".org.matrix.msc3930.rule.poll_end_one_to_one",
        ".org.matrix.msc3930.rule.poll_end",
    ]
    everything = (await alice.get(RULES))["global"]
    assert everything["content"] == everything["room"] == everything["sender"] == []
    assert await alice.get(RULES + "global/") == everything
    master = everything["override"][0]
    assert (master["enabled"], master["default"]) == (False, True)
    mention = await alice.get(rule("override", ".m.rule.is_user_mention"))
    assert mention["conditions"][0]["value"] == alice.user_id
    where = path("user", alice.user_id, "account_data", "m.push_rules")
    assert await alice.get(where) == {"global": everything}
    assert pushed(await alice.syncs()) == [everything]


async def test_rules_of_ones_own_come_before_predefined_ones(alice):
    await alice.syncs()
    body = {"conditions": [{"kind": "event_match", "key": "type", "pattern": "x"}]}
    await alice.put(rule("override", "mine"), body | NOTIFY)
    assert (await ids(alice, "override"))[:3] == [
        ".m.rule.master",
        "mine",
        ".m.rule.suppress_notices",
    ]
    await alice.put(rule("underride", "low"), {"actions": ["dont_notify", "notify"]})
    assert (await ids(alice, "underride"))[:2] == ["low", ".m.rule.call"]
    await alice.put(rule("content", "cake"), {"pattern": "cake*lie", **NOTIFY})
    assert await alice.get(rule("content", "cake")) == {
        "rule_id": "cake",
        "pattern": "cake*lie",
        "actions": ["notify"],
        "enabled": True,
        "default": False,
    }
    low = await alice.get(rule("underride", "low"))
    assert (low["actions"], low["conditions"]) == (["notify"], [])
    [told] = pushed(await alice.syncs())
    assert told == (await alice.get(RULES))["global"]
    where = path("user", alice.user_id, "account_data", "m.push_rules")
    assert await alice.get(where) == {"global": told}
    assert pushed(await alice.syncs()) == []


async def test_rules_stand_where_they_are_put(alice):
    async def puts(rule_id: str, **query: str) -> list[str]:
        await alice.call("PUT", rule("sender", rule_id), NOTIFY, query=query)
        return await own(alice, "sender")

    assert await puts("@a:x") == ["@a:x"]
    assert await puts("@b:x") == ["@b:x", "@a:x"]
    assert await puts("@c:x", before="@a:x") == ["@b:x", "@c:x", "@a:x"]
    assert await puts("@d:x", after="@b:x") == ["@b:x", "@d:x", "@c:x", "@a:x"]
    both = {"before": "@a:x", "after": "@b:x"}
    assert await puts("@e:x", **both) == ["@b:x", "@d:x", "@c:x", "@e:x", "@a:x"]
    # Changed, not moved; then moved.
    assert await puts("@c:x") == ["@b:x", "@d:x", "@c:x", "@e:x", "@a:x"]
    moved = ["@b:x", "@d:x", "@e:x", "@a:x", "@c:x"]
    assert await puts("@c:x", after="@a:x") == moved
    for neighbour, answer in [
        ({"before": "@z:x"}, UNKNOWN),
        ({"after": "@z:x"}, UNKNOWN),
        ({"after": "@c:x"}, UNKNOWN),
        ({"before": ".m.rule.master"}, INVALID),
    ]:
        assert await refusal(puts("@c:x", **neighbour)) == answer
    assert await own(alice, "sender") == moved


async def test_rules_are_enabled_changed_and_deleted(alice):
    room = "!x:hearth.test"
    await alice.put(rule("room", room), {"actions": []})
    where = rule("room", room, "enabled")
    assert await alice.get(where) == {"enabled": True}
    await alice.put(where, {"enabled": False})
    await alice.put(rule("room", room), NOTIFY)  # leaves it disabled
    assert await alice.get(where) == {"enabled": False}
    actions = ["notify", {"set_tweak": "sound", "value": "bing"}]
    await alice.put(rule("room", room, "actions"), {"actions": actions})
    assert await alice.get(rule("room", room, "actions")) == {"actions": actions}
    assert (await alice.get(rule("room", room)))["enabled"] is False
    await alice.delete(rule("room", room))
    for call in (
        alice.get(rule("room", room)),
        alice.get(where),
        alice.delete(rule("room", room)),
        alice.put(where, {"enabled": True}),
        alice.put(rule("room", room, "actions"), {"actions": []}),
    ):
        assert await refusal(call) == NOT_FOUND


async def test_predefined_rules_are_changed_but_not_deleted(alice, bob):
    message = rule("underride", ".m.rule.message")
    await alice.put(message + "/actions", {"actions": []})
    await alice.put(message + "/enabled", {"enabled": False})
    await alice.put(rule("override", ".m.rule.master", "enabled"), {"enabled": True})
    shown = await alice.get(message)
    assert (shown["actions"], shown["enabled"], shown["default"]) == ([], False, True)
    assert (await alice.get(rule("override", ".m.rule.master")))["enabled"]
    assert await refusal(alice.delete(message)) == NOT_FOUND
    assert (await bob.get(message))["actions"] == ["notify"]
    # A rule is of one kind.
    other = rule("override", ".m.rule.message", "enabled")
    assert await refusal(alice.put(other, {"enabled": True})) == NOT_FOUND
    assert await refusal(alice.get(other)) == NOT_FOUND


async def test_what_is_no_rule_is_refused(alice):
    for kind, rule_id, body, answer in [
        ("override", ".mine", NOTIFY, INVALID),
        ("override", "a/b", NOTIFY, INVALID),
        ("override", "a\\b", NOTIFY, INVALID),
        ("override", "x" * 1025, NOTIFY, INVALID),
        ("other", "a", NOTIFY, INVALID),
        ("override", "a", {}, MISSING),
        ("override", "a", {"actions": "notify"}, BAD_JSON),
        ("override", "a", {"actions": [7]}, BAD_JSON),
        ("override", "a", {"actions": ["stir"]}, BAD_JSON),
        ("override", "a", {"actions": [{"set_tweak": 1}]}, BAD_JSON),
        ("override", "a", {"conditions": {}, **NOTIFY}, BAD_JSON),
        ("override", "a", {"conditions": [1], **NOTIFY}, BAD_JSON),
        ("override", "a", {"conditions": [{}], **NOTIFY}, BAD_JSON),
        ("content", "a", NOTIFY, MISSING),
        ("content", "a", {"pattern": 7, **NOTIFY}, BAD_JSON),
    ]:
        assert await refusal(alice.put(rule(kind, rule_id), body)) == answer
    where = rule("underride", ".m.rule.message")
    for what, body, answer in [
        ("/enabled", {}, MISSING),
        ("/enabled", {"enabled": "yes"}, BAD_JSON),
        ("/actions", {}, MISSING),
        ("/actions", {"actions": {}}, BAD_JSON),
    ]:
        assert await refusal(alice.put(where + what, body)) == answer
    assert await own(alice, "override") == []


async def test_rules_are_bounded(alice):
    big = {"pattern": "x" * 100_000, **NOTIFY}
    await alice.put(rule("content", "a"), big)
    await alice.put(rule("content", "b"), big)
    answer = (413, "M_TOO_LARGE")
    assert await refusal(alice.put(rule("content", "c"), big)) == answer
    assert await own(alice, "content") == ["b", "a"]
    assert (await alice.get(rule("content", "a")))["enabled"]


async def test_unheard_of_conditions_are_kept(alice):
    conditions = [{"kind": "org.example.moon", "phase": "\0full"}]
    await alice.put(rule("override", "moon"), {"conditions": conditions, **NOTIFY})
    assert (await alice.get(rule("override", "moon")))["conditions"] == conditions
