"""Seeds: which runs belong together, and what is said of their scores."""

from __future__ import annotations

import contextlib
import io
import statistics
from dataclasses import replace

import pytest
from rich.console import Console

from pipeline.evaluation.table import Column, Line, Table
from pipeline.report import page, results, seeds, shown_tables, summary, tables, terminal
from pipeline.report.results import Results, RunResult

from .experiments import Experiment

TWINS = {"sigma_mlp": (0.75, 0.5), "sigma_mlp_s1": (0.25, 0.5), "sigma_mlp_s2": (0.125, 1.0)}


def reseeded(run: RunResult, name: str, seed: int) -> RunResult:
    """The run with another seed; its scores are those of TWINS."""
    trainer = run.settings.trainer.model_copy(update={"seed": seed})
    scores = [s.model_copy(update={"top1": TWINS[name][k]}) for k, s in enumerate(run.scores)]
    settings = run.settings.model_copy(update={"trainer": trainer})
    return replace(run, name=name, settings=settings, scores=tuple(scores))


@pytest.fixture
def several(experiment: Experiment) -> Results:
    """Three seeds of SIGMA, and one of each other run."""
    with contextlib.chdir(experiment.folder):
        found = results.read(experiment.params)
    first, *others = found.runs
    twins = [reseeded(first, name, seed) for seed, name in enumerate(TWINS)]
    return replace(found, runs=(*twins, *others))


def test_runs_are_grouped_by_settings_not_by_name(several: Results) -> None:
    """Catches seeds told by names, and runs with other settings averaged together."""
    assert [group.names for group in seeds.seed_groups(several.runs)] == [
        tuple(TWINS),
        ("pixel",),
        ("random",),
    ]
    objective = several.runs[1].settings.objective
    changed = objective.model_copy(update={"loss": replace(objective.loss, temperature=0.5)})
    settings = several.runs[1].settings.model_copy(update={"objective": changed})
    runs = (several.runs[0], replace(several.runs[1], settings=settings))
    assert [group.names for group in seeds.seed_groups(runs)] == [("sigma_mlp",), ("sigma_mlp_s1",)]
    renamed = [replace(run, name=name) for run, name in zip(several.runs, "abc", strict=False)]
    assert [len(group.runs) for group in seeds.seed_groups(renamed)] == [3]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("sigma_s0", "sigma_s1"), "sigma"),
        (("sigma-seed10", "sigma-seed11"), "sigma"),
        (("sigma", "sigma_again"), "sigma"),
        (("bus1", "bus2"), "bus"),
        (("left", "right"), "left"),
    ],
)
def test_a_group_goes_by_what_its_names_share(
    several: Results, names: tuple[str, str], expected: str
) -> None:
    """Catches a group called `sigma_s`, and one without a name."""
    runs = [replace(run, name=name) for run, name in zip(several.runs, names, strict=False)]
    assert [group.name for group in seeds.seed_groups(runs)] == [expected]


def test_a_group_never_takes_the_name_of_another_run(several: Results) -> None:
    """Catches two rows of one name."""
    names = ("a_s0", "a_s1", "a_s2", "a", "b")
    runs = [replace(run, name=name) for run, name in zip(several.runs, names, strict=True)]
    assert [group.name for group in seeds.seed_groups(runs)] == ["a_s0", "a", "b"]


def test_mean_deviation_and_gain_are_those_of_the_seeds(several: Results) -> None:
    """Catches the deviation of a population, a gain over one seed, and a marked worst."""
    table, _on_val = tables.score_tables(several)
    rows = {r.group.name: r.cells for r in seeds.group_rows(table, seeds.seed_groups(several.runs))}
    linear = rows["sigma_mlp"][0]
    values = [linear_ for linear_, _ in TWINS.values()]
    assert linear is not None
    assert linear.top1.mean == pytest.approx(statistics.fmean(values))
    assert linear.top1.std == pytest.approx(statistics.stdev(values))
    assert (linear.top1.n, linear.interval) == (3, None)
    assert linear.gain == pytest.approx(statistics.fmean(values) - 0.25)
    pixel = rows["pixel"][0]
    assert pixel is not None
    assert not pixel.best  # three seeds reach farther than the distance
    assert not linear.best
    assert (pixel.top1.std, pixel.gain) == (None, 0.25)
    assert pixel.interval == table.rows[3].scores[0].interval  # type: ignore[union-attr]


def test_page_and_paragraph_tell_seeds(several: Results, experiment: Experiment) -> None:
    """Catches a spread that only the code knows, and seeds counted as runs of their own."""
    with contextlib.chdir(experiment.folder):
        html = page.render(several, page.Pictures()).page
    shown = html.split('<section id="runs"')[1].split("</section>")[0]
    assert "mean of 3 seeds (0, 1, 2)" in shown
    assert "± 33.1" in shown  # of 75, 25 and 12.5
    assert "each of the 5 runs" in shown
    said = summary.paragraph(several)
    assert "Four video encoders" in said
    assert "with it; seeds 0, 1 and 2)" in said
    assert "pixel is highest by the linear probe: 50.0% right" in said
    assert "No difference to sigma_mlp is shown (t-test over seeds" in said


def test_what_training_made_worse_is_said(several: Results) -> None:
    """Catches a report that only tells of successes."""
    worse = replace(several, runs=(several.runs[2], *several.runs[3:]))  # 12.5 % beside 25 %
    assert "Below the untrained encoder, in points: sigma_mlp_s2 by 12.5" in summary.paragraph(
        worse
    )


def test_terminal_shows_means(several: Results) -> None:
    """Catches seeds that the table of the terminal leaves to mental arithmetic."""
    text = io.StringIO()
    terminal.show(several, Console(file=text, width=110, highlight=False))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert "sigma_mlp, 3 seeds 37.5±33.1 87.5±0.0 66.7±28.9 87.5±0.0 80 of 85" in lines


def test_benchmarks_are_averaged_too(several: Results) -> None:
    """Catches a mean over None, and a line that is lost."""
    columns = (Column("", "a"), Column("", "b", is_error=True))
    values = {"sigma_mlp": (10.0, None), "sigma_mlp_s1": (20.0, 0.5), "sigma_mlp_s2": (30.0, 0.7)}
    values |= {"pixel": (1.0, 2.0), "random": (None, None)}
    lines = tuple(Line(name, both, "3 of 4") for name, both in values.items())
    table = Table("t", "t", "%", "", columns, lines)
    first, *others = shown_tables.over_seeds(table, seeds.seed_groups(several.runs)).runs
    assert first.values == (20.0, pytest.approx(0.6))
    assert first.deviations == (10.0, pytest.approx(statistics.stdev([0.5, 0.7])))
    assert (first.seeds, first.scored) == (3, "3 of 4")
    assert [line.values for line in others] == [(1.0, 2.0), (None, None)]
