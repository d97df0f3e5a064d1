"""Each reference to the specification leads somewhere.

The specification is read from `MATRIX_SPEC`, or beside the checkout; without it these
tests are skipped. Its pages are rendered by Hugo; what follows makes the same anchors
from the sources, and proves that on the links that the pages have among themselves.
"""

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = Path(os.environ.get("MATRIX_SPEC") or ROOT.parent / "shared/spec")
needs_spec = pytest.mark.skipif(
    not (SPEC / "text").is_dir(), reason="the specification is not here"
)

PAGES = (
    *("client-server-api", "server-server-api", "application-service-api"),
    *("identity-service-api", "push-gateway-api", "appendices", "rooms"),
    *(f"rooms/v{number}" for number in range(1, 13)),
)
REFERENCE = re.compile(r"(?<![\w/-])([a-z-]+(?:/v\d+)?)#([\w-]+)")
SHORTCODE = re.compile(r"\{\{% *([a-z/-]+)([^%]*)%\}\}")
ARGUMENT = re.compile(r'(\w+)="([^"]*)"')
HEADING = re.compile(r"^#{1,6} +(.+?)(?: *\{(?:#|id=\")([\w-]+)\"?\})? *#*$")

# ── anchors ─────────────────────────────────────────────────────────────────────────


def slug(text: str) -> str:
    """A heading's anchor, in the way of GitHub: letters, digits, `-`, `_`."""
    text = SHORTCODE.sub("", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def endpoint_anchor(method: str, path: str) -> str:
    return method.lower() + re.sub(r"[^\w-]", "", path).lower()


@cache
def endpoints() -> dict[str, list[str]]:
    """Anchors of the endpoints by the file that describes them."""
    found: dict[str, list[str]] = {}
    lines = (SPEC / "endpoints.tsv").read_text().splitlines()
    for row in (line.split("\t") for line in lines[1:]):
        anchor = endpoint_anchor(row[1], row[2])
        found.setdefault(row[-1].strip(), []).append(anchor)
    return found


def source_of(page: str) -> str:
    path = SPEC / "text" / f"{page}.md"
    return (path if path.is_file() else path.with_suffix("") / "_index.md").read_text()


def expanded(page: str, text: str) -> Iterator[str]:
    """The lines of a page with those of the modules and fragments it includes."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        yield line
        for name, given in SHORTCODE.findall(line):
            arguments = dict(ARGUMENT.findall(given))
            if name == "cs-module":
                module = f"client-server-api/modules/{arguments['filename']}"
                yield from expanded(page, source_of(module))
            elif name == "rver-fragment":
                fragment = f"rooms/fragments/{arguments['name']}"
                yield from expanded(page, source_of(fragment))


def anchors_of_shortcode(name: str, arguments: dict[str, str]) -> list[str]:
    if name == "http-api":
        source = f"api/{arguments['spec']}/{arguments['api']}.yaml"
        base = arguments.get("anchor_base")
        given = endpoints().get(source, [])
        return [f"{base}_{anchor}" for anchor in given] if base else given
    if name == "definition":
        schema = (SPEC / f"{arguments['path']}.yaml").read_text()
        title = re.search(r"^ *title: *(.+)$", schema, re.MULTILINE)
        return [f"definition-{slug(title[1])}"] if title else []
    if name == "event":
        return [slug(arguments["event"])]
    if name in ("event-group", "msgtypes"):
        prefix = arguments.get("group_name", "m.room.message$")
        schemas = (SPEC / "event-schemas/schema").glob(f"{prefix}*.yaml")
        return [slug(path.stem.removeprefix("m.room.message$")) for path in schemas]
    return []


@cache
def anchors(page: str) -> frozenset[str]:
    found: list[str] = []
    seen: Counter[str] = Counter()
    for line in expanded(page, source_of(page)):
        heading = HEADING.match(line)
        if heading:
            anchor = heading[2] or slug(heading[1])
            found.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
        found += re.findall(r'<a id="([\w-]+)">', line)
        for name, given in SHORTCODE.findall(line):
            found += anchors_of_shortcode(name, dict(ARGUMENT.findall(given)))
    return frozenset(found)


def leads_somewhere(page: str, anchor: str) -> bool:
    """Whether a page has the anchor, or the endpoint of which it names a part."""
    whole = re.split(r"_(?:request|response-\d+)_", anchor)[0]
    return page in PAGES and (anchor in anchors(page) or whole in anchors(page))


# ── our references ──────────────────────────────────────────────────────────────────


def documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every docstring, those of attributes and constants included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            if isinstance(value, str):
                yield node.lineno, value


def files() -> list[Path]:
    return [
        path
        for folder in ("federation", "homeserver", "schema")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


@needs_spec
@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_references_lead_somewhere(path: Path) -> None:
    source = path.read_text()
    lost = [
        f"{page}#{anchor}"
        for page, anchor in REFERENCE.findall(source)
        if not leads_somewhere(page, anchor)
    ]
    assert lost == []


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_follows_spec_is_a_reference(path: Path) -> None:
    for line, text in documented(ast.parse(path.read_text())):
        for after in re.split(r"\bSpec:", text)[1:]:
            first = re.split(r"[\s,;]", after.strip())[0].rstrip(".")
            whole = first in PAGES or re.fullmatch(r"MSC\d+", first)
            assert whole or REFERENCE.match(first), f"{path}:{line}"


# ── the checks themselves ───────────────────────────────────────────────────────────


def links_of(page: str) -> Iterator[tuple[str, str]]:
    for line in expanded(page, source_of(page)):
        for target, anchor in re.findall(r"\]\((/[a-z0-9/-]*|)#([^)\s]+)\)", line):
            yield target.strip("/") if target else page, anchor


@needs_spec
@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_the_specification_lead_somewhere(page: str) -> None:
    assert {
        f"{target}#{anchor}"
        for target, anchor in links_of(page)
        if target in PAGES and not leads_somewhere(target, anchor)
    } == set()


@needs_spec
def test_a_lost_reference_is_noticed() -> None:
    for reference in (
        "client-server-api#nothing-of-the-kind",
        "client-server-api#post_matrixclientv3nothing",
        "no-such-api#canonical-json",
        "rooms/v13#redactions",
        "rooms#event-format",
    ):
        page, anchor = REFERENCE.findall(f"Spec: {reference}.")[0]
        assert not leads_somewhere(page, anchor)


def test_references_are_found() -> None:
    text = """Read. Spec: rooms/v12#authorisation-rules, 5.3; appendices#room-ids,
    client-server-api#get_matrixclientv3sync_response-200_rooms.
    See `x#y` and https://example.org/page#anchor and C#.
    """
    assert REFERENCE.findall(text)[:3] == [
        ("rooms/v12", "authorisation-rules"),
        ("appendices", "room-ids"),
        ("client-server-api", "get_matrixclientv3sync_response-200_rooms"),
    ]


def test_anchors_are_made_as_hugo_makes_them() -> None:
    assert slug("`m.room.power_levels` events accept values as strings") == (
        "mroompower_levels-events-accept-values-as-strings"
    )
    assert slug("Server Access Control Lists (ACLs)") == (
        "server-access-control-lists-acls"
    )
    assert endpoint_anchor("GET", "/.well-known/matrix/server") == (
        "getwell-knownmatrixserver"
    )
    assert endpoint_anchor("POST", "/_matrix/client/v3/rooms/{roomId}/join") == (
        "post_matrixclientv3roomsroomidjoin"
    )
