"""Errors as OAuth has them (RFC 6749, 5.2)."""

import functools
from collections.abc import Awaitable, Callable

from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request


class OAuthError(Exception):
    """An error code of OAuth, and why."""

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.status = status


def answers_oauth(
    endpoint: Callable[[Context, Request], Awaitable[Answer]],
) -> Callable[[Context, Request], Awaitable[Answer]]:
    """Have an endpoint refuse as OAuth does."""

    @functools.wraps(endpoint)
    async def answering(ctx: Context, request: Request) -> Answer:
        try:
            return await endpoint(ctx, request)
        except OAuthError as error:
            return _refuse(error.status, error.code, error.description)
        except MatrixError as error:
            if error.status >= 500 or error.status == 429:
                raise
            return _refuse(400, "invalid_request", error.safe_message)

    return answering


def _refuse(status: int, code: str, description: str) -> Reply:
    body = {"error": code, "error_description": description}
    return Reply(status, {**body}, {"Cache-Control": "no-store"})
