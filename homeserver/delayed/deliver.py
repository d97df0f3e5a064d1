"""Sending an event that was scheduled, now that its time has come.

Spec: MSC4140. Power levels and everything else count as they are now.
"""

from typing import Final

from federation.errors import ProtocolError
from federation.ids import EventId
from homeserver import errors
from homeserver.accounts.store import users
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.delayed import store
from homeserver.delayed.store import DelayedEvent
from homeserver.events.client_format import DELAYED
from homeserver.live.committer import Overloaded
from homeserver.live.steps import Conflict
from homeserver.rooms.posting import Author, put_event

# Longer than sending takes, except when a server has to be asked about an invite. Who
# sends it once more sends nothing: its transaction ID is known.
CLAIM_SECONDS: Final = 8.0
# What passes: the event is tried again.
PASSING: Final = (DatabaseError, Overloaded, Conflict)


async def deliver(ctx: Context, event: DelayedEvent) -> EventId:
    """Send a claimed event and finalise it; doing it again sends nothing.

    Raises: MatrixError when it cannot be sent; what is in PASSING.
    """
    async with ctx.db.read() as tx:
        account = await users.account(tx, event.user_id)
    if account is None or account.is_deactivated:
        raise errors.user_deactivated()
    if account.is_locked or account.is_suspended:
        raise errors.user_suspended()
    author = Author(event.user_id, account.is_admin)
    try:
        event_id = await put_event(ctx, author, event.post(DELAYED))
    except ProtocolError as error:
        raise errors.of_caller(error) from error
    async with ctx.db.transaction() as tx:
        await store.finalise(tx, event.delay_id, event_id=event_id)
    return event_id
