"""Asking many servers at once, each for as long as the client is willing to wait."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from federation.canonical_json import JsonObject
from federation.ids import ServerName
from federation.wire.errors import WireError
from homeserver.context import Context

Question = TypeVar("Question")


async def ask_all(
    ctx: Context,
    questions: Mapping[ServerName, Question],
    ask: Callable[[ServerName, Question], Awaitable[None]],
    seconds: float,
) -> JsonObject:
    """Ask every server its question; those that did not answer, as `failures`."""
    failures: JsonObject = {}

    async def one(server: ServerName, question: Question) -> None:
        try:
            async with asyncio.timeout(seconds):
                await ask(server, question)
        except TimeoutError:
            failures[server] = _failure("no answer in time")
        except WireError as error:
            failures[server] = _failure(error.why)

    if not ctx.config.federation.enabled:
        return {server: _failure("this server keeps to itself") for server in questions}
    await asyncio.gather(*(one(*each) for each in questions.items()))
    return failures


def _failure(why: str) -> JsonObject:
    return {"status": 503, "message": why[:300]}
