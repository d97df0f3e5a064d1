"""Where two devices meet so that one can log in the other by a QR code.

Laws. What lies there is small, is gone after minutes, is text that no browser shows,
and is replaced only by who has seen it. There are never more than a bound of them.

MSC4388, and MSC4108 as clients have it today, with ETags.
"""

from datetime import timedelta
from email.utils import format_datetime
from typing import Final

import msgspec

from homeserver import errors
from homeserver.accounts import own_pages, tokens
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.auth import nobody, optional_access_token
from homeserver.http.limits import Limit, lookups
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import ClientRequest, Request
from homeserver.http.routes import route
from homeserver.oauth.store import rendezvous as store
from homeserver.oauth.store.rendezvous import Rendezvous

WITH_ETAGS: Final = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
MSC4388: Final = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
OLD, NEW = 0, 1  # kinds

MAX_DATA: Final = 4096
MAX_BODY: Final = 16 * 1024
# "the maximum timeout SHOULD be 300 seconds for security"
LIFETIME: Final = timedelta(minutes=5)
MOST: Final = 5000

# By address.
new_rendezvous: Final = Limit("rendezvous", per_second=0.1, burst=20)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_DATA:
        raise errors.too_large(f"At most {MAX_DATA} bytes can lie here.")


def _gone() -> MatrixError:
    return errors.not_found("There is no such rendezvous, or not any more.")


async def _create(ctx: Context, kind: int, data: bytes) -> Rendezvous:
    _check_size(data)
    async with ctx.db.transaction() as tx:
        await store.delete_expired(tx)
        made = await store.add(tx, tokens.new_session_id(), kind, data, LIFETIME, MOST)
    if made is None:
        raise errors.limit_exceeded(int(LIFETIME.total_seconds()) * 1000)
    return made


def _id_of(request: Request) -> str:
    found = request.path(str, "rendezvousId")
    if "\0" in found:
        raise _gone()
    return found


async def _found(ctx: Context, request: Request, kind: int) -> Rendezvous:
    async with ctx.db.read() as tx:
        found = await store.get(tx, _id_of(request), kind)
    if found is None:
        raise _gone()
    return found


async def _end(ctx: Context, request: Request, kind: int) -> None:
    async with ctx.db.transaction() as tx:
        if not await store.delete(tx, _id_of(request), kind):
            raise _gone()


# ── MSC4388 ──────────────────────────────────────────────────────────────────────────


class _New(msgspec.Struct):
    data: str


class _Change(msgspec.Struct):
    data: str
    sequence_token: str


def _bytes(data: str) -> bytes:
    try:
        return data.encode()
    except UnicodeEncodeError:
        raise errors.bad_json("data: this is no text.") from None


@route("GET", MSC4388, auth=optional_access_token, limit=lookups)
async def get_rendezvous_support(_ctx: Context, request: ClientRequest) -> Answer:
    """Whether who asks may begin a rendezvous. Proposed in MSC4388."""
    return {"create_available": request.requester is not None}


@route(
    "POST",
    MSC4388,
    auth=optional_access_token,
    limit=new_rendezvous,
    max_body=MAX_BODY,
)
async def create_rendezvous(ctx: Context, request: ClientRequest) -> Answer:
    """Begin a rendezvous; only users of this server may. Proposed in MSC4388."""
    if request.requester is None:
        raise errors.forbidden("Only users of this server may begin a rendezvous.")
    made = await _create(ctx, NEW, _bytes(request.body(_New).data))
    return {
        "id": made.rendezvous_id,
        "sequence_token": made.tag,
        "expires_in_ms": made.expires_in_ms,
    }


@route(
    "PUT",
    MSC4388 + "/{rendezvousId}",
    auth=nobody,
    limit=lookups,
    max_body=MAX_BODY,
)
async def write_rendezvous(ctx: Context, request: Request) -> Answer:
    """Put something in place of what was seen there last. Proposed in MSC4388.

    Repeating it does no harm, since an answer may be lost.
    """
    body = request.body(_Change)
    data = _bytes(body.data)
    _check_size(data)
    rendezvous_id = _id_of(request)
    async with ctx.db.transaction() as tx:
        found = await store.get(tx, rendezvous_id, NEW, for_update=True)
        if found is None:
            raise _gone()
        if found.tag == body.sequence_token:
            await store.write(tx, rendezvous_id, data)
            found = await store.get(tx, rendezvous_id, NEW)
        elif found.data != data:
            raise MatrixError(
                409,
                "IO_ELEMENT_MSC4388_CONCURRENT_WRITE",
                "Something else has been put here meanwhile.",
            )
    if found is None:
        raise _gone()
    return {"sequence_token": found.tag}


@route("GET", MSC4388 + "/{rendezvousId}", auth=nobody, limit=lookups)
async def read_rendezvous(ctx: Context, request: Request) -> Answer:
    """What lies there; for programs, not to be looked at. Proposed in MSC4388."""
    if request.headers.get("Sec-Fetch-Mode") == "navigate":
        raise errors.forbidden("This is nothing to look at in a browser.")
    found = await _found(ctx, request, NEW)
    return {
        "data": found.data.decode(),
        "sequence_token": found.tag,
        "expires_in_ms": found.expires_in_ms,
    }


@route("DELETE", MSC4388 + "/{rendezvousId}", auth=nobody, limit=lookups)
async def end_rendezvous(ctx: Context, request: Request) -> Answer:
    """End a rendezvous. Proposed in MSC4388."""
    await _end(ctx, request, NEW)
    return {}


# ── MSC4108, with ETags ──────────────────────────────────────────────────────────────


def _headers(found: Rendezvous) -> dict[str, str]:
    return {
        "ETag": f'"{found.tag}"',
        "Expires": format_datetime(found.expires_at, usegmt=True),
        "Last-Modified": format_datetime(found.written_at, usegmt=True),
        "Cache-Control": "no-store",
        "Pragma": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def _text(request: Request) -> bytes:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "text/plain":
        raise errors.invalid_param("The content type must be text/plain.")
    _check_size(request.body_bytes)
    return request.body_bytes


@route(
    "POST",
    WITH_ETAGS,
    auth=nobody,
    limit=new_rendezvous,
    max_body=MAX_BODY,
    flag="org.matrix.msc4108",
)
async def create_old_rendezvous(ctx: Context, request: Request) -> Answer:
    """Begin a rendezvous. As MSC4108 had it."""
    made = await _create(ctx, OLD, _text(request))
    base = own_pages.base_of(ctx, request)
    url = f"{base}{WITH_ETAGS}/{made.rendezvous_id}"
    return Reply(201, {"url": url}, _headers(made))


@route(
    "PUT",
    WITH_ETAGS + "/{rendezvousId}",
    auth=nobody,
    limit=lookups,
    max_body=MAX_BODY,
    flag="org.matrix.msc4108",
)
async def write_old_rendezvous(ctx: Context, request: Request) -> Answer:
    """Put something in place of what was seen there last. As MSC4108 had it."""
    data, seen = _text(request), request.headers.get("If-Match")
    if seen is None:
        raise errors.missing_param("The header If-Match is needed.")
    rendezvous_id = _id_of(request)
    async with ctx.db.transaction() as tx:
        found = await store.get(tx, rendezvous_id, OLD, for_update=True)
        if found is None:
            raise _gone()
        if seen.strip().strip('"') != found.tag:
            raise MatrixError(
                412,
                "M_CONCURRENT_WRITE",
                "Something else has been put here meanwhile.",
                headers=_headers(found),
            )
        await store.write(tx, rendezvous_id, data)
        found = await store.get(tx, rendezvous_id, OLD)
    if found is None:
        raise _gone()
    return Reply(202, b"", _headers(found))


@route(
    "GET",
    WITH_ETAGS + "/{rendezvousId}",
    auth=nobody,
    limit=lookups,
    flag="org.matrix.msc4108",
)
async def read_old_rendezvous(ctx: Context, request: Request) -> Answer:
    """What lies there, if it is something new. As MSC4108 had it."""
    found = await _found(ctx, request, OLD)
    if request.headers.get("If-None-Match", "").strip().strip('"') == found.tag:
        return Reply(304, b"", _headers(found), "text/plain")
    return Reply(200, found.data, _headers(found), "text/plain")


@route(
    "DELETE",
    WITH_ETAGS + "/{rendezvousId}",
    auth=nobody,
    limit=lookups,
    flag="org.matrix.msc4108",
)
async def end_old_rendezvous(ctx: Context, request: Request) -> Answer:
    """End a rendezvous. As MSC4108 had it."""
    await _end(ctx, request, OLD)
    return Reply(204, b"")
