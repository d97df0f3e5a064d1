"""The disk is full: what cannot be kept is refused, and all goes on when there is room.

A small file system of its own needs the rights to mount one.
"""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import place
from tests.faults.fleet import Fleet
from tests.faults.load import load
from tests.support.media import V3, fetch, noise

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif("HEARTH_SOAK" not in os.environ, reason="in `make soak`"),
]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hearth-full-", dir=place()) as made:
        disk = Path(made) / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=220m,mode=711", "none", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
            pytest.skip("may not mount a file system")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(file: Path) -> None:
    """Leave no byte."""
    with file.open("ab", buffering=0) as ballast:
        for piece in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    ballast.write(bytes(piece))
            except OSError:
                continue


async def test_a_full_disk_loses_nothing_and_passes(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with Fleet(small_disk, 1, "") as fleet, load(fleet, talkers=3) as people:
        uploader = await fleet.registers("uploader")
        said = len(fleet.logs())
        fill(ballast)
        while "the database fails" not in fleet.logs()[said:]:
            await asyncio.sleep(0.05)
            if ballast.stat().st_size and os.statvfs(small_disk).f_bavail:
                fill(ballast)  # PostgreSQL gave something back
        got = await fetch(uploader, f"{V3}/upload", method="POST", data=noise(500_000))
        assert got.status >= 500
        assert fleet[0].child.is_running
        ballast.unlink()
        await people.goes_on()
        uploaded = await fetch(
            uploader, f"{V3}/upload", method="POST", data=noise(500_000)
        )
        assert uploaded.status == 200
        left = [
            f for f in (small_disk / "process0/data/media").rglob("*") if f.is_file()
        ]
        assert len(left) == 1, "a half of a file"
        fleet.assert_said("the database answers again")
