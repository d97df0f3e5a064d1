"""Rooms whose members nobody will tell us any more, since we have left them meanwhile.

Who is not in a room is not told its state. For a while some server may still help; then
nobody asks any more. The room stays without its members, which the next join brings.

Spec: MSC3902
"""

from typing import Final

import structlog

from homeserver.context import Context

# With their pauses these take about four minutes.
TRIES_AFTER_LEAVING: Final = 8

log = structlog.get_logger(__name__)


async def end_if_over(ctx: Context, room_nid: int, join_nid: int, tries: int) -> bool:
    """Whether there is nothing to fetch any more; then nobody tries it again."""
    await ctx.live.follower.pull()
    room = await ctx.live.view.room(room_nid)
    if room is not None and room.is_partial:
        is_soon = tries < TRIES_AFTER_LEAVING
        if room.is_resident or is_soon:
            return False
    async with ctx.db.transaction() as tx:
        # Not when somebody has joined anew: then it is another join's.
        await tx.execute(
            "DELETE FROM partial_rooms WHERE room_nid = $1 AND join_nid = $2",
            room_nid,
            join_nid,
        )
    log.info("members not awaited any more", room_nid=room_nid)
    return True
