"""Runs seeds one after another in virtual time; `share` starts it."""

import time

from tests.simulation import virtual

_now = time.monotonic
virtual.install()

import argparse  # noqa: E402 - the clocks had to be replaced before
import asyncio  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import asyncpg  # noqa: E402
import structlog  # noqa: E402

from tests.simulation import nodes, story  # noqa: E402

connect = virtual.in_order(asyncpg.connect, waits_for_locks=False)


async def _seed(options: argparse.Namespace, seed: int) -> story.Story:
    virtual.course.begin(seed)
    count = virtual.course.dice.choice([2, 3, 3, 4])
    administrator = await connect(options.dsn)
    run = virtual.in_order(administrator.execute, waits_for_locks=False)
    dsns = []
    try:
        for number in range(count):
            name = f"sim_{options.name}_{number}"
            await run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await run(
                f"CREATE DATABASE {name} TEMPLATE {options.template} STRATEGY file_copy"
            )
            dsns.append(options.dsn.replace("@/postgres?", f"@/{name}?"))
        with tempfile.TemporaryDirectory() as directory:
            return await story.tell(dsns, Path(directory), is_hard=options.hard)
    finally:
        administrator.terminate()


def _run(options: argparse.Namespace, seed: int) -> str | None:
    """What went wrong with a seed, and the command that shows it again."""
    again = f"replay: python -m tests.simulation --seeds {seed}"
    again += " --hard" if options.hard else ""
    started = _now()
    loop = virtual.Loop()
    asyncio.set_event_loop(loop)
    try:
        told = loop.run_until_complete(_seed(options, seed))
    except Exception:  # noqa: BLE001 - whatever it is, the seed has failed
        return f"seed {seed} failed\n{traceback.format_exc()}\n{again}\n"
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    if options.story:
        sys.stderr.write("\n".join(told.log) + f"\n{_now() - started:.2f} s\n")
    return None


def _add_time(_logger: Any, _name: str, entry: Any) -> Any:
    return {**entry, "time": f"{virtual.course.elapsed:9.3f}"}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="w0")
    parser.add_argument("--log", action="store_true")
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("dsn")
    parser.add_argument("template")
    parser.add_argument("seeds", nargs="+", type=int)
    options = parser.parse_args()
    level = logging.DEBUG if options.log else logging.CRITICAL
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_time,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["time", "at", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.getLogger("asyncio").setLevel(level)
    virtual.order_the_database()
    nodes.prepare()
    failed = 0
    for seed in options.seeds:
        failure = _run(options, seed)
        if failure is not None:
            failed = 1
            sys.stdout.write(failure)
            sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main())
