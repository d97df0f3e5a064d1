"""A hook for aiohttp sessions that holds every reply to the specification."""

import json
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import aiohttp

from tests.support import openapi

# Endpoints that others define.
BESIDES_THE_SPECIFICATION = (
    "/_synapse/",
    "/_hearth/",
    "/account/",
    "/_matrix/client/v3/auth/",
    "/_matrix/client/r0/auth/",
    # Browsers are sent there, and told of errors in pages.
    "/_matrix/client/v3/login/sso/",
    "/_matrix/client/r0/login/sso/",
    "/metrics",
    "/account",  # pages for people
    "/oauth2/",  # RFC 6749 and its family
    "/.well-known/openid-configuration",  # MSC2965 as it was once
    "/_matrix/client/unstable/",
    "/_matrix/client/v1/rtc/",  # MSC4143
    "/_matrix/client/v3/pushers/ack",  # MSC4174
    "/_matrix/client/r0/pushers/ack",
)
# What clients rely on although the page has it otherwise: where, status, reply.
AGREED = (
    # Without TURN servers. With an empty list, as the page wants it, a browser refuses
    # to make a connection at all.
    ("/_matrix/client/v3/voip/turnServer", 200, {}),
    # MSC4174: what has been set is still to be acknowledged.
    ("/_matrix/client/v3/pushers/set", 201, {}),
)
# A service registers without its token: its text wants these, its page has only flows.
NO_SERVICE = ("M_MISSING_TOKEN", "M_UNKNOWN_TOKEN")
# A presence that the specification does not have yet (MSC3026).
BUSY = "org.matrix.msc3026.busy"
# MSC3866 and MSC2815: errcodes with capitals where small letters are asked for.
CAPITALS = ("ORG.MATRIX.MSC3866_", "FI.MAU.MSC2815_")
# MSC4140: with this parameter, what sends schedules, and answers otherwise.
DELAYED = "org.matrix.msc4140.delay"


class ContractBroken(AssertionError):  # noqa: N818 - reads as what happened
    """A reply is not what the specification says."""


def checking() -> list[aiohttp.TraceConfig]:
    """What to give a session as `trace_configs`; nothing without the specification."""
    if not openapi.is_there():
        return []
    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(_note)
    trace.on_response_chunk_received.append(_check)
    return [trace]


async def _note(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    end: aiohttp.TraceRequestEndParams,
) -> None:
    context.response = end.response


async def _check(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    received: aiohttp.TraceResponseChunkReceivedParams,
) -> None:
    response = getattr(context, "response", None)
    if response is None or received.method == "OPTIONS":
        return
    if response.status == HTTPStatus.OK and DELAYED in received.url.query:
        return
    check_reply(
        received.method,
        received.url.raw_path,
        response.status,
        response.headers.get("Content-Type", ""),
        received.chunk,
    )


def _has_no_service(raw_path: str, parsed: Any) -> bool:
    is_register = raw_path == "/_matrix/client/v3/register"
    return (
        is_register and isinstance(parsed, dict) and parsed.get("errcode") in NO_SERVICE
    )


def check_reply(
    method: str, raw_path: str, status: int, content_type: str, body: bytes
) -> None:
    """Hold one reply to the specification. Raises: ContractBroken."""
    if raw_path.startswith(BESIDES_THE_SPECIFICATION):
        return
    operations = openapi.find(method, raw_path)
    if any(openapi.has_other_content(each, status) for each in operations):
        return  # a file
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        raise ContractBroken(f"{method} {raw_path}: {body[:200]!r}") from None
    if (raw_path, status, parsed) in AGREED or _has_no_service(raw_path, parsed):
        return
    if isinstance(parsed, dict) and str(parsed.get("errcode")).startswith(CAPITALS):
        return
    if isinstance(parsed, dict) and parsed.get("presence") == BUSY:
        parsed = {**parsed, "presence": "online"}
    if not operations:
        if status not in (404, 405):
            raise ContractBroken(f"{method} {raw_path}: answered {status}")
        return
    found = min(
        (
            openapi.complaints(operation, status, content_type, parsed)
            for operation in operations
        ),
        key=len,
    )
    if found:
        shown = json.dumps(parsed)[:600]
        raise ContractBroken(f"{method} {raw_path} → {status}: {found}\n{shown}")
