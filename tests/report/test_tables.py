"""Scores side by side: best, gain over no training, intervals; and the terminal's table."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.configuration import stages
from pipeline.configuration.composition import compose, parse
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report import (
    comparison,
    formats,
    remarks,
    results,
    seeds,
    summary,
    tables,
    terminal,
)
from pipeline.report.results import Results, RunResult, Score
from pipeline.report.summary import paragraph

from .experiments import SCORED, SKIPPED, TOP1, Experiment


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
        runs.append(replace(run, scores=tuple(scores), validation=()))
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
    assert comparison.wilson(right / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    """Catches intervals outside 0..1, or beside the score that they belong to."""
    right, n = counts
    low, high = comparison.wilson(right / n, n)
    assert 0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1


def rows(found: Results) -> dict[str, list[seeds.GroupCell | None]]:
    """The cells of the first table, by run."""
    table = tables.score_tables(found)[0]
    groups = seeds.single_groups(found.runs)
    return {row.group.name: list(row.cells) for row in seeds.group_rows(table, groups)}


def test_best_and_gain(found: Results) -> None:
    """Catches a best of the wrong column, and a gain with the wrong sign or baseline."""
    cells = {name: [cell for cell in row if cell] for name, row in rows(found).items()}
    best = [[name for name, row in cells.items() if row[place].best] for place in range(2)]
    assert best == [["sigma_mlp"], ["pixel"]]
    gains = {name: [cell.gain for cell in row] for name, row in cells.items()}
    assert gains == {"sigma_mlp": [0.5, 0.25], "pixel": [0.25, 0.375], "random": [None, None]}


def test_ties_are_said_to_be_level_and_nobody_is_best(found: Results) -> None:
    """Catches a winner that is one only by its place in the list."""
    level = with_top1(found, {"sigma_mlp": 0.5, "pixel": 0.5, "random": 0.25})
    assert [cell.best for row in rows(level).values() for cell in row if cell] == [False] * 3
    assert "sigma_mlp and pixel are level by the linear probe: 50.0%" in summary.paragraph(level)


def answering(found: Results, right: dict[str, int]) -> Results:
    """The same runs by the linear probe alone; of the first clips so many are right."""
    changed = with_top1(found, {name: count / SCORED for name, count in right.items()})
    runs = []
    for run in changed.runs:
        answers = {str(clip): clip < right[run.name] for clip in range(SCORED)}
        runs.append(replace(run, right={("motion", "linear"): answers}))
    return replace(changed, runs=tuple(runs))


@pytest.mark.parametrize(
    ("right", "shown"),
    [
        ({"sigma_mlp": 31, "pixel": 30, "random": 20}, False),  # beside pixel it is not
        ({"sigma_mlp": 25, "pixel": 20, "random": 20}, False),  # 5 to 0: p = 0.06
        ({"sigma_mlp": 26, "pixel": 20, "random": 20}, True),  # 6 to 0: p = 0.03
    ],
)
def test_who_does_best_is_said_where_a_test_shows_it(
    found: Results, right: dict[str, int], shown: bool
) -> None:
    """Catches a difference within its noise that is stated as a result."""
    changed = answering(found, right)
    said, text = summary.paragraph(changed), printed(changed)
    best = [cell.best for row in rows(changed).values() for cell in row if cell]
    assert best == [shown, False, False]
    assert ("does best" in said) == shown == ("Better than every other run" in text)
    assert ("No difference to" in said) == (not shown) == ("No difference of the highest" in text)
    assert "exact McNemar test" in said
    assert "commonest class 25.0%" in said


@pytest.mark.parametrize("damage", ["gone", "not text", "other columns"])
def test_without_the_answers_nobody_is_said_to_be_best(
    experiment: Experiment, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a claim without a test where predictions.csv is not there or not readable."""
    for part in ("data", "results"):
        shutil.copytree(experiment.folder / part, tmp_path / part)
    monkeypatch.chdir(tmp_path)
    for run in experiment.params.runs:
        path = experiment.layout.run(run).predictions
        path.unlink()
        if damage != "gone":
            path.write_bytes(b"\xff\x00label" if damage == "not text" else b"label,id\na,b\n")
    text = printed(results.read(experiment.params))
    assert "Whether the highest is so by more than chance was not tested: linear probe" in text
    assert "*" not in text.replace("(* ", "")


def test_one_answer_for_every_clip_is_not_a_result(found: Results) -> None:
    """Catches the commonest class, answered whatever the clip, in a table as if it were a score."""
    same = with_top1(found, {"sigma_mlp": 0.25, "pixel": 0.3, "random": 0.9})
    first = same.runs[0].scores[0].model_copy(update={"constant": "left"})
    same = replace(same, runs=(replace(same.runs[0], scores=(first,)), *same.runs[1:]))
    text = printed(same)
    assert "One answer to every clip: linear probe (sigma_mlp “left”)." in text
    assert "Not shown to be above the commonest class (25.0%): linear probe (pixel)." in text
    assert "commonest class" in text.split("One answer")[0]  # a row of the table


def test_what_the_logs_tell_of_a_run_that_learned_nothing_is_said(found: Results) -> None:
    """Catches a training that came to nothing, told by its curves alone; and one blamed for less
    (the loss of hundreds of prototypes is far above 1)."""

    def ended(sigma: float, pixel: float, rankme: float) -> tuple[RunResult, ...]:
        lines = {"sigma_mlp": {"step": 9, "loss": sigma}, "pixel": {"step": 9, "loss": pixel}}
        return tuple(
            replace(run, metrics=({**lines[run.name], "rankme": rankme},)) for run in found.trained
        )

    assert remarks.of_training(ended(9.5, 0.9, 5)) == []
    runs = ended(2 * math.log(256) - 0.01, 0.991, 1.25)
    assert remarks.of_training(runs) == [
        "At the end the features of all clips are nearly alike, by RankMe: sigma_mlp (1.2), "
        "pixel (1.2).",
        f"{remarks.NO_BETTER} guessing evenly gives: sigma_mlp (11.08).",
        f"{remarks.NO_BETTER} predicting the mean gives, 1.0: pixel (0.991).",
    ]
    text = " ".join(printed(replace(found, runs=runs)).split())
    assert all(remark in text for remark in remarks.of_training(runs))


def test_a_gain_that_no_test_shows_is_said(found: Results) -> None:
    """Catches a run that is level with no training, for which a reader has to see the brackets."""
    level = with_top1(found, {"sigma_mlp": 0.75, "pixel": 0.2, "random": 0.25})
    assert "Not shown to be better than no training: linear probe (pixel)." in printed(level)


@pytest.mark.parametrize("others", ["learned", "did not learn"])
def test_what_did_not_learn_is_no_result(found: Results, others: str) -> None:
    """Catches a fine-tuning that came to nothing in the table, as the best, or as what a gain is
    counted from; and a report that cannot be made where all came to nothing."""
    same = with_top1(found, {"sigma_mlp": 0.625, "pixel": 0.5, "random": 0.25})
    runs = []
    for run in same.runs:
        constant = "left" if others != "learned" or run.name == "sigma_mlp" else None
        changes = {"probe": "finetune", "constant": constant}
        runs.append(replace(run, scores=(run.scores[0].model_copy(update=changes),)))
    same = replace(same, runs=tuple(runs))
    text = " ".join(printed(same).split())
    assert ("62.5" in text, "50.0" in text) == (False, others == "learned")
    named = "sigma_mlp “left”" + ("" if others == "learned" else ", pixel “left”, random “left”")
    assert f"so the score is no result: fine-tuned ({named})." in text
    (sigma,), (pixel,) = (rows(same)[name] for name in ("sigma_mlp", "pixel"))
    assert sigma is not None
    assert pixel is not None
    assert (sigma.best, sigma.gain, sigma.learned) == (False, None, False)
    assert pixel.gain == (0.25 if others == "learned" else None)
    paragraph = summary.paragraph(same)
    told = "pixel is highest by the fine-tuned" if others == "learned" else "nothing was learned"
    assert told in paragraph
    assert "The encoders were fine-tuned, and scored on" in paragraph  # and nothing was read out
    assert "features" not in paragraph
    assert summary.metrics(same) == summary.metrics(found)  # of the files, as they are


def test_one_run_without_a_score(found: Results) -> None:
    """Catches a crash, or a shift of the columns, where one run's probe was skipped."""
    some = with_top1(found, {"sigma_mlp": None, "pixel": 0.5, "random": None})
    (cells,) = zip(*rows(some).values(), strict=True)
    assert [cell is None for cell in cells] == [True, False, True]
    assert cells[1].gain is None  # type: ignore[union-attr]
    assert (
        printed(some).count("skipped") == 2 + 4
    )  # two cells; notes of two probes, of segmentation and of SEVERE


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
    """Catches a table without baseline, chance, marks of the best, reasons or census, and scores
    that are not the last thing before what they come to."""
    lines = [" ".join(line.split()) for line in experiment.printed.splitlines()]
    assert "sigma_mlp 75.0* 87.5 50.0 87.5 80 of 85" in lines
    assert "pixel 50.0 87.5 62.5* 87.5 80 of 85" in lines
    assert "random (untrained) 25.0 87.5 25.0 87.5 80 of 85" in lines
    assert "chance 16.7 83.3 16.7 83.3" in lines
    assert "commonest class 25.0 25.0" in lines
    assert "sigma_mlp 50.0 50.0 80 of 85" not in lines  # on val
    assert f"skipped: weather, linear probe: {SKIPPED}" in lines
    assert "clips: 13 of 15 ok, 2 lost: corrupt 1, missing 1" in lines
    assert lines.index("sigma_mlp 75.0* 87.5 50.0 87.5 80 of 85") > max(
        place for place, line in enumerate(lines) if line.startswith(("clips: ", "Cost "))
    )


def test_the_terminal_ends_with_what_it_comes_to(found: Results) -> None:
    """Catches many tables after which the reader has to work out who was best."""
    said = paragraph(found)
    assert "does best" in said
    assert " ".join(printed(found).split()).endswith(said)


def test_a_benchmark_that_did_not_run_is_named(found: Results) -> None:
    """Catches a benchmark that was asked for and is missing from the report without a word."""
    body = {"scores": [], "skipped": [{"task": "few", "column": "c", "reason": "no clip"}]}
    first, *others = found.runs
    results = {**first.results, "severe": body}
    some = replace(found, runs=(replace(first, results=results), *others))
    lines = printed(some).splitlines()
    assert f"skipped: SEVERE, few ({first.name}): no clip" in lines
    missing = ", ".join(run.name for run in others)
    command = "python -m pipeline severe --run NAME"
    assert f"skipped: SEVERE ({missing}): it has not run yet: {command}" in lines
    assert not any("retrieval" in line for line in lines)  # was not asked for


def test_what_the_data_cannot_be_asked_is_named(found: Results) -> None:
    """Catches tasks that the settings name and the report is silent about: they need other data."""
    overrides = ["experiment=demo", "data=folder", "data.name=mine", "data.manifest=mine.csv"]
    params = stages.restrict(parse(compose(overrides), place="mine"), "report")
    assert params.left_out["segmentation"] == ("embedded",)
    asked = found.params.model_copy(update={"severe": params.severe})
    asked._left_out = params.left_out
    lines = printed(replace(found, params=asked)).splitlines()
    needs = "it needs the test split"  # as the data of these results is the embedded one
    if asked.data.synthetic is None:
        needs = "it needs the embedded data"
    assert f"skipped: segmentation, embedded: {needs}" in lines
    assert any(line.startswith("skipped: SEVERE, unseen_backgrounds, ") for line in lines)


def test_benchmarks_without_the_data_that_they_need_are_named(found: Results) -> None:
    """Catches benchmarks that score no run of one's own data, of which the report says nothing;
    also those of which a part is left, and those that nobody asked for."""
    names = ("propagation", "readouts", "surprise")
    standard = [f"benchmarks/{name}=standard" for name in names]
    mine = ["experiment=demo", "data=folder", "data.name=mine", "data.manifest=mine.csv"]
    text = compose([*mine, *standard])
    params = stages.restrict(parse(text, place="mine"), "report")
    assert all(not BENCHMARKS[name].runs(params) for name in names)
    assert all(params.left_out[name] for name in names)
    asked = found.params.model_copy(update={"benchmarks": params.benchmarks})
    asked._left_out = params.left_out
    lines = printed(replace(found, params=asked)).splitlines()
    for subject in (
        "label propagation, embedded",
        "readouts, position, speed and size",
        "surprise, embedded",
    ):
        assert any(line.startswith(f"skipped: {subject}: it needs ") for line in lines)
    partly = [*mine, *standard[1:], "benchmarks.readouts.columns=[height]"]
    some = parse(compose([*partly, "benchmarks/surprise=intuitive_physics"]), place="mine")
    assert BENCHMARKS["readouts"].runs(some) == BENCHMARKS["surprise"].runs(some) == [*some.runs]
    assert some.left_out["readouts"]
    assert "surprise" not in some.left_out
    assert not parse(compose(mine), place="mine").left_out.keys() & set(names)
    assert not parse(compose(standard), place="embedded").left_out


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
        for w in formats.census_line(census).split()
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
    names = [(table.label, table.split) for table in shown]
    assert names == [("motion", "test"), ("digit", "val"), ("motion", "val")]
    scores = [score for table in shown for row in table.rows for score in row.scores if score]
    assert len(scores) == 3 * 2 * len(TOP1)
