"""Each `Spec: document#anchor` in the code stands in the specification."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support import openapi

pytestmark = pytest.mark.skipif(
    not openapi.is_there(), reason="the specification is not at hand"
)

PACKAGES = ("federation", "homeserver")
CODE = Path(__file__).parents[2]
REFERENCE = re.compile(r"([a-z\-]+(?:/v\d+)?)#([\w\-.]+)")
# What follows `Spec:` up to the end of its sentence or paragraph.
SPEC = re.compile(r"Spec: (.*?)(?:\.\s|\.$|\n\s*\n|$)", re.DOTALL)
DOCUMENTS = (
    *("client-server-api", "server-server-api", "push-gateway-api"),
    *("appendices", "rooms", "application-service-api"),
)
HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
EXPLICIT = re.compile(r"\{(?:id=\"|#)([\w\-]+)\"?\}")
# Shapes inside an operation have anchors that begin with the operation's.
INSIDE = re.compile(r"_(?:request|response-\d+)_\w+$")
FRAGMENT = re.compile(r"rver-fragment name=\"([^\"]+)\"")


def slug(heading: str) -> str:
    """The anchor that Hugo makes of a heading."""
    explicit = EXPLICIT.search(heading)
    if explicit:
        return explicit.group(1)
    text = re.sub(r"\{\{.*?\}\}|<[^>]*>|[`*]", "", heading).strip()
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _text_of(document: str) -> list[Path]:
    root = openapi.ROOT / "text"
    if document == "rooms":
        return [root / "rooms/_index.md"]
    if document.startswith("rooms/"):
        return [root / f"{document}.md"]
    folder = root / document
    if folder.is_dir():
        return [folder / "_index.md", *sorted((folder / "modules").glob("*.md"))]
    return [root / f"{document}.md"]


def _of_operations(api: str) -> set[str]:
    return {
        each.method.lower() + re.sub(r"[^\w\-]", "", each.path.lower())
        for each in openapi.operations()
        if each.api == api
    }


@cache
def anchors(document: str) -> frozenset[str]:
    """Every anchor of a document."""
    fragments = openapi.ROOT / "text/rooms/fragments"
    found: set[str] = set()
    pages = _text_of(document)
    for page in pages:
        text = page.read_text("utf-8")
        found |= {slug(heading) for heading in HEADING.findall(text)}
        pages += [
            fragments / f"{name}.md"
            for name in FRAGMENT.findall(text)
            if fragments / f"{name}.md" not in pages
        ]
    if document in ("client-server-api", "server-server-api"):
        found |= _of_operations(document.removesuffix("-api"))
        schemas = openapi.ROOT / "event-schemas/schema"
        found |= {slug(file.stem) for file in schemas.rglob("*.yaml")}
    return frozenset(found)


def references() -> list[tuple[str, str, str]]:
    """(where, document, anchor) of all references in docstrings and comments."""
    found = []
    for package in PACKAGES:
        for file in sorted((CODE / package).rglob("*.py")):
            where = str(file.relative_to(CODE))
            text = file.read_text("utf-8")
            docstrings = [
                ast.get_docstring(node) or ""
                for node in ast.walk(ast.parse(text))
                if isinstance(
                    node,
                    ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
                )
            ]
            comments = [
                line.partition("#")[2] for line in text.splitlines() if "# " in line
            ]
            for part in (*docstrings, *comments):
                for said in SPEC.findall(part):
                    found += [
                        (where, document, anchor.rstrip("."))
                        for document, anchor in REFERENCE.findall(said)
                    ]
    return found


def test_every_reference_leads_somewhere() -> None:
    lost = sorted(
        {
            f"{where}: {document}#{anchor}"
            for where, document, anchor in references()
            if document.partition("/")[0] not in DOCUMENTS
            or INSIDE.sub("", anchor) not in anchors(document)
        }
    )
    assert lost == []


def test_references_are_found_at_all() -> None:
    found = references()
    assert len(found) > 100
    assert {document for _, document, _ in found} > {"appendices", "rooms/v12"}


@pytest.mark.parametrize(
    ("document", "anchor"),
    [
        ("client-server-api", "legacy-login"),
        ("client-server-api", "mchange_password-capability"),
        ("client-server-api", "get_matrixclientv3useruseridaccount_datatype"),
        ("client-server-api", "room-tagging"),
        ("client-server-api", "mroommember"),
        ("server-server-api", "getwell-knownmatrixserver"),
        ("rooms/v12", "authorisation-rules"),
        ("appendices", "identifier-grammar"),
    ],
)
def test_anchors_of_every_kind_are_known(document: str, anchor: str) -> None:
    assert anchor in anchors(document)


@pytest.mark.parametrize("anchor", ["legacy-log-in", "get_matrixclientv3nothing"])
def test_other_anchors_are_not(anchor: str) -> None:
    assert anchor not in anchors("client-server-api")
