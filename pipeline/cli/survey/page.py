"""The survey as one HTML page that stands by itself: a histogram of each number, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.cli.survey import summary
from pipeline.cli.survey.summary import Survey
from pipeline.runtime.pages import environment

TEMPLATES = Path(__file__).parent / "templates"
BINS = 24
MOST_BARS = 12  # of counts by name


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: its height as a share of the highest."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Chart:
    """Bars side by side (a histogram), or below each other, each with its name."""

    title: str
    bars: Sequence[Bar]
    is_histogram: bool


def render(survey: Survey) -> str:
    """Return the page as HTML."""
    charts = [_histogram(title, values) for title, values in survey.numbers.items() if values]
    charts += [
        _counts(title, counts.most_common()) for title, counts in summary.kinds(survey).items()
    ]
    classes = [(f"{each.column}, {each.split}", each.clips) for each in survey.classes]
    charts += [_counts("labelled clips by split", classes)] if classes else []
    return (
        environment(TEMPLATES)
        .get_template("survey.html")
        .render(
            survey=survey,
            charts=charts,
            lines="\n".join(summary.lines(survey)),
            unreadable=[(path.name, each) for path, each in survey.unreadable.items()],
            commands="\n".join(survey.commands),
        )
    )


def _histogram(title: str, values: Sequence[float]) -> Chart:
    counts, edges = np.histogram(values, bins=BINS)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return Chart(title, _bars(list(zip(names, counts.tolist(), strict=True))), is_histogram=True)


def _counts(title: str, counts: Sequence[tuple[str, int]]) -> Chart:
    return Chart(title, _bars(counts[:MOST_BARS]), is_histogram=False)


def _bars(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    most = max(count for _, count in counts) or 1
    return [Bar(name, count, count / most) for name, count in counts]
