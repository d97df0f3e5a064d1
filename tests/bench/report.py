"""The table that a run prints."""

import statistics
from collections.abc import Iterable, Iterator

from rich.table import Table

from tests.bench.rows import Figure, title_of
from tests.bench.targets import Target, target_of

# row -> kind -> one list of figures for each round
Results = dict[str, dict[str, list[list[Figure]]]]
# The median of a figure over the rounds.
Measured = tuple[Figure, float]


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
    """One line for each figure, and whether it reaches what the issues ask for.

    With both servers that is how many times better we are; some figures of ours have a
    bound of their own besides. Green: all of it is reached; yellow: not yet, but no
    worse than the other server; red: worse, or beyond the bound. Dim: nothing is asked.
    """
    compared = len(kinds) == 2
    made = Table(title="medians of all rounds")
    made.add_column("row")
    made.add_column("figure")
    for kind in kinds:
        made.add_column(kind, justify="right")
    if compared:
        made.add_column("times better", justify="right")
    made.add_column("asked", justify="right")
    for row, by_kind in results.items():
        by_figure = {kind: medians(by_kind[kind]) for kind in kinds if kind in by_kind}
        names = dict.fromkeys(name for m in by_figure.values() for name in m)
        for n, name in enumerate(names):
            cells = [row if n == 0 else "", name]
            cells += [_cell(by_figure.get(kind, {}).get(name)) for kind in kinds]
            ours, theirs = (
                by_figure.get(kind, {}).get(name) for kind in ("hearth", "synapse")
            )
            verdict, asked = _verdict(target_of(row, name), ours, theirs)
            cells += [verdict, asked] if compared else [asked]
            made.add_row(*cells, end_section=n == len(names) - 1)
    made.caption = "\n".join(f"{row}: {title_of(row)}" for row in results)
    return made


def _cell(value: tuple[Figure, float] | None) -> str:
    if value is None:
        return "-"
    figure, median = value
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f"{median:,.{digits}f} {figure.unit}"


def _verdict(
    target: Target, ours: Measured | None, theirs: Measured | None
) -> tuple[str, str]:
    """How many times better, and what is asked; both in their colour."""
    known = ours or theirs
    if known is None:
        return "-", "-"
    figure = known[0]
    times = times_better(figure, ours[1], theirs[1]) if ours and theirs else None
    shown = "-" if times is None else f"{times:.1f}"
    if not figure.judged:
        return f"[dim]{shown}[/dim]", "-"
    asked = ", ".join(_asked(target, figure))
    colour = colour_of(target, figure, times, ours[1] if ours else None)
    if colour is None:
        return shown, asked
    return f"[{colour}]{shown}[/{colour}]", f"[{colour}]{asked}[/{colour}]"


def _asked(target: Target, figure: Figure) -> Iterator[str]:
    if target.times is not None:
        yield f"{target.times:g} times"
    if target.bound is not None:
        sign = "≥" if figure.more_is_better else "≤"
        yield f"{sign} {target.bound:g} {figure.unit}".rstrip()


def colour_of(
    target: Target, figure: Figure, times: float | None, ours: float | None
) -> str | None:
    """What the report shows of a figure; None when nothing can be said yet."""
    is_past = is_slower = is_short = False
    if target.bound is not None and ours is not None:
        worse = ours < target.bound if figure.more_is_better else ours > target.bound
        is_past = worse
    elif times is None or target.times is None:
        return None
    if target.times is not None and times is not None:
        is_slower = times < 1
        is_short = times < target.times
    if is_past or is_slower:
        return "red"
    return "yellow" if is_short else "green"


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
