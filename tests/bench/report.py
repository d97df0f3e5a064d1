"""The table that a run prints."""

import statistics
from collections.abc import Iterable
from typing import Final

from rich.table import Table

from tests.bench.rows import Figure, title_of

# row -> kind -> one list of figures for each round
Results = dict[str, dict[str, list[list[Figure]]]]

WANTED: Final = 3.0


def medians(rounds: Iterable[list[Figure]]) -> dict[str, tuple[Figure, float]]:
    """Each figure of a row with its median over the rounds."""
    values: dict[str, list[float]] = {}
    figures: dict[str, Figure] = {}
    for figure in (figure for one in rounds for figure in one):
        values.setdefault(figure.name, []).append(figure.value)
        figures[figure.name] = figure
    return {
        name: (figure, statistics.median(values[name]))
        for name, figure in figures.items()
    }


def times_better(figure: Figure, ours: float, theirs: float) -> float:
    """How many times better ours is; below 1 it is worse."""
    if figure.more_is_better:
        return ours / theirs if theirs else float("inf")
    return theirs / ours if ours else float("inf")


def table(results: Results, kinds: list[str]) -> Table:
    """One line for each figure; with both servers, how many times better we are."""
    compared = len(kinds) == 2
    made = Table(title="medians of all rounds")
    made.add_column("row")
    made.add_column("figure")
    for kind in kinds:
        made.add_column(kind, justify="right")
    if compared:
        made.add_column("times better", justify="right")
    for row, by_kind in results.items():
        by_figure = {kind: medians(by_kind[kind]) for kind in kinds if kind in by_kind}
        names = dict.fromkeys(name for m in by_figure.values() for name in m)
        for n, name in enumerate(names):
            cells = [row if n == 0 else "", name]
            cells += [_cell(by_figure.get(kind, {}).get(name)) for kind in kinds]
            if compared:
                cells.append(
                    _verdict(name, [by_figure.get(kind, {}) for kind in kinds])
                )
            made.add_row(*cells, end_section=n == len(names) - 1)
    made.caption = "\n".join(f"{row}: {title_of(row)}" for row in results)
    return made


def _cell(value: tuple[Figure, float] | None) -> str:
    if value is None:
        return "-"
    figure, median = value
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f"{median:,.{digits}f} {figure.unit}"


def _verdict(name: str, columns: list[dict[str, tuple[Figure, float]]]) -> str:
    if not all(name in column for column in columns):
        return "-"
    (figure, ours), (_, theirs) = (column[name] for column in columns)
    times = times_better(figure, ours, theirs)
    if not figure.judged:
        return f"[dim]{times:.1f}[/dim]"
    colour = "green" if times >= WANTED else "yellow" if times >= 1 else "red"
    return f"[{colour}]{times:.1f}[/{colour}]"


def as_json(results: Results) -> dict[str, object]:
    """The same for machines, every round with every figure."""
    return {
        row: {
            kind: {
                name: {
                    "median": median,
                    "unit": figure.unit,
                    "rounds": [
                        f.value for one in rounds for f in one if f.name == name
                    ],
                }
                for name, (figure, median) in medians(rounds).items()
            }
            for kind, rounds in by_kind.items()
        }
        for row, by_kind in results.items()
    }
