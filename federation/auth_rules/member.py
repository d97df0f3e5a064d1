"""The rules about member events: joins, invites, leaves, kicks, bans, knocks.

Spec: rooms/v12#authorisation-rules
"""

from federation.auth_rules.create import creator_of
from federation.auth_rules.rules import Rule, refuse
from federation.auth_rules.state import AuthState
from federation.auth_rules.third_party import is_signed_for
from federation.ids import is_user_id
from federation.pdu import Pdu
from federation.room_versions import RoomVersion

_VOUCHER = "join_authorised_via_users_server"


def check_member(event: Pdu, state: AuthState, *, vouched: bool) -> None:
    """Allow a member event or raise Rejected.

    `vouched` says that the server of `join_authorised_via_users_server` signed.
    """
    version, target = event.version, event.state_key
    if target is None or "membership" not in event.content:
        raise refuse(
            version,
            Rule.MEMBER_INCOMPLETE,
            "a member event needs a state_key and a membership",
        )
    if version.restricted_joins and _VOUCHER in event.content:
        _check_voucher_signature(event, vouched=vouched)
    match event.membership:
        case "join":
            _check_join(event, target, state)
        case "invite":
            _check_invite(event, target, state)
        case "leave":
            _check_leave(event, target, state)
        case "ban":
            _check_ban(event, target, state)
        case "knock" if version.knock:
            _check_knock(event, target, state)
        case _:
            raise refuse(version, Rule.MEMBER_UNKNOWN, "the membership is unknown")


def _check_voucher_signature(event: Pdu, *, vouched: bool) -> None:
    # For what is no user ID, nobody's server can have signed.
    if not vouched or not is_user_id(event.content[_VOUCHER]):
        raise refuse(
            event.version,
            Rule.MEMBER_VOUCHER,
            "the server of the user who vouches has not signed",
        )


def _check_join(event: Pdu, target: str, state: AuthState) -> None:
    version = event.version
    if event.prev_events == (state.create.event_id,) and target == creator_of(
        state.create
    ):
        return
    if event.sender != target:
        raise refuse(version, Rule.JOIN_SENDER, "nobody can join for somebody else")
    current = state.membership(target)
    if current == "ban":
        raise refuse(version, Rule.JOIN_BANNED, "the user is banned")
    rule = state.join_rule
    if rule == "public":
        return
    if _is_restricted(rule, version):
        if current not in ("join", "invite") and not _has_voucher(event, state):
            raise refuse(
                version,
                Rule.JOIN_VOUCHER,
                "nobody who is joined and may invite vouched for this join",
            )
        return
    admits = rule == "invite" or (rule == "knock" and version.knock)
    if not admits or current not in ("invite", "join"):
        raise refuse(
            version,
            Rule.JOIN_NOT_ADMITTED,
            f"the join rule {rule[:80]!r} does not admit the user",
        )


def _is_restricted(rule: str, version: RoomVersion) -> bool:
    return (rule == "restricted" and version.restricted_joins) or (
        rule == "knock_restricted" and version.knock_restricted
    )


def _has_voucher(event: Pdu, state: AuthState) -> bool:
    voucher = event.content.get(_VOUCHER)
    return (
        isinstance(voucher, str)
        and state.membership(voucher) == "join"
        and state.levels.user(voucher) >= state.levels.invite
    )


def _check_invite(event: Pdu, target: str, state: AuthState) -> None:
    version = event.version
    if "third_party_invite" in event.content:
        _check_token(event, target, state)
        return
    if state.membership(event.sender) != "join":
        raise refuse(version, Rule.INVITE_SENDER, "the sender is not in the room")
    if state.membership(target) in ("join", "ban"):
        raise refuse(
            version, Rule.INVITE_TARGET, "the user is in the room already, or banned"
        )
    if state.levels.user(event.sender) < state.levels.invite:
        raise refuse(
            version, Rule.INVITE_LEVEL, "the sender has too little power to invite"
        )


def _check_token(event: Pdu, target: str, state: AuthState) -> None:
    version, given = event.version, event.content["third_party_invite"]
    if state.membership(target) == "ban":
        raise refuse(version, Rule.TOKEN_BANNED, "the user is banned")
    if not isinstance(given, dict) or "signed" not in given:
        raise refuse(
            version, Rule.TOKEN_SIGNED, "third_party_invite must have `signed`"
        )
    signed = given["signed"]
    if not isinstance(signed, dict) or not signed.keys() >= {"mxid", "token"}:
        raise refuse(
            version, Rule.TOKEN_INCOMPLETE, "`signed` must have mxid and token"
        )
    if signed["mxid"] != target:
        raise refuse(version, Rule.TOKEN_MXID, "the invite was signed for another user")
    token = signed["token"]
    invite = state.third_party_invite(token) if isinstance(token, str) else None
    if invite is None:
        raise refuse(
            version, Rule.TOKEN_UNKNOWN, "no third-party invite has this token"
        )
    if invite.sender != event.sender:
        raise refuse(
            version, Rule.TOKEN_SENDER, "another user sent the third-party invite"
        )
    if not is_signed_for(signed, invite):
        raise refuse(
            version,
            Rule.TOKEN_SIGNATURE,
            "no signature matches a key of the third-party invite",
        )


def _check_leave(event: Pdu, target: str, state: AuthState) -> None:
    version, levels = event.version, state.levels
    if event.sender == target:
        _check_own_leave(event, state)
        return
    if state.membership(event.sender) != "join":
        raise refuse(version, Rule.LEAVE_SENDER, "the sender is not in the room")
    sender = levels.user(event.sender)
    if state.membership(target) == "ban" and sender < levels.ban:
        raise refuse(
            version, Rule.LEAVE_BAN_LEVEL, "the sender has too little power to unban"
        )
    if sender < levels.kick or levels.user(target) >= sender:
        raise refuse(
            version, Rule.LEAVE_KICK_LEVEL, "the sender has too little power to kick"
        )


def _check_own_leave(event: Pdu, state: AuthState) -> None:
    current = state.membership(event.sender)
    if current in ("invite", "join"):
        return
    if current == "knock" and event.version.knock:
        return
    raise refuse(
        event.version, Rule.LEAVE_OWN, "there is nothing for the user to leave"
    )


def _check_ban(event: Pdu, target: str, state: AuthState) -> None:
    version, levels = event.version, state.levels
    if state.membership(event.sender) != "join":
        raise refuse(version, Rule.BAN_SENDER, "the sender is not in the room")
    sender = levels.user(event.sender)
    if sender < levels.ban or levels.user(target) >= sender:
        raise refuse(version, Rule.BAN_LEVEL, "the sender has too little power to ban")


def _check_knock(event: Pdu, target: str, state: AuthState) -> None:
    version, rule = event.version, state.join_rule
    if rule != "knock" and not (
        rule == "knock_restricted" and version.knock_restricted
    ):
        raise refuse(
            version,
            Rule.KNOCK_JOIN_RULE,
            f"the join rule {rule[:80]!r} does not admit knocks",
        )
    if event.sender != target:
        raise refuse(version, Rule.KNOCK_SENDER, "nobody can knock for somebody else")
    if state.membership(target) in ("ban", "invite", "join"):
        raise refuse(
            version,
            Rule.KNOCK_MEMBERSHIP,
            "the user is banned, invited or in the room already",
        )
