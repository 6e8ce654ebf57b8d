"""Tables of the benchmarks beyond recognition: segmentation and SEVERE, one row per run.

Beside ours stand the paper's rows, where a column's data set is one that the paper has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.evaluation.severe.columns import COLUMNS
from pipeline.report import paper
from pipeline.report.results import Results, RunResult
from pipeline.report.seeds import Group, mean_std

PROTOCOLS = {"clustering": "clustering", "over_clustering": "over-clustering"}


@dataclass(frozen=True)
class Column:
    """A column: `group` stands above `title`; of an error less is better."""

    group: str
    title: str
    is_error: bool = False


@dataclass(frozen=True)
class Line:
    """A row of numbers as they are shown (per cent, or an error); None where there is none.

    `deviations` are standard deviations over `seeds` runs; empty where there is one run.
    """

    name: str
    values: tuple[float | None, ...]
    scored: str = ""  # on how many clips of how many
    deviations: tuple[float | None, ...] = ()
    seeds: int = 1


@dataclass(frozen=True)
class Table:
    """Runs, then what to compare them with: a baseline that looks at no pixel, and the paper."""

    id: str
    title: str
    unit: str
    remark: str
    columns: tuple[Column, ...]
    runs: tuple[Line, ...]
    others: tuple[Line, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def best(self, column: int) -> float | None:
        """The best number that a run has in a column."""
        values = [v for line in self.runs if (v := line.values[column]) is not None]
        if not values:
            return None
        return min(values) if self.columns[column].is_error else max(values)

    def is_best(self, column: int, value: float | None) -> bool:
        """Whether no run has a better number in a column."""
        return value is not None and value == self.best(column)

    def shown(self, column: int, value: float | None) -> str:
        """A number as text: per cent with one digit, an error with three."""
        if value is None:
            return "–"
        return f"{value:.3f}" if self.columns[column].is_error else f"{value:.1f}"


def tables(results: Results) -> list[Table]:
    """Return the tables that there are numbers for."""
    found = [segmentation(results.runs), severe(results.runs)]
    return [table for table in found if table is not None]


def over_seeds(table: Table, found: Sequence[Group]) -> Table:
    """Return the table with a line per group of runs: the mean over its seeds."""
    lines = {line.name: line for line in table.runs}
    return replace(table, runs=tuple(_mean(g, [lines[n] for n in g.names]) for g in found))


def _mean(group: Group, lines: Sequence[Line]) -> Line:
    if not group.has_several_seeds:
        return replace(lines[0], name=group.name)
    columns = [
        [value for value in column if value is not None]
        for column in zip(*(line.values for line in lines), strict=True)
    ]
    means = [mean_std(column) if column else None for column in columns]
    return Line(
        group.name,
        tuple(each.mean if each else None for each in means),
        "; ".join(dict.fromkeys(line.scored for line in lines if line.scored)),
        tuple(each.std if each else None for each in means),
        len(lines),
    )


def segmentation(runs: Sequence[RunResult]) -> Table | None:
    """Mean IoU per data set, clip length and protocol; None where nothing was segmented."""
    by_run = {
        run.name: {
            (r["data"], r["kind"], r["frames"], r["protocol"]): r for r in rows(run.segmented)
        }
        for run in runs
    }
    keys = list(dict.fromkeys(key for found in by_run.values() for key in found))
    if not keys:
        return None
    columns = tuple(
        Column(f"{data}, {frames} frames", PROTOCOLS[protocol])
        for data, _, frames, protocol in keys
    )
    lines = [
        _line(name, [found.get(key) for key in keys], "miou") for name, found in by_run.items()
    ]
    anyones = [next(found[key] for found in by_run.values() if key in found) for key in keys]
    others = [Line("one segment", tuple(percent(row["one_segment"]) for row in anyones))]
    others += _published([paper.segmentation(kind, protocol) for _, kind, _, protocol in keys])
    return Table(
        id="segmentation",
        title="Unsupervised video object segmentation",
        unit="mean IoU, %",
        remark="Tokens of a clip are clustered with k-means: into as many clusters as the clip has "
        "objects (clustering), or into a fixed number (over-clustering), and compared with the "
        "masks (docs/segmentation.md). One segment: what calling all pixels one segment gives.",
        columns=columns,
        runs=tuple(lines),
        others=tuple(others),
    )


def severe(runs: Sequence[RunResult]) -> Table | None:
    """A column per task and the mean of all; None where there is no task."""
    by_run = {run.name: {row["column"]: row for row in rows(run.severe)} for run in runs}
    keys = [name for name in COLUMNS if any(name in found for found in by_run.values())]
    if not keys:
        return None
    anyones = [next(found[key] for found in by_run.values() if key in found) for key in keys]
    published = [paper.severe(key, row["data"]) for key, row in zip(keys, anyones, strict=True)]
    columns = [
        # A stand-in goes by its own name: its numbers are not to be taken for the paper's.
        Column(each.axis, each.title if same else row["task"].replace("_", " "), each.error)
        for each, row, same in zip((COLUMNS[k] for k in keys), anyones, published, strict=True)
    ]
    means = {run.name: run.severe.get("mean") for run in runs}
    lines = []
    for name, found in by_run.items():
        line = _line(name, [found.get(key) for key in keys], "value", columns)
        lines.append(Line(name, (*line.values, means[name]), line.scored))
    constant = [
        _number(row, "constant", column) for row, column in zip(anyones, columns, strict=True)
    ]
    data = ", ".join(
        f"{row['task']} for {COLUMNS[k].title}"
        for k, row, same in zip(keys, anyones, published, strict=True)
        if not same
    )
    mean = paper.SEVERE if all(published) and len(keys) == len(COLUMNS) else {}
    published.append({method: row["mean"] for method, row in mean.items()})
    return Table(
        id="severe",
        title="SEVERE: how far the features carry",
        unit="%; of counting, the relative error: less is better",
        remark=(
            f"Here stand in, for the paper's columns: {data.replace('_', ' ')}. " if data else ""
        )
        + "Constant: the best answer that is the same for every clip. The mean counts an error e "
        "as 100 (1 - e) (docs/severe.md).",
        columns=(*columns, Column("", "mean")),
        runs=tuple(lines),
        others=(Line("constant", (*constant, None)), *_published(published)),
        notes=tuple(_skipped(runs)),
    )


def rows(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scores of a benchmark's manifest, or nothing."""
    scores: list[Mapping[str, Any]] = body.get("scores", [])
    return scores


def percent(share: float | None) -> float | None:
    """A share from 0 to 1 in per cent."""
    return None if share is None else 100 * share


def _number(row: Mapping[str, Any], key: str, column: Column) -> float | None:
    value: float | None = row[key]
    return value if column.is_error else percent(value)


def _line(
    name: str,
    found: Sequence[Mapping[str, Any] | None],
    key: str,
    columns: Sequence[Column] | None = None,
) -> Line:
    plain = columns or [Column("", "")] * len(found)
    values = [_number(row, key, c) if row else None for row, c in zip(found, plain, strict=True)]
    counts = sorted({(row["scored"], row["of"]) for row in found if row})
    if len(counts) > 1:  # tasks of their own
        counts = [
            (sum(row["scored"] for row in found if row), sum(row["of"] for row in found if row))
        ]
    return Line(name, tuple(values), "".join(f"{scored:,} of {of:,}" for scored, of in counts))


def _published(cells: Sequence[Mapping[str, float]]) -> list[Line]:
    """A row per method of the paper that has a number in any of these columns."""
    methods = list(dict.fromkeys(method for cell in cells for method in cell))
    return [
        Line(f"{method}, ViT-B (paper)", tuple(cell.get(method) for cell in cells))
        for method in methods
    ]


def _skipped(runs: Sequence[RunResult]) -> list[str]:
    said: dict[str, list[str]] = {}
    for run in runs:
        for note in run.severe.get("skipped", []):
            said.setdefault(f"{note.get('task', '')}: {note.get('reason', '')}", []).append(
                run.name
            )
    return [f"{text} ({', '.join(names)})" for text, names in said.items()]
