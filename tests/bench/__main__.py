"""`python -m tests.bench`: our speed beside that of Synapse, in alternating rounds.

Both run on one private PostgreSQL that syncs to disk. Only one is up at a time. The
medians of all rounds are printed and every figure is written to `.work/bench.json`.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil
import uvloop
from rich.console import Console

from tests.bench import (
    account_rows,
    client_rows,
    database_rows,
    file_rows,
    join_rows,
    key_rows,
    push_rows,
    remote_rows,
    service_rows,
    speed_rows,
)
from tests.bench.field import KINDS, Contender, Field, write_json
from tests.bench.report import Results, as_json, table
from tests.bench.rows import ROWS, Scale, chosen
from tests.support.synapse import install_synapse

PLACE = Path(".work")

ROWS.update(account_rows.ROWS)
ROWS.update(client_rows.ROWS)
ROWS.update(file_rows.ROWS)
ROWS.update(join_rows.ROWS)
ROWS.update(key_rows.ROWS)
ROWS.update(push_rows.ROWS)
ROWS.update(remote_rows.ROWS)
ROWS.update(service_rows.ROWS)
ROWS.update(speed_rows.ROWS)
ROWS.update(database_rows.ROWS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=KINDS, help="measure one kind of server")
    parser.add_argument("--rows", default=",".join(ROWS), help="which, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=Scale.seconds)
    parser.add_argument("--members", type=int, default=Scale.remote_members)
    parser.add_argument("--rooms", type=int, default=Scale.rooms_of_user)
    parser.add_argument("--json", type=Path, default=Path(".work") / "bench.json")
    return parser.parse_args()


async def run(options: argparse.Namespace, console: Console, place: Path) -> Results:
    kinds = [options.only] if options.only else list(KINDS)
    rows = chosen(options.rows.split(","))
    scale = Scale(options.seconds, options.rooms, options.members)
    results: Results = {row: {} for row in rows}
    async with Field(place.absolute(), kinds) as field:
        console.print(f"PostgreSQL {await field.cluster.version()}, {_machine()}")
        for number in range(options.rounds):
            for contender in field.contenders:
                await contender.server.start()
                try:
                    for row in rows:
                        await _measure(contender, row, scale, results, console)
                finally:
                    await contender.server.stop()
            console.print(f"round {number + 1} of {options.rounds} is done")
    return results


async def _measure(
    contender: Contender, row: str, scale: Scale, results: Results, console: Console
) -> None:
    began = time.monotonic()
    try:
        figures = await ROWS[row](contender, scale)
    except Exception:  # noqa: BLE001 - the other rows are worth having
        console.print_exception(max_frames=4)
        console.print(f"[red]{contender.kind} {row} failed[/red]")
        return
    results[row].setdefault(contender.kind, []).append(figures)
    shown = ", ".join(f"{f.name} {f.value:.4g} {f.unit}" for f in figures)
    took = time.monotonic() - began
    console.print(f"{contender.kind:8} {row:18} {took:5.0f} s  {shown}", soft_wrap=True)


def _machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{psutil.cpu_count()} cores, load {load}"


def main() -> None:
    options = arguments()
    console = Console(stderr=False)
    if options.only != "hearth":
        install_synapse()
    PLACE.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=PLACE))
    place.chmod(0o711)
    try:
        results = uvloop.run(run(options, console, place))
    except ValueError as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    kinds = [options.only] if options.only else list(KINDS)
    console.print(table(results, kinds))
    write_json(options.json, {"machine": _machine(), "rows": as_json(results)})
    console.print(f"every figure is in {options.json}")
    counts = [len(results[row].get(kind, [])) for row in results for kind in kinds]
    if min(counts) < options.rounds:
        sys.exit("some rows failed")


if __name__ == "__main__":
    main()
