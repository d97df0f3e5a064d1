"""Whether a user of ours takes an invite.

Spec: client-server-api#invite-permission
"""

from federation.ids import UserId
from homeserver import errors
from homeserver.live.invite_rules import Verdict
from homeserver.live.live import Live


async def check_takes_invite(live: Live, sender: UserId, target: UserId) -> None:
    """Raise M_INVITE_BLOCKED when a local user wants no invites of the sender."""
    if (await live.invite_rules.of(target)).verdict(sender) is Verdict.BLOCK:
        raise errors.invite_blocked(f"{target} does not take your invites.")
