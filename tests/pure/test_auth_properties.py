"""What no event may ever do, whatever it and the state hold."""

from contextlib import suppress

from hypothesis import assume, given
from hypothesis import strategies as st

from federation import auth_rules
from federation.auth_rules import PowerLevels
from federation.auth_rules.create import creators_of
from federation.canonical_json import JsonObject
from federation.errors import Rejected
from federation.pdu import Pdu, stored_pdu
from federation.room_versions import RoomVersion
from tests.pure.json_values import HOSTILE_JSON, HOSTILE_OBJECTS, TEXT, WORDS
from tests.pure.rooms import ALICE, ANNA, BOB, CAROL, DAVE, VERSIONS, Room

versions = st.sampled_from(VERSIONS)
users = st.sampled_from([ALICE, ANNA, BOB, CAROL, DAVE])
levels = st.integers(-10, 110)
MEMBERSHIPS = st.sampled_from(["join", "invite", "leave", "ban", "knock"])
JOIN_RULES = st.sampled_from(
    ["public", "invite", "knock", "restricted", "knock_restricted", "private"]
)
NAMED = ("users_default", "events_default", "state_default", "ban", "redact", "kick")
POWER_LEVELS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*NAMED, "invite"), levels),
        "users": st.dictionaries(users, levels),
        "events": st.dictionaries(
            st.sampled_from(["m.room.power_levels", "m.room.topic", "m.x"]), levels
        ),
        "notifications": st.dictionaries(st.sampled_from(["room", "x"]), levels),
    },
)


def with_content(event: Pdu, content: JsonObject) -> Pdu:
    """The event as it would be with other content, but for its signature."""
    raw = {**event.json, "content": content}
    return stored_pdu(raw, event.version, event.event_id, event.room_id)


def is_allowed(room: Room, event: Pdu) -> bool:
    return room.refusal(event) is None


@given(versions, JOIN_RULES | HOSTILE_JSON, POWER_LEVELS, st.none() | users)
def test_no_join_rule_readmits_a_banned_user(version, rule, content, voucher) -> None:
    room = Room(version)
    room.state["m.room.join_rules", ""] = with_content(
        room.has_join_rule("public"), {"join_rule": rule}
    )
    room.has_levels(**content)
    room.has_member(BOB, "ban", sender=ALICE)
    vouched = {} if voucher is None else {"join_authorised_via_users_server": voucher}
    assert not is_allowed(room, room.membership(BOB, "join", content=vouched))
    # nor does anything the banned user sends take the ban away
    for membership in ("invite", "leave", "ban", "knock"):
        assert not is_allowed(room, room.membership(BOB, membership))


@given(versions, POWER_LEVELS, POWER_LEVELS, st.sets(st.sampled_from(NAMED)), users)
def test_nobody_gives_or_takes_more_than_they_have(
    version: RoomVersion, old: dict, new: dict, removed: set[str], sender: str
) -> None:
    room = Room(version, joined=[ANNA, BOB, CAROL, DAVE])
    if version.privileged_creators:
        for content in (old, new):
            content.get("users", {}).pop(ALICE, None)
    anybody = {"m.room.power_levels": -10}
    old["events"] = {**old.get("events", {}), **anybody}
    new = {name: value for name, value in {**old, **new}.items() if name not in removed}
    room.has_levels(**old)
    event = room.power_levels(sender, **new)
    before = PowerLevels.of(room.state, version)
    if not is_allowed(room, event):
        return
    own = before.user(sender)
    after = PowerLevels.of({**room.state, ("m.room.power_levels", ""): event}, version)
    # What is taken out of the lists falls back to a default, which may be more.
    default = max(before.named("users_default"), 0)
    for user_id in (ALICE, ANNA, BOB, CAROL, DAVE):
        was, becomes = before.user(user_id), after.user(user_id)
        assert becomes <= max(was, own, default)
        if user_id in old.get("users", {}) and user_id != sender and was >= own:
            assert becomes == was
    for event_type, level in new.get("events", {}).items():
        assert level <= own or level == old["events"].get(event_type)
    for name in NAMED:
        assert after.named(name) <= max(own, before.named(name), 50)


@given(versions, POWER_LEVELS, users, users, st.sampled_from(["ban", "leave"]))
def test_only_the_stronger_kick_and_ban(
    version, content, sender, target, membership
) -> None:
    assume(sender != target)
    room = Room(version, joined=[ANNA, BOB, CAROL, DAVE])
    room.has_levels(**content)
    power = PowerLevels.of(room.state, version)
    needed = power.ban if membership == "ban" else power.kick
    assert is_allowed(room, room.membership(target, membership, sender=sender)) == (
        power.user(sender) > power.user(target) and power.user(sender) >= needed
    )


@given(versions, MEMBERSHIPS, users, users, MEMBERSHIPS)
def test_nobody_else_joins_or_knocks_for_a_user(
    version, now, sender, target, membership
) -> None:
    assume(sender != target)
    room = Room(version)
    room.has_member(target, now)
    room.has_join_rule("public")
    event = room.membership(target, membership, sender=sender)
    if membership in ("join", "knock"):
        assert not is_allowed(room, event)


# ── hostile events in hostile rooms ─────────────────────────────────────────────────

TYPES = st.sampled_from(
    [
        *("m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules"),
        *("m.room.third_party_invite", "m.room.aliases", "m.room.redaction", "m.x"),
    ]
)
STATE_KEYS = st.none() | st.just("") | st.just("token") | users | TEXT | WORDS


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    """A room whose state no rule has looked at."""
    room = Room(draw(versions))
    room.has_levels()
    room.has_join_rule("public")
    room.has_member(BOB)
    room.has(room.event("m.room.third_party_invite", {}, state_key="token"))
    for key, event in room.state.items():
        if draw(st.booleans()):
            room.state[key] = with_content(event, draw(HOSTILE_OBJECTS))
    for key in draw(st.sets(st.sampled_from(sorted(room.state)), max_size=2)):
        del room.state[key]
    return room


@st.composite
def events(draw: st.DrawFn, room: Room) -> Pdu:
    event = room.event(
        draw(TYPES),
        sender=draw(users),
        state_key=draw(STATE_KEYS),
        prev=draw(st.sampled_from([(), (room.create,)])),
    )
    membership = draw(st.sampled_from([{}, {"membership": "join"}]))
    return with_content(event, {**membership, **draw(HOSTILE_OBJECTS)})


@given(st.data(), rooms(), st.booleans())
def test_hostile_events_are_refused_at_most(data, room, vouched) -> None:
    event = data.draw(events(room))
    create = data.draw(st.sampled_from([None, room.create]))
    with suppress(Rejected):
        auth_rules.check(event, room.state, create=create, vouched=vouched)
    with suppress(Rejected):
        auth_rules.check_auth_events(event, [*room.state.values()], (), create)
    assert isinstance(auth_rules.may_redact(event, room.create, room.state), bool)
    power = PowerLevels.of(room.state, room.version, create)
    assert power.user(BOB) >= min(power.invite, power.user(BOB))
    assert isinstance(power.required(event.type, is_state=True), int)
    assert isinstance(power.notification("room"), int)
    assert isinstance(creators_of(room.create), frozenset)


@given(versions, HOSTILE_OBJECTS)
def test_hostile_power_levels_are_refused_at_most(version, content) -> None:
    room = Room(version)
    room.has_levels()
    hostile = with_content(room.power_levels(), content)
    with suppress(Rejected):
        auth_rules.check(hostile, room.state)
    room.state["m.room.power_levels", ""] = hostile
    with suppress(Rejected):
        auth_rules.check(room.power_levels(users={BOB: 3}, ban=4), room.state)
