"""Where the pages of this server are, for those who send people there."""

from typing import Final

from homeserver.context import Context
from homeserver.http.requests import Request

ACCOUNT: Final = "/account"


def base_of(ctx: Context, request: Request) -> str:
    """Where this server is for whoever asks, without a slash at the end.

    Without `public_base_url` it is where the request went to.
    """
    if ctx.config.public_base_url:
        return ctx.config.public_base_url.rstrip("/")
    return f"{request.raw.scheme}://{request.headers.get('Host', 'localhost')}"
