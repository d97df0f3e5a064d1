"""The authorization rules of all room versions.

A refusal is `Rejected(rule, why)` with the number that the room version's own text
gives the rule. The rules look at the event, at the events that it names as
`auth_events`, and at one room state; an event from another server is checked against
several states, one call of `check` each.

| file | what it decides |
| --- | --- |
| `rules` | names of the refusals, and their numbers by version |
| `selection` | which state authorises an event |
| `create` | the create event; who is a creator |
| `power_levels` | who has which power; who may change that |
| `state` | the read view that the rules have of a room state |
| `third_party` | the signature that redeems a third-party invite |
| `member` | joins, invites, leaves, kicks, bans, knocks |
| `redactions` | who may redact what |
| `check` | the rules in their order |

Spec: server-server-api#authorisation-rules, rooms/v12#authorisation-rules
"""

from federation.auth_rules.check import check, check_auth_events
from federation.auth_rules.create import creators_of
from federation.auth_rules.power_levels import Level, PowerLevels
from federation.auth_rules.redactions import may_redact
from federation.auth_rules.selection import auth_keys
from federation.auth_rules.state import AuthState

__all__ = [
    "AuthState",
    "Level",
    "PowerLevels",
    "auth_keys",
    "check",
    "check_auth_events",
    "creators_of",
    "may_redact",
]
