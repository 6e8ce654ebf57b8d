"""What varies between trials: columns beside their scores, and charts."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from pipeline.configuration.schema import Sweep, Trial
from pipeline.report import page, results, several, shown_tables, terminal, trials
from pipeline.report.results import Results

from .experiments import Experiment, Page

TOP1 = (0.25, 0.5, 0.75, 0.5)


def swept(experiment: Experiment, values: list[Mapping[str, Any]]) -> Results:
    """The first run in a trial for each of `values`, and the untrained run; scored on val."""
    with contextlib.chdir(experiment.folder):
        found = results.read(experiment.params)
    first, untrained = found.runs[0], found.runs[-1]
    runs = []
    for number, (trial, top1) in enumerate(zip(values, TOP1, strict=False)):
        trainer = first.settings.trainer.model_copy(
            update={
                "seed": trial.get("seed", 0),
                "warmup_epochs": trial["rate"] if "seed" in trial else number,
            }
        )
        scores = (first.scores[0].model_copy(update={"top1": top1, "split": "val"}),)
        settings = first.settings.model_copy(update={"trainer": trainer})
        runs.append(
            replace(first, name=f"t{number}", settings=settings, scores=scores, validation=())
        )
    base = untrained.scores[0].model_copy(update={"split": "val"})
    runs.append(replace(untrained, scores=(base,), validation=()))
    keys = {name: f"trainer.{name}" for name in values[0]}
    named = {f"t{n}": Trial(run="sigma_mlp", values=dict(v)) for n, v in enumerate(values)}
    sweep = Sweep(keys=keys, overrides=(), trials=named)
    params = found.params.model_copy(update={"sweep": sweep})
    return replace(found, params=params, runs=tuple(runs))


def test_columns_say_what_varies(experiment: Experiment) -> None:
    """Catches values beside another trial's score, and a seed where a row has several."""
    values = [{"rate": r, "seed": s} for r in (1, 2) for s in (0, 1)]
    (shown,) = shown_tables.of_scores(swept(experiment, values))
    assert [column.title for column in shown.grouped.columns][:2] == ["rate", "top-1"]
    cells = [[cell.text for cell in shown.grouped.cells(x)][:2] for x in shown.grouped.runs]
    assert cells == [["1", "37.5"], ["2", "62.5"], ["", "25.0"]]
    assert [column.title for column in shown.single.columns][:3] == ["rate", "seed", "top-1"]
    assert all(
        len(shown.grouped.cells(line)) == len(shown.grouped.columns)
        for line in (*shown.grouped.runs, *shown.grouped.others)
    )


def test_the_terminal_shows_trials_of_several_seeds(experiment: Experiment) -> None:
    """Catches a table whose rows of single seeds have more cells than it has columns."""
    found = swept(experiment, [{"rate": r, "seed": s} for r in (1, 2) for s in (0, 1)])
    text = io.StringIO()
    terminal.show(found, Console(file=text, width=110, highlight=False))
    rows = [line.split() for line in text.getvalue().splitlines()]
    (head, *_) = (number for number, row in enumerate(rows) if row[:2] == ["run", "rate"])
    below = rows[head:]
    trials_of_scores = [row for row in below if row[:1] in (["t0"], ["t1"], ["t2"], ["t3"])][:4]
    assert [row[1] for row in trials_of_scores] == list("1122")


@pytest.mark.parametrize(
    ("values", "kind", "traces"),
    [
        ([{"rate": 1}, {"rate": 2}], "scatter", 2),  # the trials' and the untrained encoder's
        ([{"rate": r, "width": w} for r in (1, 2) for w in (8, 16)], "heatmap", 1),
        ([{"mask": "tube"}, {"mask": "blocks"}], "scatter", 2),
    ],
)
def test_charts_are_of_the_scores(
    experiment: Experiment, values: list[Mapping[str, Any]], kind: str, traces: int
) -> None:
    """Catches a curve over words, a map of one key, and scores at the wrong place."""
    found = swept(experiment, values)
    (figure,) = trials.figures(found)
    drawn = json.loads(figure.json)["data"]
    assert [trace["type"] for trace in drawn] == [kind] * traces
    assert [row[-3] for row in figure.rows] == [f"{100 * t:.1f}" for t in TOP1[: len(values)]]
    with contextlib.chdir(experiment.folder):
        html = page.render(found, page.Pictures()).page
    assert "trials" in {element.attributes.get("id") for element in Page(html).elements}
    assert found.params.sweep is not None
    assert f"sigma_mlp {len(values)}" in trials.counts(found.params.sweep)


def test_experiments_of_several_folders_share_a_table(experiment: Experiment) -> None:
    """Catches scores under another experiment's name, and one encoder shown twice."""
    with contextlib.chdir(experiment.folder):
        first = several.read(experiment.params.name)
    settings = {**first.settings, "data.clip.stride": 99}
    runs = tuple(
        replace(run, name=run.name.replace("@", "@other_"), scores=run.scores[:1])
        for run in first.runs
    )
    other = several.Scored(first.params, settings, runs)
    shown = several.tables([first, other])[0]
    assert shown.grouped.columns[0].title == "stride"
    names = [line.name for line in shown.grouped.runs]
    assert names == [run.name for run in (*first.runs, *runs)]
    again = several.Scored(first.params, first.settings, first.runs)
    assert [line.name for line in several.tables([first, again])[0].grouped.runs] == names[:3]
