"""The table of corruptions: clean, each kind and their mean by label; and curves of strength."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Chart, Column, Key, Scores, Table


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Top-1 of every label and kind, and the drop of their mean; None where nothing was asked."""
    scores = Scores.of(bodies, "label", "kind")
    columns: dict[tuple[Key, str], Column] = {}
    for label, kind in scores.first:
        hidden = kind not in ("clean", "mean")
        columns[(label, kind), "top1"] = Column(label, kind, on_page_only=hidden)
        if kind == "mean":
            columns[(label, kind), "drop"] = Column(label, "drop", is_error=True)
    if not columns:
        return None
    return Table(
        id="corruptions",
        title="Corruptions",
        unit="% of clips right; drop: the share of the clean number that is lost, less is better",
        remark="A linear probe that has learned from clean training clips is asked about corrupted "
        "ones. Each kind is the mean of five strengths (docs/corruptions.md).",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(scores.line("chance", "chance", columns, under="top1"),),
        charts=tuple(_charts(scores)),
    )


def _charts(scores: Scores) -> Iterator[Chart]:
    """Yield for each label how top-1 falls with strength, the mean over kinds."""
    for number, label in enumerate(dict.fromkeys(label for label, _ in scores.first)):
        lines = {}
        for run, cells in scores.by_run.items():
            if (label, "mean") in cells:
                shares = [cells[label, "clean"]["top1"], *cells[label, "mean"]["by_strength"]]
                lines[run] = [(k, 100 * share) for k, share in enumerate(shares)]
        yield Chart(
            f"corruptions-{number}",
            f"Corrupted: {label}",
            "strength",
            "% of clips right",
            "The mean over all kinds; at strength 0 clips are clean.",
            lines,
        )
