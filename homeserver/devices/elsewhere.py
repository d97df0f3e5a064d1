"""Asking many servers at once, each for as long as the client is willing to wait.

A server that is just being started again, or cut off for a moment, is asked again: whom
a client gets no key of cannot read what it sends now, not even later. Who has been away
for long is not waited for, since it will not be tried again in time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from federation.canonical_json import JsonObject
from federation.ids import ServerName
from federation.wire.errors import NotReachable, WireError
from homeserver.context import Context

Question = TypeVar("Question")

_LOOK_SECONDS: Final = 0.2


async def ask_all(
    ctx: Context,
    questions: Mapping[ServerName, Question],
    ask: Callable[[ServerName, Question], Awaitable[None]],
    seconds: float,
) -> JsonObject:
    """Ask every server its question; those that did not answer, as `failures`."""
    failures: JsonObject = {}

    async def one(server: ServerName, question: Question) -> None:
        deadline = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return await ask(server, question)
                    except NotReachable:
                        if not await _comes_back(ctx, server, deadline):
                            raise
        except TimeoutError:
            failures[server] = _failure("no answer in time")
        except WireError as error:
            failures[server] = _failure(error.why)

    if not ctx.config.federation.enabled:
        return {server: _failure("this server keeps to itself") for server in questions}
    await asyncio.gather(*(one(*each) for each in questions.items()))
    return failures


async def _comes_back(ctx: Context, server: ServerName, deadline: float) -> bool:
    """Wait until the server may be asked again; False when that is too late.

    Any sign of life of it ends the wait.
    """
    backoff = ctx.wire.backoff
    if backoff.failing_since(server) is None:
        return False  # it is not the server that failed
    while (retry_at := backoff.retry_at(server)) is not None:
        if retry_at - time.time() > deadline - time.monotonic():
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


def _failure(why: str) -> JsonObject:
    return {"status": 503, "message": why[:300]}
