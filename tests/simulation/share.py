"""Shares seeds out to processes, whose hashes of strings are the same every time."""

import asyncio
import os
import sys
from collections.abc import Sequence

from tests.support.homeserver import repository


async def share_out(
    dsn: str,
    template: str,
    seeds: Sequence[int],
    jobs: int,
    more: Sequence[str] | None = None,
) -> list[str]:
    """Run the seeds in so many processes; what failed, with how to see it again.

    `dsn` is the server's database `postgres`, `template` one that has the schema.
    """
    return [
        failure
        for failures in await asyncio.gather(
            *(
                _work(
                    dsn, template, seeds[job::jobs], [*(more or ()), f"--name=w{job}"]
                )
                for job in range(jobs)
                if seeds[job::jobs]
            )
        )
        for failure in failures
    ]


async def _work(
    dsn: str, template: str, seeds: Sequence[int], more: Sequence[str]
) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.simulation.worker",
        *more,
        dsn,
        template,
        *map(str, seeds),
        cwd=repository(),
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    text = out.decode()
    if process.returncode not in (0, 1):
        return [f"a worker ended with {process.returncode}\n{text}"]
    return [text] if text else []
