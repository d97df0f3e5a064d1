"""`python -m tests.simulation --seeds 0-999`: many servers, one process, no real time.

Each seed runs the same every time: the random numbers, the clock and the order of the
database's answers are all its own. The seeds are shared out to a process for each core;
all use one PostgreSQL.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import asyncpg

from homeserver.db.embedded import EmbeddedPostgres
from homeserver.db.migrate import migrate
from tests.conftest import FAST_AND_LOOSE, TEMPLATE, dsn_of, place
from tests.simulation.share import share_out


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


async def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="hearth-sim-", dir=place()) as directory:
        Path(directory).chmod(0o711)
        async with EmbeddedPostgres(
            Path(directory) / "data", settings=FAST_AND_LOOSE, prefer="wheel"
        ) as server:
            dsn = dsn_of(server, "postgres")
            administrator = await asyncpg.connect(dsn)
            await administrator.execute(f"CREATE DATABASE {TEMPLATE}")
            await administrator.close()
            await migrate(dsn_of(server, TEMPLATE))
            failures = await share_out(
                dsn, TEMPLATE, options.seeds, options.jobs, options.more
            )
    for failure in failures:
        sys.stdout.write(failure + "\n")
    return 1 if failures else 0


def main() -> int:
    """Run the seeds; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=_seeds, default="0-99", help="7, or 0-999")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--log",
        dest="more",
        action="append_const",
        const="--log",
        help="show the servers' log",
    )
    parser.add_argument(
        "--story",
        dest="more",
        action="append_const",
        const="--story",
        help="tell what happened, also when all is well",
    )
    parser.add_argument(
        "--hard",
        dest="more",
        action="append_const",
        const="--hard",
        help="doors are closed and redactions redacted, too: one seed in a hundred"
        " still ends with a split room",
    )
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
