"""Which events authorise an event, and what the list of them must not hold."""

import pytest

from federation import auth_rules
from federation.auth_rules.rules import Rule
from federation.errors import Rejected
from federation.pdu import Pdu
from federation.room_versions import V1, V7, V8, V11, V12, RoomVersion
from tests.pure.rooms import ALICE, ANNA, BOB, CAROL, VERSIONS, Room

CREATE = ("m.room.create", "")
LEVELS = ("m.room.power_levels", "")
JOIN_RULES = ("m.room.join_rules", "")
VOUCHER = "join_authorised_via_users_server"


def member(user_id: str) -> tuple[str, str]:
    return ("m.room.member", user_id)


# ── selection ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sender_is_authorised_by_their_membership_and_power(version) -> None:
    keys = auth_rules.auth_keys(version, "m.room.message", None, BOB, {})
    create = [] if version.room_id_is_create_hash else [CREATE]
    assert keys == [*create, LEVELS, member(BOB)]
    assert auth_rules.auth_keys(version, "m.room.create", "", ALICE, {}) == []


@pytest.mark.parametrize(
    ("membership", "also"),
    [
        ("join", [JOIN_RULES]),
        ("invite", [JOIN_RULES]),
        ("knock", [JOIN_RULES]),
        ("leave", []),
        ("ban", []),
        (None, []),
    ],
)
def test_member_events_need_the_target_and_sometimes_the_join_rules(
    membership, also
) -> None:
    content = {"membership": membership}
    keys = auth_rules.auth_keys(V11, "m.room.member", CAROL, BOB, content)
    assert keys == [CREATE, LEVELS, member(BOB), member(CAROL), *also]


def test_a_place_is_named_once() -> None:
    content = {"membership": "join", VOUCHER: BOB}
    keys = auth_rules.auth_keys(V8, "m.room.member", BOB, BOB, content)
    assert keys == [CREATE, LEVELS, member(BOB), JOIN_RULES]


def test_who_vouches_authorises_a_join_since_version_8() -> None:
    content = {"membership": "join", VOUCHER: CAROL}
    for version in VERSIONS:
        keys = auth_rules.auth_keys(version, "m.room.member", BOB, BOB, content)
        assert (member(CAROL) in keys) == version.restricted_joins
    keys = auth_rules.auth_keys(
        V8, "m.room.member", BOB, BOB, {"membership": "leave", VOUCHER: CAROL}
    )
    assert member(CAROL) not in keys


def test_a_third_party_invite_is_found_by_its_token() -> None:
    third = {"signed": {"token": "t0ken", "mxid": BOB}}
    content = {"membership": "invite", "third_party_invite": third}
    keys = auth_rules.auth_keys(V1, "m.room.member", BOB, ALICE, content)
    assert ("m.room.third_party_invite", "t0ken") in keys
    for membership, invite in [
        ("join", third),
        ("invite", None),
        ("invite", {"signed": ["token"]}),
        ("invite", {"signed": {"token": ["t0ken"]}}),
    ]:
        content = {"membership": membership, "third_party_invite": invite}
        keys = auth_rules.auth_keys(V1, "m.room.member", BOB, ALICE, content)
        assert all(event_type != "m.room.third_party_invite" for event_type, _ in keys)


def test_hostile_content_selects_nothing_more() -> None:
    content = {"membership": ["join"], VOUCHER: {}, "third_party_invite": []}
    keys = auth_rules.auth_keys(V12, "m.room.member", None, BOB, content)
    assert keys == [LEVELS, member(BOB)]


# ── the list in an event ────────────────────────────────────────────────────────────


def refusal(
    event: Pdu,
    auth_events: list[Pdu],
    *,
    rejected: frozenset[str] = frozenset(),
    create: Pdu | None = None,
) -> str | None:
    try:
        auth_rules.check_auth_events(event, auth_events, rejected, create)
    except Rejected as refused:
        return refused.rule
    return None


class Case:
    """A message by Bob, and the state that should authorise it."""

    def __init__(self, version: RoomVersion) -> None:
        self.room = room = Room(version)
        self.levels = room.has_levels()
        self.bob = room.has_member(BOB)
        self.create = room.create
        self.selected = [self.levels, self.bob]
        if not version.room_id_is_create_hash:
            self.selected.insert(0, room.create)

    def refusal(self, auth_events: list[Pdu], **more) -> str | None:
        message = self.room.event("m.room.message", sender=BOB, auth=auth_events)
        return refusal(message, auth_events, **{"create": self.create, **more})


@pytest.mark.parametrize("version", VERSIONS)
class TestTheListOfAuthEvents:
    def test_selected_events_may_be_named(self, version) -> None:
        case = Case(version)
        assert case.refusal(case.selected) is None
        assert case.refusal([*reversed(case.selected)]) is None

    def test_what_is_not_there_need_not_be_named(self, version) -> None:
        case = Case(version)
        case.selected.remove(case.levels)
        assert case.refusal(case.selected) is None

    def test_create_events_are_not_asked(self, version) -> None:
        assert refusal(Room(version).create, [], create=None) is None

    def test_two_events_of_one_place(self, version) -> None:
        case = Case(version)
        expected = case.room.number(Rule.AUTH_DUPLICATE)
        other = case.room.power_levels(ban=3)
        assert case.refusal([*case.selected, other]) == expected

    def test_one_event_named_twice(self, version) -> None:
        case = Case(version)
        expected = case.room.number(Rule.AUTH_DUPLICATE)
        assert case.refusal([*case.selected, case.bob]) == expected
        # also when the caller looked each of them up once only
        message = case.room.event(
            "m.room.message", sender=BOB, auth=[*case.selected, case.bob]
        )
        assert refusal(message, case.selected, create=case.create) == expected

    def test_state_that_authorises_nothing(self, version) -> None:
        case = Case(version)
        topic = case.room.event("m.room.topic", state_key="")
        others = case.room.membership(ANNA, "join")
        expected = case.room.number(Rule.AUTH_NOT_SELECTED)
        assert case.refusal([*case.selected, topic]) == expected
        assert case.refusal([*case.selected, others]) == expected

    def test_messages(self, version) -> None:
        case = Case(version)
        messages = [case.room.message(), case.room.message()]
        expected = case.room.number(Rule.AUTH_NOT_SELECTED)
        assert case.refusal([*case.selected, *messages]) == expected

    def test_rejected_events(self, version) -> None:
        case = Case(version)
        expected = case.room.number(Rule.AUTH_REJECTED)
        rejected = frozenset({case.bob.event_id})
        assert case.refusal(case.selected, rejected=rejected) == expected

    def test_events_of_another_room(self, version) -> None:
        case = Case(version)
        levels = Room(version, **{"m.federate": True})
        if not version.room_id_is_create_hash:
            levels.room_id = "!other:a.test"
        foreign = levels.power_levels()
        auth_events = [foreign if e is case.levels else e for e in case.selected]
        expected = case.room.number(Rule.AUTH_OTHER_ROOM)
        assert case.refusal(auth_events) == expected

    def test_the_create_event(self, version) -> None:
        case = Case(version)
        if version.room_id_is_create_hash:
            expected = case.room.number(Rule.AUTH_NOT_SELECTED)
            assert case.refusal([case.create, *case.selected]) == expected
        else:
            expected = case.room.number(Rule.AUTH_NO_CREATE)
            assert case.refusal([case.levels, case.bob], create=None) == expected


def test_the_room_id_names_an_accepted_create_event() -> None:
    case = Case(V12)
    assert case.refusal(case.selected, create=None) == "2"
    assert case.refusal(case.selected, create=Room(V12).create) == "2"
    rejected = frozenset({case.create.event_id})
    assert case.refusal(case.selected, rejected=rejected) == "2"
    # a message whose hash the room ID is, is no create event
    message = case.room.message()
    stray = case.room.event("m.room.message", room_id="!" + message.event_id[1:])
    assert refusal(stray, [], create=message) == "2"


def test_restricted_joins_may_name_who_vouches() -> None:
    for version, expected in [(V7, "2.2"), (V8, None)]:
        room = Room(version)
        join = room.membership(
            BOB, "join", content={"join_authorised_via_users_server": ALICE}
        )
        assert refusal(join, [room.create, room.state[member(ALICE)]]) == expected
