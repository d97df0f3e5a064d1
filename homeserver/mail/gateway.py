"""Give a text message to the configured gateway, over HTTP."""

import json
from typing import Final
from urllib.parse import quote

import aiohttp

from homeserver.config.accounts import Sms
from homeserver.mail.smtp import NotDelivered
from homeserver.mail.store import Message

_SECONDS: Final = 20.0


def _filled(template: str, message: Message, *, as_json: bool) -> str:
    """The template with its values, escaped so that they cannot end theirs."""
    for name, value in (("{number}", message.recipient), ("{text}", message.plain)):
        escaped = json.dumps(value)[1:-1] if as_json else quote(value, safe="")
        template = template.replace(name, escaped)
    return template


async def send(config: Sms, message: Message) -> None:
    """Give the message to the gateway. Raises: NotDelivered."""
    is_json = config.content_type == "application/json"
    headers = {"User-Agent": "hearth"}
    if config.password_header:
        headers["Authorization"] = config.password_header
    body = None
    if config.method == "POST":
        headers["Content-Type"] = config.content_type
        body = _filled(config.body, message, as_json=is_json).encode()
    url = _filled(config.url, message, as_json=False)
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                config.method, url, data=body, headers=headers, allow_redirects=False
            ) as reply,
        ):
            status = reply.status
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        reason = type(error).__name__  # its text may hold the URL with the text in it
        raise NotDelivered(reason, for_good=False) from error
    if not 200 <= status < 300:
        raise NotDelivered(f"it answered {status}", for_good=status in (400, 422))
