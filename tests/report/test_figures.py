"""Curves and matrices: the values that are drawn are those of the logs."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest

from pipeline.report import figures, matrices, results
from pipeline.report.drawn_curves import Figure
from pipeline.report.results import Results

from .experiments import CLASSES, STEPS, Experiment


@pytest.fixture
def found(experiment: Experiment) -> Results:
    with contextlib.chdir(experiment.folder):
        return results.read(experiment.params)


def by_id(found: Results) -> dict[str, Figure]:
    return {figure.id: figure for figure in figures.curves(found)}


def test_losses_of_different_kinds_have_axes_of_their_own(found: Results) -> None:
    """Catches cross-entropies and squared errors in one chart, and a curve of the untrained run."""
    drawn = {key: json.loads(f.json) for key, f in by_id(found).items() if key.startswith("loss")}
    assert [[t["name"] for t in f["data"]] for f in drawn.values()] == [["sigma_mlp"], ["pixel"]]


def test_losses_of_one_kind_share_a_chart(found: Results) -> None:
    """Catches runs that differ in their seed alone drawn apart, or named twice in the legend."""
    twin = replace(found.runs[1], name="pixel_again")
    drawn = by_id(replace(found, runs=(*found.runs, twin)))
    traces = [json.loads(drawn[f"loss-{n}"].json)["data"] for n in range(2)]
    assert [[t["meta"]["run"] for t in each] for each in traces] == [
        ["sigma_mlp"],
        ["pixel", "pixel_again"],
    ]
    assert [(t["name"], t["showlegend"]) for t in traces[1]] == [("pixel", True), ("pixel", False)]
    assert len({t["meta"]["colour"] for t in traces[1]}) == 1
    assert "<extra>pixel_again</extra>" in traces[1][1]["hovertemplate"]  # pointing names the run


def test_all_that_is_asked_for_is_drawn(found: Results) -> None:
    """Catches a diagnostic whose key in the log and here have come apart."""
    ids = list(by_id(found))
    first = ["loss-0", "loss-1", "prototypes_used", "assignment_entropy", "lr", "clips_per_s"]
    assert ids[:6] == first
    assert "branch_agreement" in ids


def test_values_are_those_of_the_log_and_nan_is_a_gap(found: Results) -> None:
    """Catches shifted steps, and a loss that is not a number ending up in the page's JSON."""
    figure = by_id(found)["loss-0"]
    assert "NaN" not in figure.json
    (trace,) = json.loads(figure.json)["data"]
    assert trace["x"] == list(range(1, STEPS + 1))
    assert trace["y"] == [pytest.approx(9.0 / s, rel=1e-5) if s != 3 else None for s in trace["x"]]
    assert figure.header == ("step", "sigma_mlp")
    assert figure.rows[-1] == (str(STEPS), f"{9 / STEPS:.4g}")


def test_long_curves_are_thinned_but_keep_both_ends(found: Results) -> None:
    """Catches a page that grows with the run, and a curve that ends before the run does."""
    lines = tuple({"step": step, "loss": float(step)} for step in range(1, 100_002))
    runs = tuple(replace(run, metrics=lines) for run in found.runs)
    (trace,) = json.loads(by_id(replace(found, runs=runs))["loss-0"].json)["data"]
    assert len(trace["x"]) <= figures.POINTS + 1
    assert (trace["x"][0], trace["x"][-1]) == (1, 100_001)
    assert all(y == pytest.approx(x, rel=1e-5) for x, y in zip(trace["x"], trace["y"], strict=True))


def test_learning_curves_are_drawn_beside_what_guessing_gives(found: Results) -> None:
    """Catches online evaluation that only the log knows, and points at steps without a probe."""
    assert {"knn-0", "rankme"}.isdisjoint(by_id(found))
    lines = (
        {"step": 0, "loss": None, "rankme": 4.0, "knn_motion": 0.25},
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 1.0, "rankme": 8.0, "knn_motion": 0.5},
    )
    online = {"split": "val", "clips": 128, "train_clips": 64}
    online |= {"labels": {"motion": {"classes": 8, "majority": 0.125}}}
    runs = tuple(
        replace(run, metrics=lines, pretrained={"online_evaluation": online}) for run in found.runs
    )
    drawn = by_id(replace(found, runs=runs))
    assert [*drawn][:4] == ["loss-0", "loss-1", "knn-0", "rankme"]
    for name, values in (("knn-0", [0.25, 0.5]), ("rankme", [4.0, 8.0])):
        traces = json.loads(drawn[name].json)["data"]
        assert [trace["meta"]["run"] for trace in traces] == ["sigma_mlp", "pixel"]
        assert [(trace["x"], trace["y"]) for trace in traces] == [([0, 2], values)] * 2
    assert "128 clips of val whose motion the nearest of 64 other" in drawn["knn-0"].caption
    assert "commonest class gives 12.5%" in drawn["knn-0"].caption
    (trace,) = json.loads(drawn["loss-0"].json)["data"]
    assert trace["x"] == [1, 2]


def test_a_matrix_shows_shares_of_true_classes(found: Results) -> None:
    """Catches a transposed matrix, and columns normalised in place of rows."""
    matrix = matrices.confusions(found)[0]
    (heat,) = json.loads(matrix.json)["data"]
    assert heat["y"] == CLASSES
    assert heat["z"][0][:2] == [pytest.approx(2 / 3, abs=1e-4), pytest.approx(1 / 3, abs=1e-4)]
    assert heat["z"][1][:2] == [0, 1]
    assert matrix.rows == ((CLASSES[0], CLASSES[1], "1"),)


@pytest.mark.parametrize(("last", "kept"), [(31, False), (34, False), (35, True), (40, True)])
def test_a_last_point_of_a_few_steps_is_left_out(found: Results, last: int, kept: bool) -> None:
    """Catches a curve that ends in a spike, as its last point is the mean of one step; the learning
    rate is no mean, and is drawn to its end."""
    trainer = found.runs[0].settings.trainer.model_copy(update={"log_every": 10})
    settings = found.runs[0].settings.model_copy(update={"trainer": trainer})
    lines = tuple({"step": step, "loss": 1.0, "lr": 0.1} for step in (10, 20, 30, last))
    run = replace(found.runs[0], settings=settings, metrics=lines, speed=())
    drawn = by_id(replace(found, runs=(run,)))
    ends = {key: json.loads(drawn[key].json)["data"][0]["x"][-1] for key in ("loss-0", "lr")}
    assert ends == {"loss-0": last if kept else 30, "lr": last}
    assert "the mean of 10 steps" in drawn["loss-0"].caption
