"""The route table: what `@route` says of each endpoint function.

`app.py` names the modules with endpoints; `collect` takes their routes, in order. A
function may carry several routes. An endpoint's name is its operationId in snake_case;
tests/contract compares the table with the specification.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, TypeAlias, TypeVar

from homeserver.context import Context
from homeserver.http.auth import Auth, RequestType, Who
from homeserver.http.features import FLAGS
from homeserver.http.limits import Limit
from homeserver.http.replies import Answer
from homeserver.http.trie import Trie, parameters_of

CLIENT: Final = "client"
FEDERATION: Final = "federation"
METRICS: Final = "metrics"

_MARK: Final = "routes"
_V3: Final = "/_matrix/client/v3/"
_R0: Final = "/_matrix/client/r0/"

MIB: Final = 1024 * 1024

Result = TypeVar("Result", bound=Awaitable[Answer])
Endpoint: TypeAlias = Callable[[Context, RequestType], Result]


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, and what has to happen before the endpoint is called."""

    method: str
    path: str
    operation: str
    endpoint: Callable[[Context, Any], Awaitable[Answer]]
    who: Who
    limit: Limit | None
    # The version of the specification that added it; None: older than v1.1.
    since: str | None
    # The flag in `/versions` that clients look at before they use it (features.py).
    flag: str | None
    # Other spellings of the path; parameters that they lack read as "".
    aliases: tuple[str, ...]
    max_body: int
    # Waits for news: not counted as work under way, answered early at a shutdown, and
    # ended when the client goes away.
    long_poll: bool
    # The endpoint reads the body itself, from `request.raw.content`.
    streams_body: bool
    names: tuple[str, ...]

    @property
    def apis(self) -> frozenset[str]:
        """Which listeners serve it: client, federation, metrics."""
        return apis_of(self.path)

    def paths(self) -> tuple[str, ...]:
        """All its paths; what is older than v1.1 also answers to old clients."""
        found = (self.path, *self.aliases)
        if self.since is None:
            found += tuple(
                _R0 + path.removeprefix(_V3) for path in found if path.startswith(_V3)
            )
        return found


def apis_of(path: str) -> frozenset[str]:
    """Which listeners serve a path."""
    if path == "/_matrix/federation/v1/openid/userinfo":
        # Asked by services and not by servers, also where there is no federation.
        return frozenset({CLIENT, FEDERATION})
    if path.startswith(("/_matrix/federation/", "/_matrix/key/", "/_matrix/policy/")):
        return frozenset({FEDERATION})
    if path.startswith("/.well-known/"):
        return frozenset({CLIENT, FEDERATION})
    if path == "/metrics":
        return frozenset({METRICS})
    return frozenset({CLIENT})


def route(  # noqa: PLR0913 - a line of the table has many columns
    method: str,
    path: str,
    *,
    auth: Auth[RequestType],
    limit: Limit | None = None,
    since: str | None = None,
    flag: str | None = None,
    aliases: tuple[str, ...] = (),
    max_body: int = MIB,
    long_poll: bool = False,
    streams_body: bool = False,
    operation: str | None = None,
) -> Callable[[Endpoint[RequestType, Result]], Endpoint[RequestType, Result]]:
    """Make a function the endpoint of a path, verbatim from the specification.

    `operation` is its name in metrics and logs: the function's, unless given.
    """

    def mark(
        endpoint: Endpoint[RequestType, Result],
    ) -> Endpoint[RequestType, Result]:
        if flag is not None and flag not in FLAGS:
            raise ValueError(f"{flag} is not in the table of features")
        names = parameters_of(path)
        for alias in aliases:
            if parameters_of(alias) != names[: len(parameters_of(alias))]:
                raise ValueError(f"{alias} has other parameters than {path}")
        marked = vars(endpoint).setdefault(_MARK, [])
        marked.append(
            Route(
                method=method,
                path=path,
                operation=operation or endpoint.__name__,
                endpoint=endpoint,
                who=auth.who,
                limit=limit,
                since=since,
                flag=flag,
                aliases=aliases,
                max_body=max_body,
                long_poll=long_poll,
                streams_body=streams_body,
                names=names,
            )
        )
        return endpoint

    return mark


def collect(modules: Iterable[ModuleType]) -> tuple[Route, ...]:
    """The routes of the endpoints that these modules define, in order."""
    return tuple(
        found
        for module in modules
        for value in vars(module).values()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
        for found in vars(value).get(_MARK, ())
    )


def build_trie(routes: Iterable[Route], apis: Iterable[str]) -> Trie[Route]:
    """The tree of the routes that a listener for these APIs serves."""
    served = frozenset(apis)
    trie: Trie[Route] = Trie()
    for each in routes:
        if each.apis & served:
            for path in each.paths():
                trie.add(each.method, path, each)
    return trie
