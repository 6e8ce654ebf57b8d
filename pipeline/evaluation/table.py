"""A benchmark's table: one row per run, and beside ours the paper's where the data set is its."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.evaluation.benchmark import Body


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


def rows(body: Body) -> list[Body]:
    """The scores of a benchmark's manifest, or nothing."""
    scores: list[Body] = body.get("scores", [])
    return scores


def percent(share: float | None) -> float | None:
    """A share from 0 to 1 in per cent."""
    return None if share is None else 100 * share


def number(row: Body, key: str, column: Column) -> float | None:
    """A score of a row as its column shows it: an error as it is, a share in per cent."""
    value: float | None = row[key]
    return value if column.is_error else percent(value)


def line(
    name: str,
    cells: Sequence[Body | None],
    key: str,
    columns: Sequence[Column] | None = None,
) -> Line:
    """A run's line: the score `key` of each of its rows, and on how many clips of how many."""
    plain = columns or [Column("", "")] * len(cells)
    values = [number(row, key, c) if row else None for row, c in zip(cells, plain, strict=True)]
    counts = sorted({(row["scored"], row["of"]) for row in cells if row})
    if len(counts) > 1:  # tasks of their own
        counts = [
            (sum(row["scored"] for row in cells if row), sum(row["of"] for row in cells if row))
        ]
    return Line(name, tuple(values), "".join(f"{scored:,} of {of:,}" for scored, of in counts))


def published(cells: Sequence[Mapping[str, float]]) -> list[Line]:
    """A row per method of the paper that has a number in any of these columns."""
    methods = list(dict.fromkeys(method for cell in cells for method in cell))
    return [
        Line(f"{method}, ViT-B (paper)", tuple(cell.get(method) for cell in cells))
        for method in methods
    ]
