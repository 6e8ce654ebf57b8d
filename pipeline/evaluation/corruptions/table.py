"""The table of corruptions: clean, each kind and their mean by label; and curves of strength."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Chart, Column, Line, Table, cells_by_key, line, percent

Key = tuple[Any, ...]  # a label, and a kind, `clean` or `mean`


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Top-1 of every label and kind, and the drop of their mean; None where nothing was asked."""
    keys, by_run = cells_by_key(bodies, "label", "kind")
    if not keys:
        return None
    shown = [(key, score) for key in keys for score in _scores(key)]
    columns = tuple(_column(key, score) for key, score in shown)
    lines = []
    for name, cells in by_run.items():
        values = [_value(cells.get(key), score) for key, score in shown]
        scored = line(name, [cells.get(key) for key in keys], "top1").scored
        lines.append(Line(name, tuple(values), scored))
    anyones = {key: next(c[key] for c in by_run.values() if key in c) for key in keys}
    chance = (percent(anyones[k]["chance"]) if s == "top1" else None for k, s in shown)
    return Table(
        id="corruptions",
        title="Corruptions",
        unit="% of clips right; drop: the share of the clean number that is lost, less is better",
        remark="A linear probe that has learned from clean training clips is asked about corrupted "
        "ones. Each kind is the mean of five strengths (docs/corruptions.md).",
        columns=columns,
        runs=tuple(lines),
        others=(Line("chance", tuple(chance)),),
        charts=tuple(_charts(keys, by_run)),
    )


def _scores(key: Key) -> tuple[str, ...]:
    return ("top1", "drop") if key[1] == "mean" else ("top1",)


def _column(key: Key, score: str) -> Column:
    label, kind = key
    if score == "drop":
        return Column(label, "drop", is_error=True)
    return Column(label, kind, on_page_only=kind not in ("clean", "mean"))


def _value(row: Body | None, score: str) -> float | None:
    if row is None:
        return None
    value: float | None = row[score]
    return value if score == "drop" else percent(value)


def _charts(keys: list[Key], by_run: Mapping[str, Mapping[Key, Body]]) -> Iterator[Chart]:
    """Yield for each label how top-1 falls with strength, the mean over kinds."""
    for number, label in enumerate(dict.fromkeys(label for label, _ in keys)):
        lines = {}
        for run, cells in by_run.items():
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
