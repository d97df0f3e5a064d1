"""Published rooms of other servers."""

from federation.ids import ServerName
from federation.query_bodies import PublicRooms, PublicRoomsQuery
from federation.wire import calls_queries
from federation.wire.errors import RemoteError, WireError
from homeserver import errors
from homeserver.context import Context


async def ask_for_published(
    ctx: Context, server: ServerName, query: PublicRoomsQuery
) -> PublicRooms:
    """A page of what another server publishes.

    Raises: M_UNKNOWN with 502 when it does not answer; what it says of the query.
    """
    has_filter = query.generic_search_term is not None or query.room_types is not None
    ask = (
        calls_queries.query_public_rooms
        if has_filter
        else calls_queries.get_public_rooms
    )
    try:
        return await ask(ctx.wire, server, query)
    except RemoteError as error:
        if error.status == 400:
            raise errors.invalid_param(f"{server} does not take this query.") from None
        raise errors.bad_gateway(f"{server} does not list its rooms.") from error
    except WireError as error:
        raise errors.bad_gateway(
            f"{server} does not answer. Try again later."
        ) from error
