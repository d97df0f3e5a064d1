"""The picture of somebody new: fetched where the provider says, and made their avatar.

It is a courtesy: what goes wrong with it keeps nobody from coming in.
"""

from typing import Final
from urllib.parse import urlsplit

import structlog

from federation.ids import UserId
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.media import upload
from homeserver.media.ids import new_id
from homeserver.media.media import Media
from homeserver.media.store import Mxc
from homeserver.profile.client_api import change_field
from homeserver.sign_on.identity import NotIdentified
from homeserver.sign_on.providers import Provider

log = structlog.get_logger(__name__)

# No SVG: it may hold scripts.
_KINDS: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")


class _Whole:
    """A body that is there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def readany(self) -> bytes:
        """All of it, once."""
        data, self._data = self._data, b""
        return data

    async def readchunk(self) -> tuple[bytes, bool]:
        """The same, as one piece."""
        return await self.readany(), False


async def take_picture(
    ctx: Context, provider: Provider, user_id: UserId, url: str
) -> None:
    """Have the picture at that address be the user's avatar, if it is one."""
    if urlsplit(url).scheme not in ("http", "https"):
        return
    try:
        data, kind = await provider.picture(url)
        if kind not in _KINDS:
            log.info("no picture", user=user_id, why=f"{kind} is none")
            return
        mxc = Mxc(ctx.server_name, new_id())
        what = upload.Upload(user_id, kind, None, len(data))
        media = ctx.parts.get(Media)
        await upload.take(ctx, media, what, _Whole(data), mxc, is_new=True)
        await change_field(ctx, user_id, "avatar_url", str(mxc))
    except (NotIdentified, MatrixError) as error:
        log.info("no picture", user=user_id, why=str(error))
