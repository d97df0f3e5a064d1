"""The bench's report is green only where what an issue asks for is reached."""

import io

import pytest
from rich.console import Console

from tests.bench.__main__ import ROWS
from tests.bench.report import Results, colour_of, table
from tests.bench.rows import Figure
from tests.bench.targets import TARGETS, Target, target_of

FAST = Figure("rate", 0, "/s", more_is_better=True)
SMALL = Figure("CPU", 0, "ms")


@pytest.mark.parametrize(
    ("target", "figure", "times", "ours", "colour"),
    [
        (Target(20), FAST, 20.0, 2000.0, "green"),
        (Target(20), FAST, 19.9, 2000.0, "yellow"),
        (Target(20), FAST, 0.9, 2000.0, "red"),
        (Target(20), FAST, None, 2000.0, None),
        (Target(bound=1.7), FAST, None, 1.7, "green"),
        (Target(bound=1.7), FAST, None, 1.6, "red"),
        (Target(3, bound=0.5), SMALL, 25.0, 0.4, "green"),
        (Target(3, bound=0.5), SMALL, 25.0, 0.6, "red"),
        (Target(3, bound=0.5), SMALL, 2.0, 0.4, "yellow"),
        (Target(3, bound=0.5), SMALL, None, 0.4, "green"),
    ],
)
def test_a_figure_is_green_when_all_that_is_asked_is_reached(
    target: Target,
    figure: Figure,
    times: float | None,
    ours: float | None,
    colour: str | None,
) -> None:
    assert colour_of(target, figure, times, ours) == colour


def test_every_target_is_of_a_row() -> None:
    assert TARGETS.keys() <= ROWS.keys()


def test_a_figure_has_its_own_target_or_its_rows_or_the_usual_one() -> None:
    assert target_of("send_one_room", "rate").times == 20
    assert target_of("send_one_room", "p50").times == 3
    assert target_of("fan_out", "p50").times == 10
    assert target_of("no such row", "p50").times == 3


def test_the_table_tells_what_was_measured_and_what_is_asked() -> None:
    ours = [Figure("rate", 1500, "/s", more_is_better=True)]
    theirs = [Figure("rate", 100, "/s", more_is_better=True)]
    results: Results = {"send_one_room": {"hearth": [ours], "synapse": [theirs]}}
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(table(results, ["hearth", "synapse"]))
    said = console.export_text()
    for text in ("1,500 /s", "100 /s", "15.0", "20 times"):
        assert text in said
