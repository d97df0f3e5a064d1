"""The kinds of authentication, and what each learns of the caller.

The functions that do it stand further down in the tree and are handed in as
`Authenticators`; a kind here says which of them a route needs and what its endpoint
gets as its request.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from federation.ids import ServerName
from homeserver.context import Context
from homeserver.http.requests import (
    ClientRequest,
    FederationRequest,
    Request,
    Requester,
)

RequestType = TypeVar("RequestType", bound=Request)


class Who(Enum):
    """Who may call."""

    USER = "access_token"
    USER_OR_NOBODY = "optional_access_token"
    SERVER = "server"
    NOBODY = "none"


@dataclass(frozen=True, slots=True)
class Auth(Generic[RequestType]):
    """One kind of authentication; the type parameter is what an endpoint gets."""

    who: Who


# An access token is required. Spec: client-server-api#using-access-tokens
by_access_token: Final[Auth[ClientRequest]] = Auth(Who.USER)
# A token that is sent must be good; without one `request.requester` is None.
optional_access_token: Final[Auth[ClientRequest]] = Auth(Who.USER_OR_NOBODY)
# A server signs. Spec: server-server-api#request-authentication
by_server: Final[Auth[FederationRequest]] = Auth(Who.SERVER)
# Nothing is looked at.
nobody: Final[Auth[Request]] = Auth(Who.NOBODY)


@dataclass(frozen=True, slots=True)
class Authenticators:
    """The functions that do it. Each raises MatrixError when it refuses."""

    access_token: Callable[[Context, Request, str], Awaitable[Requester]]
    server: Callable[[Context, FederationRequest], Awaitable[ServerName]]
