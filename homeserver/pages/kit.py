"""Render a page, with the headers that keep it safe.

A page loads nothing from anywhere, runs no script, is in no frame, and is stored
nowhere. What one page needs beyond that (a captcha) it names in `allow`.
"""

import base64
import functools
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from markupsafe import Markup

from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.pages.templating import environment
from homeserver.pages.visitors import CSRF, Visitor, visitor_of

_TEMPLATES: Final = Path(__file__).parent / "templates"
_STYLE: Final = (_TEMPLATES / "style.css").read_text()
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HTML: Final = "text/html; charset=utf-8"
_PLAIN_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # To our own pages only: addresses may hold codes. (With "no-referrer" browsers
    # would not tell the origin of our own forms.)
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
}


def show(
    ctx: Context,
    visitor: Visitor,
    template: str,
    *,
    status: int = 200,
    allow: Mapping[str, str] | None = None,
    **values: object,
) -> Reply:
    """The page of a template.

    Every template has `_`, which translates; `csrf`, the hidden field that each form
    needs; `server`, our name; `refused`, a text, when something was wrong. `allow`
    adds to the directives of the Content-Security-Policy.
    """
    body = (
        environment(_TEMPLATES)
        .get_template(template)
        .render(
            {
                "refused": "",
                **values,
                "_": visitor.say,
                "language": visitor.say.code,
                "server": ctx.server_name,
                "style": Markup(_STYLE),  # noqa: S704 - a file of ours
                "csrf": _hidden(CSRF, visitor.csrf),
            }
        )
    )
    headers = {
        **_PLAIN_HEADERS,
        "Content-Language": visitor.say.code,
        "Content-Security-Policy": _policy(allow or {}),
    }
    if visitor.is_new:
        headers["Set-Cookie"] = visitor.cookie()
    return Reply(status, body.encode(), headers, _HTML)


def _hidden(name: str, value: str) -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(name, value)


def _policy(allow: Mapping[str, str]) -> str:
    directives = {
        "default-src": "'none'",
        "style-src": f"'sha256-{_STYLE_HASH}'",
        "img-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    for name, sources in allow.items():
        found = directives.get(name, "'none'").replace("'none'", "")
        directives[name] = f"{found} {sources}".strip()
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


def source_of(uri: str) -> str:
    """What stands for a URI in a policy: its origin, or its scheme where it has none.

    Browsers hold a redirect after a form against `form-action` too.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        return f"{parts.scheme}://{parts.netloc}"
    return f"{parts.scheme}:"


def go(visitor: Visitor, where: str) -> Reply:
    """Send the browser to another page: one of ours, or one that was checked."""
    headers = {**_PLAIN_HEADERS, "Location": where}
    if visitor.is_new:
        headers["Set-Cookie"] = visitor.cookie()
    return Reply(303, b"", headers, _HTML)


def page(
    endpoint: Callable[[Context, Request], Awaitable[Answer]],
) -> Callable[[Context, Request], Awaitable[Answer]]:
    """Mark an endpoint as a page: what it refuses is told as a page too."""

    @functools.wraps(endpoint)
    async def shown(ctx: Context, request: Request) -> Answer:
        try:
            return await endpoint(ctx, request)
        except MatrixError as error:
            if error.status >= 500:
                raise
            return refuse(ctx, visitor_of(ctx.config, request), error)

    return shown


def refuse(ctx: Context, visitor: Visitor, error: MatrixError) -> Reply:
    """The page that tells of an error."""
    reply = show(
        ctx,
        visitor,
        "error.html",
        status=error.status,
        refused=visitor.say(error.safe_message),
    )
    return Reply(
        reply.status, reply.body, {**error.headers, **reply.headers}, reply.content_type
    )
