"""A room state as the rules look at it."""

from collections.abc import Mapping
from dataclasses import dataclass

from federation.auth_rules.power_levels import PowerLevels
from federation.pdu import Pdu, StateKey


@dataclass(frozen=True, slots=True)
class AuthState:
    """A read view over a room state; makes no copy."""

    state: Mapping[StateKey, Pdu]
    create: Pdu
    levels: PowerLevels

    @classmethod
    def of(cls, state: Mapping[StateKey, Pdu], create: Pdu) -> "AuthState":
        """The view over a state of the room that `create` began."""
        return cls(state, create, PowerLevels.of(state, create.version, create))

    def membership(self, user_id: str) -> str:
        """The user's current membership; who was never a member has left."""
        event = self.state.get(("m.room.member", user_id))
        return (None if event is None else event.membership) or "leave"

    @property
    def join_rule(self) -> str:
        """The current join rule; without one, users need an invite."""
        event = self.state.get(("m.room.join_rules", ""))
        rule = "invite" if event is None else event.content.get("join_rule")
        return rule if isinstance(rule, str) else ""

    def third_party_invite(self, token: str) -> Pdu | None:
        """The invite of a third party that may be redeemed with this token."""
        return self.state.get(("m.room.third_party_invite", token))
