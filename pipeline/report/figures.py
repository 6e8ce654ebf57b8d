"""Which curves the page has: loss, learning curves, diagnostics, speed, and benchmarks' charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pipeline.evaluation.table import Table
from pipeline.method.losses import Loss, SinkhornLoss
from pipeline.report.drawn_curves import Figure, Series, drawn_curve
from pipeline.report.remarks import guessing_evenly
from pipeline.report.results import Line, Results, RunResult
from pipeline.report.seeds import Group, seed_groups
from pipeline.training.logs import KNN, RANKME

POINTS = 1200  # of a curve; of longer ones every n-th is drawn
DIGITS = 6  # significant, of a drawn value

# Key in the log: title, unit of the axis, what it tells, fixed range of the axis.
DIAGNOSTICS: dict[str, tuple[str, str, str, tuple[float, float] | None]] = {
    "prototypes_used": (
        "Prototypes in use",
        "share of prototypes",
        "Share of the prototypes (or clusters) that at least one tube of the batch is assigned to.",
        (0, 1.05),
    ),
    "assignment_entropy": (
        "Assignment entropy",
        "0 collapsed, 1 even",
        "How evenly the tubes are spread over the prototypes (or clusters): 0 is one for all.",
        (0, 1.05),
    ),
    "largest_prototype": (
        "Largest prototype",
        "share of tubes",
        "Share of the tubes that are assigned to the prototype (or cluster) with the most of them.",
        (0, 1.05),
    ),
    "lr": ("Learning rate", "per step", "Warm-up, then a cosine.", None),
    "branch_agreement": (
        "Agreement of the branches",
        "share of tubes",
        "Share of the masked tubes that decoder and target network assign to the same prototype "
        "(or cluster).",
        (0, 1.05),
    ),
    "feature_norm": (
        "Length of the predictions",
        "L2 norm",
        "Mean length of the decoder's predictions.",
        None,
    ),
    "target_norm": ("Length of the targets", "L2 norm", "Mean length of the targets.", None),
    "target_alignment": (
        "Alignment of the targets",
        "mean cosine of two tubes",
        "1 is a collapse: all targets point the same way (docs/diagnostics.md).",
        (-0.05, 1.05),
    ),
    "feature_alignment": (
        "Alignment of the predictions",
        "mean cosine of two tubes",
        "1 is a collapse: the decoder predicts the same direction for all masked tubes.",
        (-0.05, 1.05),
    ),
}
SPEED: dict[str, tuple[str, str, str, tuple[float, float] | None]] = {
    "clips_per_s": (
        "Speed",
        "clips/s",
        "Clips that a run trained on per second, since the line before.",
        None,
    ),
    "data_wait": (
        "Waiting for data",
        "share of time",
        "Share of the time in which the model waited for the next batch.",
        (0, 1.05),
    ),
}
MEANS = ("loss", *SPEED)  # over the steps since the line before
FIRST = ("prototypes_used", "assignment_entropy", "lr", "clips_per_s")  # beside the loss


def curves(results: Results) -> list[Figure]:
    """Return loss, learning curves, diagnostics, learning rate and speed, as far as logged."""
    groups = seed_groups(results.runs)
    figures = [*_losses(results.trained, groups), *_learning_curves(results.trained, groups)]
    drawn = {}
    for key, (title, unit, caption, limits) in (DIAGNOSTICS | SPEED).items():
        series = _series(results.trained, groups, key, "speed" if key in SPEED else "metrics")
        if series:
            drawn[key] = drawn_curve(key, title, (unit, "step"), caption, series, limits)
    order = [*FIRST, *(key for key in drawn if key not in FIRST)]
    return figures + [drawn[key] for key in order if key in drawn]


def of_table(table: Table, runs: Sequence[RunResult]) -> list[Figure]:
    """Draw the charts of a benchmark's table."""
    numbers = {
        name: (k, group.name) for k, group in enumerate(seed_groups(runs)) for name in group.names
    }
    figures = []
    for chart in table.charts:
        series = []
        for run, points in chart.points.items():
            (colour, group), (xs, ys) = numbers[run], zip(*points, strict=True)
            series.append(Series(run, group, colour, list(xs), list(ys)))
        axes = (chart.y, chart.x)
        figures.append(drawn_curve(chart.id, chart.title, axes, chart.caption, series, None))
    return figures


def _losses(runs: Sequence[RunResult], groups: Sequence[Group]) -> list[Figure]:
    """One chart per kind of loss: values of different kinds cannot be compared."""
    kinds: dict[tuple[Loss, str], list[RunResult]] = {}
    for run in runs:
        objective = run.settings.objective
        kinds.setdefault((objective.loss, objective.target.kind), []).append(run)
    figures = []
    for number, (kind, group) in enumerate(kinds.items()):
        series = _series(group, groups, "loss", "metrics")
        if not series:
            continue
        if isinstance(kind[0], SinkhornLoss):
            unit = "cross-entropy, nats"
            even = guessing_evenly(kind[0])
            caption = f"Sum of two cross-entropies; guessing evenly would give {even:.2f}."
        else:
            unit = kind[0].description
            caption = f"{unit[0].upper()}{unit[1:]} of the predicted tubes' targets."
        every = group[0].settings.trainer.log_every
        if every > 1 and max(len(each.steps) for each in series) > 1:
            caption += f" Each point is the mean of {every} steps."
        title = f"Loss: {', '.join(each.name for each in seed_groups(group))}"
        figures.append(drawn_curve(f"loss-{number}", title, (unit, "step"), caption, series, None))
    return figures


def _learning_curves(runs: Sequence[RunResult], groups: Sequence[Group]) -> list[Figure]:
    """What online evaluation told while the runs were trained: a chart per label, and RankMe."""
    keys = dict.fromkeys(key for run in runs for line in run.metrics for key in line)
    labels = [key.removeprefix(KNN) for key in keys if key.startswith(KNN)]
    told = [run.pretrained.get("online_evaluation") for run in runs]
    clips = next((each for each in told if each), None)
    if clips is None:
        return []
    asked = f"{clips['clips']} clips of {clips['split']}"
    figures = []
    for number, label in enumerate(labels):
        caption = (
            f"Share of {asked} whose {label} the nearest of {clips['train_clips']} other clips "
            "name, while training: few clips, so it tells whether features change for the better, "
            "not how good they are."
        )
        guessing = clips["labels"].get(label)
        if guessing:
            caption += f" Guessing the commonest class gives {guessing['majority']:.1%}."
        series = _series(runs, groups, f"{KNN}{label}", "metrics")
        axes = ("share of clips right", "step")
        title = f"k-NN while training: {label}"
        figures.append(drawn_curve(f"knn-{number}", title, axes, caption, series, (0, 1.05)))
    caption = (
        f"Effective rank of the features of {asked} (RankMe): 1 where all point the same way, at "
        f"most the smaller of {clips['clips']} and the encoder's width."
    )
    series = _series(runs, groups, RANKME, "metrics")
    axes = ("effective rank", "step")
    return [*figures, drawn_curve(RANKME, "RankMe while training", axes, caption, series, None)]


def _series(
    runs: Sequence[RunResult], groups: Sequence[Group], key: str, log: Literal["metrics", "speed"]
) -> list[Series]:
    """Read one curve of each run that logged it."""
    numbers = {name: (k, group.name) for k, group in enumerate(groups) for name in group.names}
    curves = []
    for run in runs:
        colour, group = numbers[run.name]
        every = run.settings.trainer.log_every if key in MEANS else 0
        points = _points(getattr(run, log), key, every)
        if points:
            steps = [step for step, _ in points]
            curves.append(Series(run.name, group, colour, steps, [value for _, value in points]))
    return curves


def _points(lines: Sequence[Line], key: str, every: int) -> list[tuple[float, float | None]]:
    """Return steps and values, at most about `POINTS`. What is not finite is a gap.

    A value is the mean over `every` steps; the last one is left out where it is that of fewer than
    half as many: it would be a step or a rise that is nothing but noise.
    """
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    if len(points) > 1 and points[-1][0] - points[-2][0] < every / 2:
        points.pop()
    if not points:
        return []
    kept = points[:: -(-len(points) // POINTS)]
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    return [(step, _shortened(value)) for step, value in kept]


def _shortened(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
