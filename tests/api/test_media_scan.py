"""A program may look at every new file before it is kept."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.app import Running
from tests.support.media import V3, downloads, fetch, noise, uploads

SCANNER = """#!/bin/sh
if grep -q EVIL "$2"; then exit 1; fi
if grep -q ODD "$2"; then exit 7; fi
[ "$1" = --look ]
"""


async def test_bad_files_are_not_taken(
    another: Callable[..., Awaitable[Running]], person: Callable, tmp_path: Path
):
    program = tmp_path / "scanner"
    program.write_text(SCANNER)
    program.chmod(0o755)
    server = await another(media={"scan_command": [str(program), "--look"]})
    alice = await person(server)
    data = noise(100_000)
    where = await uploads(alice, data)
    assert (await downloads(alice, where)).body == data
    evil = await fetch(alice, f"{V3}/upload", method="POST", data=b"so EVIL")
    assert evil.refusal == (403, "M_FORBIDDEN")
    odd = await fetch(alice, f"{V3}/upload", method="POST", data=b"ODD")
    assert odd.refusal == (503, "M_UNKNOWN")
    files = (server.ctx.config.data_path / "media").rglob("*")
    assert [path.read_bytes() for path in files if path.is_file()] == [data]


async def test_without_its_program_nothing_is_taken(
    another: Callable[..., Awaitable[Running]], person: Callable
):
    server = await another(media={"scan_command": ["/does/not/exist"]})
    alice = await person(server)
    got = await fetch(alice, f"{V3}/upload", method="POST", data=b"x")
    assert got.refusal == (503, "M_UNKNOWN")
