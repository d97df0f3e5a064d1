"""The tree is the import order; what is pure stays pure; files stay short.

A line of `TREE` may import only what stands above it, or left of it in its own line.
Modules of one package may import each other, but in no circle.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 500

LINES = """
    federation.errors federation.ids federation.canonical_json federation.fields
    federation.room_versions
    federation.redaction
    federation.signatures
    federation.pdu federation.edu
    federation.bodies federation.query_bodies federation.server_keys
    federation.x_matrix
    federation.auth_rules
    federation.state_resolution
    federation.wire
    schema
    homeserver.errors
    homeserver.clock homeserver.bounded homeserver.signing_key homeserver.logs
    homeserver.later homeserver.memory
    homeserver.config
    homeserver.outgoing
    homeserver.db
    homeserver.wake_ups
    homeserver.periodic homeserver.claimed homeserver.chores homeserver.globs
    homeserver.events
    homeserver.state
    homeserver.live
    homeserver.context
    homeserver.http
    homeserver.pages
    homeserver.mail
    homeserver.server_keys
    homeserver.destinations
    homeserver.appservices
    homeserver.accounts
    homeserver.rooms
    homeserver.devices
    homeserver.threepids
    homeserver.login homeserver.profile homeserver.oauth homeserver.receipts
    homeserver.typing homeserver.presence
    homeserver.relations
    homeserver.push homeserver.people
    homeserver.upgrades homeserver.retention
    homeserver.media homeserver.directory homeserver.search homeserver.spaces
    homeserver.reports homeserver.calls homeserver.delayed homeserver.bridging
    homeserver.sign_on
    homeserver.sync
    homeserver.transactions
    homeserver.admin
    homeserver.app
    homeserver.demo
    homeserver.cli
    homeserver.__main__
"""
TREE = LINES.split()

# Besides all of `federation/` but `wire/`.
PURE_IN_HOMESERVER = {
    "homeserver.config.text",
    "homeserver.errors",
    "homeserver.events.client_format",
    "homeserver.events.filters",
    "homeserver.events.relations",
    "homeserver.events.sticky",
    "homeserver.events.stored",
    "homeserver.globs",
    "homeserver.http.trie",
    "homeserver.people.words",
    "homeserver.profile.fields",
    "homeserver.push.evaluation",
    "homeserver.push.rules",
    "homeserver.rooms.presets",
    "homeserver.rooms.visibility",
    "homeserver.search.words",
    "homeserver.sign_on.claims",
    "homeserver.state.tree",
}
# The standard library without files, network, processes, clocks and chance.
PURE_STANDARD = {
    *("abc", "ast", "base64", "binascii", "bisect", "collections", "contextlib"),
    *("copy", "dataclasses", "enum", "fractions", "functools", "hashlib", "heapq"),
    *("hmac", "html", "ipaddress", "itertools", "json", "math", "operator", "re"),
    *("string", "struct", "textwrap", "types", "typing", "unicodedata"),
    *("collections.abc", "urllib.parse"),
}
PURE_THIRD = {"orjson", "nacl.exceptions", "nacl.signing"}
PURE_THIRD_IN_HOMESERVER = PURE_THIRD | {"msgspec"}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours and its file; a package is named like its folder."""
    for package in ("federation", "homeserver", "schema"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


MODULES = dict(modules())


def parse(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What a module imports, as full names, wherever the line stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                whole = name in MODULES or node.level
                yield name if whole else str(node.module), node.lineno


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in ("federation", "homeserver", "schema")


def unit_of(name: str) -> str:
    """The line of the tree that a module belongs to."""
    parts = name.split(".")
    return parts[0] if parts[0] == "schema" else ".".join(parts[:2])


def out_of_order(name: str, tree: ast.AST) -> Iterator[str]:
    """What the module imports although it stands below or to the right."""
    unit = unit_of(name)
    for imported, line in imports_of(tree):
        other = unit_of(imported)
        if other != unit and other in TREE[TREE.index(unit) :]:
            yield f"{name}:{line} imports {imported}"


def misplaced(name: str, tree: ast.Module) -> Iterator[str]:
    """Imports that are not plain lines at the top of a module."""
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in top:
            yield f"{name}:{node.lineno} imports inside a block"
        if isinstance(node, ast.ImportFrom) and (
            node.level or any(alias.name == "*" for alias in node.names)
        ):
            yield f"{name}:{node.lineno} imports relatively or everything"
        if isinstance(node, ast.Name | ast.Attribute) and "TYPE_CHECKING" in (
            getattr(node, "id", ""),
            getattr(node, "attr", ""),
        ):
            yield f"{name}:{node.lineno} uses TYPE_CHECKING"


def is_pure(name: str) -> bool:
    if name in PURE_IN_HOMESERVER:
        return True
    return name.startswith("federation") and not name.startswith("federation.wire")


def impurities(name: str, tree: ast.AST) -> Iterator[str]:
    """What a pure module does that reaches outside."""
    third = PURE_THIRD if name.startswith("federation") else PURE_THIRD_IN_HOMESERVER
    for imported, line in imports_of(tree):
        root = imported.partition(".")[0]
        pure = (
            is_pure(imported)
            if is_ours(imported)
            else imported in third
            or imported in PURE_STANDARD
            or (root in PURE_STANDARD and root != "urllib")
        )
        if not pure:
            yield f"{name}:{line} imports {imported}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in IMPURE_BUILTINS:
            yield f"{name}:{node.lineno} uses {node.id}"
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield f"{name}:{node.lineno} awaits"


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """A path back to its beginning, for each module that is on one."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
        elif name not in done:
            for other in sorted(graph.get(name, ())):
                yield from walk(other, [*path, name])
            done.add(name)

    for name in sorted(graph):
        yield from walk(name, [])


# ── our code ────────────────────────────────────────────────────────────────────────


def test_every_module_has_its_place_in_the_tree() -> None:
    placed = {*TREE, "federation", "homeserver"}
    assert {name for name in MODULES if unit_of(name) not in placed} == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_stands_above_it(name: str) -> None:
    assert [*out_of_order(name, parse(name))] == []


@pytest.mark.parametrize("name", MODULES)
def test_imports_stand_at_the_top(name: str) -> None:
    assert [*misplaced(name, parse(name))] == []


def test_no_imports_go_in_a_circle() -> None:
    graph = {
        name: {
            imported
            for imported, _ in imports_of(parse(name))
            if imported in MODULES and imported != name
        }
        for name in MODULES
    }
    assert [*circles(graph)] == []


@pytest.mark.parametrize("name", [name for name in MODULES if is_pure(name)])
def test_what_is_pure_reaches_nothing_outside(name: str) -> None:
    assert [*impurities(name, parse(name))] == []


def test_the_table_of_pure_modules_is_true() -> None:
    assert PURE_IN_HOMESERVER - MODULES.keys() == set()


def test_files_stay_short() -> None:
    files = [
        path
        for folder in ("federation", "homeserver", "schema", "tests")
        for pattern in ("*.py", "*.sql")
        for path in (ROOT / folder).rglob(pattern)
        if path.name != "tables.sql"  # the whole schema, one table after the other
    ]
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


# ── the checks themselves ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "line", "wrong"),
    [
        ("federation.pdu", "from federation.wire import client", True),
        ("federation.pdu", "from federation.wire.client import send", True),
        ("federation.pdu", "import homeserver.db", True),
        ("federation.ids", "from federation import canonical_json", True),
        ("federation.canonical_json", "from federation import ids", False),
        ("homeserver.rooms.send", "from homeserver.sync import v2", True),
        ("homeserver.rooms.send", "def f():\n    import homeserver.sync", True),
        ("homeserver.rooms.send", "from homeserver.rooms import build", False),
        ("homeserver.rooms.send", "from federation.wire import client", False),
        ("homeserver.rooms.send", "import asyncio, re", False),
        ("homeserver.app", "from homeserver import sync", False),
        ("homeserver.db", "from homeserver import app", True),
    ],
)
def test_the_order_is_noticed(name: str, line: str, *, wrong: bool) -> None:
    assert bool([*out_of_order(name, ast.parse(line))]) == wrong


@pytest.mark.parametrize(
    "line",
    [
        "def f():\n    import re",
        "if True:\n    import re",
        "from . import pdu",
        "from re import *",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass",
        "import typing\nif typing.TYPE_CHECKING:\n    pass",
    ],
)
def test_a_misplaced_import_is_noticed(line: str) -> None:
    assert [*misplaced("federation.pdu", ast.parse(line))]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("import os", True),
        ("import socket", True),
        ("import time", True),
        ("from urllib.request import urlopen", True),
        ("import urllib", True),
        ("import nacl.utils", True),
        ("import msgspec", True),
        ("from federation.wire import client", True),
        ("from homeserver import errors", False),
        ("open('x')", True),
        ("async def f(): pass", True),
        ("import re, json\nfrom urllib.parse import quote\nimport orjson", False),
        ("from federation.ids import UserId", False),
    ],
)
def test_an_impurity_is_noticed(line: str, *, wrong: bool) -> None:
    assert bool([*impurities("federation.pdu", ast.parse(line))]) == wrong


def test_a_circle_is_noticed() -> None:
    assert [*circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})] == [
        ["b", "c", "b"]
    ]
    assert [*circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})] == []


def test_the_pure_names_are_of_the_standard_library() -> None:
    roots = {name.partition(".")[0] for name in PURE_STANDARD}
    assert roots <= sys.stdlib_module_names
