"""Invites that were made to an e-mail address and are redeemed by a user."""

import pytest

from federation import signatures
from federation.auth_rules.rules import Rule
from federation.auth_rules.third_party import MAX_PUBLIC_KEYS, MAX_SIGNATURES
from federation.canonical_json import JsonObject
from federation.pdu import Pdu
from federation.signatures import SigningKey, encode_base64
from tests.pure.rooms import ALICE, BOB, CAROL, VERSIONS, Room, Stories, play

stories = Stories()
refused_by, allowed = stories.refused_by, stories.allowed

KEY, OTHER_KEY = SigningKey.generate("0"), SigningKey.generate("0")


def public(key: SigningKey) -> str:
    return encode_base64(key.public)


def has_third_party_invite(room: Room, **content) -> None:
    content = content or {"public_key": public(KEY)}
    room.has(room.event("m.room.third_party_invite", content, state_key="token"))


def signed_for(user_id: str, *keys: SigningKey) -> JsonObject:
    signed: JsonObject = {"mxid": user_id, "token": "token"}
    for number, key in enumerate(keys or [KEY]):
        signed = signatures.sign_json(signed, f"identity{number}.test", key)
    return signed


def redeem(room: Room, invite: object, *, sender: str = ALICE) -> Pdu:
    return room.membership(
        BOB, "invite", sender=sender, content={"third_party_invite": invite}
    )


@allowed()
def holder_of_the_address_is_invited(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": signed_for(BOB), "display_name": "B."})


@allowed()
def any_of_several_keys_will_do(room: Room) -> Pdu:
    keys = [{"public_key": public(OTHER_KEY)}, {"public_key": public(KEY)}]
    has_third_party_invite(room, public_key=public(OTHER_KEY), public_keys=keys)
    return redeem(room, {"signed": signed_for(BOB)})


@allowed()
def any_of_several_signatures_will_do(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": signed_for(BOB, OTHER_KEY, KEY)})


@allowed()
def the_url_safe_alphabet_will_do(room: Room) -> Pdu:
    text = public(KEY).replace("+", "-").replace("/", "_") + "="
    has_third_party_invite(room, public_key=text)
    return redeem(room, {"signed": signed_for(BOB)})


@allowed()
def the_inviter_need_not_be_in_the_room_any_more(room: Room) -> Pdu:
    has_third_party_invite(room)
    room.has_member(ALICE, "leave")
    return redeem(room, {"signed": signed_for(BOB)})


@allowed()
def unreadable_keys_do_no_harm(room: Room) -> Pdu:
    keys = [None, "key", {}, {"public_key": 7}, {"public_key": "%"}]
    has_third_party_invite(
        room, public_key=[], public_keys=[*keys, {"public_key": public(KEY)}]
    )
    return redeem(room, {"signed": signed_for(BOB)})


@refused_by(Rule.TOKEN_BANNED)
def banned_user_redeems(room: Room) -> Pdu:
    has_third_party_invite(room)
    room.has_member(BOB, "ban", sender=ALICE)
    return redeem(room, {"signed": signed_for(BOB)})


@refused_by(Rule.TOKEN_SIGNED)
def nothing_is_signed(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"display_name": "B."})


@refused_by(Rule.TOKEN_SIGNED)
def the_invite_is_null(room: Room) -> Pdu:
    return redeem(room, None)


@refused_by(Rule.TOKEN_INCOMPLETE)
def the_token_is_missing(room: Room) -> Pdu:
    return redeem(room, {"signed": {"mxid": BOB}})


@refused_by(Rule.TOKEN_INCOMPLETE)
def the_user_is_missing(room: Room) -> Pdu:
    return redeem(room, {"signed": {"token": "token"}})


@refused_by(Rule.TOKEN_INCOMPLETE)
def what_is_signed_is_no_object(room: Room) -> Pdu:
    return redeem(room, {"signed": ["mxid", "token"]})


@refused_by(Rule.TOKEN_MXID)
def it_was_signed_for_another_user(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": signed_for(CAROL)})


@refused_by(Rule.TOKEN_UNKNOWN)
def nobody_was_invited_with_this_token(room: Room) -> Pdu:
    return redeem(room, {"signed": signed_for(BOB)})


@refused_by(Rule.TOKEN_UNKNOWN)
def the_token_is_no_string(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": {"mxid": BOB, "token": ["token"]}})


@refused_by(Rule.TOKEN_SENDER)
def another_user_invites(room: Room) -> Pdu:
    has_third_party_invite(room)
    room.has_member(CAROL)
    return redeem(room, {"signed": signed_for(BOB)}, sender=CAROL)


@refused_by(Rule.TOKEN_SIGNATURE)
def another_key_signed(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": signed_for(BOB, OTHER_KEY)})


@refused_by(Rule.TOKEN_SIGNATURE)
def nobody_signed(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": {"mxid": BOB, "token": "token"}})


@refused_by(Rule.TOKEN_SIGNATURE)
def something_else_was_signed(room: Room) -> Pdu:
    has_third_party_invite(room)
    return redeem(room, {"signed": {**signed_for(BOB), "sender": ALICE}})


@refused_by(Rule.TOKEN_SIGNATURE)
def the_invite_was_revoked(room: Room) -> Pdu:
    room.has(room.event("m.room.third_party_invite", {}, state_key="token"))
    return redeem(room, {"signed": signed_for(BOB)})


@refused_by(Rule.TOKEN_SIGNATURE)
def signatures_are_no_signatures(room: Room) -> Pdu:
    has_third_party_invite(room)
    signed = signed_for(BOB)
    signed["signatures"] = {
        "a.test": None,
        "b.test": {"ed25519:0": None, "ed25519:1": "%", "ed25519:2": "aGFzaA"},
        "c.test": {"rsa:0": "aGFzaA"},
    }
    return redeem(room, {"signed": signed})


@refused_by(Rule.TOKEN_SIGNATURE)
def what_is_signed_has_no_canonical_form(room: Room) -> Pdu:
    has_third_party_invite(room)
    event = redeem(room, {"signed": signed_for(BOB)})
    event.content["third_party_invite"]["signed"]["name"] = "\ud800"
    return event


@stories.parametrize
def test_third_party_rules(rule, story, version) -> None:
    play(rule, story, version)


def test_every_third_party_rule_has_a_story() -> None:
    rules = {rule for rule in Rule if rule.name.startswith("TOKEN_")}
    assert rules == stories.told_of()


@pytest.mark.parametrize("version", VERSIONS[-1:])
def test_work_is_bounded(version, monkeypatch) -> None:
    room, tried = Room(version), []
    keys = [{"public_key": encode_base64(bytes([n]) * 32)} for n in range(200)]
    has_third_party_invite(room, public_keys=keys)
    signed = signed_for(BOB)
    signed["signatures"] = {f"s{n}.test": {"ed25519:0": "aGFzaA"} for n in range(200)}
    monkeypatch.setattr(
        signatures, "is_valid_signature", lambda *given: bool(tried.append(given))
    )
    assert room.refusal(redeem(room, {"signed": signed})) == "5.4.1.8"
    assert len(tried) == MAX_SIGNATURES * MAX_PUBLIC_KEYS
