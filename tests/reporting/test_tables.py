"""Scores side by side: best, gain over no training, intervals; and the terminal's table."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.reporting import results, summary, tables, terminal
from pipeline.reporting.results import Results, Score

from .experiments import SKIPPED, TOP1, Experiment


@pytest.fixture
def found(experiment: Experiment) -> Results:
    with contextlib.chdir(experiment.folder):
        return results.read(experiment.params)


def with_top1(found: Results, values: dict[str, float | None]) -> Results:
    """The same runs with these scores of one probe; None: the probe was skipped."""
    runs = []
    for run in found.runs:
        top1 = values[run.name]
        scores = [run.scores[0].model_copy(update={"top1": top1})] if top1 is not None else []
        runs.append(replace(run, scores=tuple(scores)))
    return replace(found, runs=tuple(runs))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_the_published_ones(right: int, n: int, low: float, high: float) -> None:
    """Catches a wrong formula: Newcombe 1998, "Two-sided confidence intervals", table I."""
    assert tables.wilson(right / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    """Catches intervals outside 0..1, or beside the score that they belong to."""
    right, n = counts
    low, high = tables.wilson(right / n, n)
    assert 0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1


def test_best_and_gain(found: Results) -> None:
    """Catches a best of the wrong column, and a gain with the wrong sign or baseline."""
    (table,) = tables.score_tables(found)
    best = {probe: table.best(probe).run.name for probe in table.probes}  # type: ignore[union-attr]
    assert best == {"linear": "sigma_mlp", "knn": "pixel"}
    gains = {row.run.name: [cell.gain for cell in row.cells if cell] for row in table.rows}
    assert gains == {"sigma_mlp": [0.5, 0.25], "pixel": [0.25, 0.375], "random": [None, None]}


def test_ties_are_all_best_and_said_to_be_level(found: Results) -> None:
    """Catches a winner that is one only by its place in the list."""
    level = with_top1(found, {"sigma_mlp": 0.5, "pixel": 0.5, "random": 0.25})
    (table,) = tables.score_tables(level)
    assert [cell.best1 for row in table.rows for cell in row.cells if cell] == [True, True, False]
    assert "sigma_mlp and pixel are level by the linear probe: 50.0%" in summary.paragraph(level)


def test_one_run_without_a_score(found: Results) -> None:
    """Catches a crash, or a shift of the columns, where one run's probe was skipped."""
    some = with_top1(found, {"sigma_mlp": None, "pixel": 0.5, "random": None})
    (table,) = tables.score_tables(some)
    assert [row.cells[0] is None for row in table.rows] == [True, False, True]
    assert table.rows[1].cells[0].gain is None  # type: ignore[union-attr]
    assert printed(some).count("skipped") == 2 + 2  # two cells, two notes


def test_top5_of_few_classes_is_not_shown(found: Results) -> None:
    """Catches a top-5 of five classes: it is 100 % whatever the model."""
    few = tuple(
        replace(run, scores=tuple(s.model_copy(update={"classes": 5}) for s in run.scores))
        for run in found.runs
    )
    assert "top-5" in printed(found)
    assert "top-5" not in printed(replace(found, runs=few))


def printed(found: Results) -> str:
    stream = io.StringIO()
    terminal.show(found, Console(file=stream, width=110, highlight=False))
    return stream.getvalue()


def test_terminal_shows_scores_chance_and_reasons(experiment: Experiment, found: Results) -> None:
    """Catches a table without baseline, chance, marks of the best, reasons or census."""
    lines = [" ".join(line.split()) for line in experiment.printed.splitlines()]
    assert "sigma_mlp 75.0* 87.5* 50.0 87.5* 8 of 10" in lines
    assert "pixel 50.0 87.5* 62.5* 87.5* 8 of 10" in lines
    assert "random (untrained) 25.0 87.5* 25.0 87.5* 8 of 10" in lines
    assert "chance 16.7 83.3 16.7 83.3" in lines
    assert f"skipped: weather, linear probe: {SKIPPED}" in lines
    assert "clips: 13 of 15 ok, 2 lost: corrupt 1, missing 1" in lines


def test_markup_in_a_reason_is_printed_as_it_is(found: Results) -> None:
    """Catches rich reading `[red]` of a file as a command."""
    note = found.runs[0].skipped[0].model_copy(update={"reason": "[red]column[/red] [bold"})
    runs = tuple(replace(run, skipped=(note,)) for run in found.runs)
    assert "[red]column[/red] [bold" in printed(replace(found, runs=runs))


@given(
    st.dictionaries(
        st.sampled_from(["ok", "missing", "corrupt", "too_short"]), st.integers(1, 9999), min_size=1
    )
)
def test_census_line_accounts_for_every_clip(census: dict[str, int]) -> None:
    """Catches an outcome that the line forgets."""
    numbers = [
        int(w.strip(",:").replace(",", ""))
        for w in terminal.census_line(census).split()
        if w[0].isdigit()
    ]
    good, total = census.get("ok", 0), sum(census.values())
    if good == total:
        assert numbers == [total]
    else:
        assert numbers[:3] == [good, total, total - good]
        assert sum(numbers[3:]) == total - good


def test_every_score_is_in_one_table(found: Results) -> None:
    """Catches labels or splits that fall out when rows are grouped."""
    second = {"label": "digit", "split": "val"}
    runs = []
    for run in found.runs:
        more = tuple(Score.model_validate(s.model_dump() | second) for s in run.scores)
        runs.append(replace(run, scores=run.scores + more))
    shown = tables.score_tables(replace(found, runs=tuple(runs)))
    assert [(table.label, table.split) for table in shown] == [("motion", "test"), ("digit", "val")]
    cells = [cell.score for table in shown for row in table.rows for cell in row.cells if cell]
    assert len(cells) == 2 * 2 * len(TOP1)
