"""The reference page of all endpoints, written from the route table.

`hearth endpoints` prints it; docs/endpoints.md is it, and a test holds it to the table.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from homeserver.http.auth import Who
from homeserver.http.features import FEATURES
from homeserver.http.routes import CLIENT, FEDERATION, METRICS, Route

_HEAD: Final = """\
# Endpoints

What this server answers, written from its route table by `hearth endpoints`. Paths that
begin with `/_matrix/client/v3/` and are older than v1.1 answer under
`/_matrix/client/r0/` as well. *Since* is the version of the specification that has it;
*Flag* is what clients look for in `unstable_features` of `/versions`.
"""
_COLUMNS: Final = (
    "| | Path | Who | Since | Flag | What it does |\n|---|---|---|---|---|---|"
)
_WHO: Final[Mapping[Who, str]] = {
    Who.NOBODY: "anybody",
    Who.USER: "user",
    Who.USER_OR_NOBODY: "user or anybody",
    Who.SERVER: "server",
}
_TITLES: Final = (
    (CLIENT, "For clients"),
    (FEDERATION, "For other servers"),
    (METRICS, "For the operator's tools"),
)
_MSCS: Final = {feature.flag: feature.msc for feature in FEATURES}
_SENTENCE: Final = re.compile(r"(.+?[.:])(?:\s|$)", re.DOTALL)
# What a docstring says beside the sentence: where it stands, and what can go wrong.
_ASIDE: Final = re.compile(r"\s*(Spec|Raises|MSC\d+)\b.*", re.DOTALL)


def render(routes: Iterable[Route]) -> str:
    """The page."""
    listed = sorted(routes, key=lambda route: (route.path, route.method))
    return "\n".join((_HEAD, *_sections(listed), *_features()))


def _sections(routes: Sequence[Route]) -> Iterator[str]:
    for api, title in _TITLES:
        # What two listeners serve stands with the first.
        mine = [route for route in routes if _home(route) == api]
        if mine:
            yield f"## {title}\n\n{_COLUMNS}"
            yield from map(_row, mine)
            yield ""


def _home(route: Route) -> str:
    return next(api for api, _ in _TITLES if api in route.apis)


def _row(route: Route) -> str:
    paths = "<br>".join(f"`{path}`" for path in (route.path, *route.aliases))
    flag = ""
    if route.flag is not None:
        flag = f"`{route.flag}` (MSC{_MSCS[route.flag]})"
    since = "" if route.since is None else f"v{route.since}"
    columns = (route.method, paths, _WHO[route.who], since, flag, first_sentence(route))
    return f"| {' | '.join(columns)} |"


def first_sentence(route: Route) -> str:
    """What the endpoint's documentation begins with."""
    text = " ".join(inspect.getdoc(route.endpoint).split())  # type: ignore[union-attr]
    match = _SENTENCE.match(_ASIDE.sub("", text) or text)
    sentence = match[1] if match else text
    return sentence.replace("|", "\\|")


def _features() -> Iterator[str]:
    yield "## Flags\n\n| Flag | Proposal | What | In the specification since |"
    yield "|---|---|---|---|"
    for each in sorted(FEATURES, key=lambda feature: feature.flag):
        since = "" if each.since is None else f"v{each.since}"
        yield f"| `{each.flag}` | MSC{each.msc} | {each.what} | {since} |"
    yield ""
