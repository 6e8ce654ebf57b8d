"""A benchmark's table: one row per run, and beside ours the paper's where the data set is its."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pipeline.evaluation.benchmark import Body

Key = tuple[Any, ...]  # what a score is of, such as its label and k


@dataclass(frozen=True)
class Column:
    """A column: `group` stands above `title`; of an error less is better.

    `digits` are those after the point; None: three of an error, else one.
    """

    group: str
    title: str
    is_error: bool = False
    on_page_only: bool = False  # a terminal has no room for it
    digits: int | None = None
    is_neutral: bool = False  # neither more nor less is better


Columns = Mapping[tuple[Key, str], Column]  # by what they show: a key, and which score of it


@dataclass(frozen=True)
class Cell:
    """A number as terminal and page show it; what is below it on the page is `notes`."""

    text: str
    value: float | None = None  # what rows are sorted by
    deviation: str = ""  # standard deviation over seeds
    is_best: bool = False
    is_worse: bool = False  # than no training, by a test
    notes: tuple[tuple[str, str], ...] = ()  # text, and what pointing at it tells
    warning: str = ""
    bar: tuple[float, float] | None = None  # the number and chance, in per cent


@dataclass(frozen=True)
class Line:
    """A row of numbers as they are shown (per cent, or an error); None where there is none.

    `deviations` are standard deviations over `seeds` runs; empty where there is one run. `cells`
    take the place of values that need more than their number.
    """

    name: str
    values: tuple[float | None, ...] = ()
    scored: str = ""  # on how many clips of how many
    deviations: tuple[float | None, ...] = ()
    seeds: int = 1
    cells: tuple[Cell, ...] = ()
    description: str = ""
    intervals: tuple[tuple[float, float] | None, ...] = ()  # of the values


@dataclass(frozen=True)
class Chart:
    """Curves below a table: the points (x, y) of each run, by its name."""

    id: str
    title: str
    x: str  # what the axes are
    y: str
    caption: str
    points: Mapping[str, Sequence[tuple[float, float]]]


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
    interval: str = ""  # what the lines' intervals are
    charts: tuple[Chart, ...] = ()

    @property
    def is_scored(self) -> bool:
        """Whether its numbers are of clips that are counted."""
        return any(line.scored for line in (*self.runs, *self.others))

    def best(self, column: int) -> float | None:
        """The best number that a run has in a column."""
        values = [v for line in self.runs if (v := line.values[column]) is not None]
        if not values or self.columns[column].is_neutral:
            return None
        return min(values) if self.columns[column].is_error else max(values)

    def cells(self, line: Line) -> tuple[Cell, ...]:
        """The cells of one of the lines; of runs, no other has a better number than the best."""
        if line.cells:
            return line.cells
        nothing = (None,) * len(line.values)
        parts = zip(line.values, line.deviations or nothing, line.intervals or nothing, strict=True)
        return tuple(
            Cell(
                self.shown(column, value),
                value,
                "" if deviation is None else f"± {self.shown(column, deviation)}",
                is_best=line in self.runs and value is not None and value == self.best(column),
                notes=self._notes(column, bounds),
            )
            for column, (value, deviation, bounds) in enumerate(parts)
        )

    def _notes(
        self, column: int, bounds: tuple[float, float] | None
    ) -> tuple[tuple[str, str], ...]:
        if bounds is None:
            return ()
        low, high = (self.shown(column, bound) for bound in bounds)
        return ((f"{low}–{high}", self.interval),)

    def groups(self) -> list[tuple[str, int]]:
        """What stands above the columns, and over how many of them."""
        return [(g, len(list(c))) for g, c in groupby(column.group for column in self.columns)]

    def shown(self, column: int, value: float | None) -> str:
        """A number as text, with as many digits as its column has."""
        if value is None:
            return "–"
        digits = self.columns[column].digits
        if digits is None:
            digits = 3 if self.columns[column].is_error else 1
        return f"{value:,.{digits}f}"


def percent(share: float | None) -> float | None:
    """A share from 0 to 1 in per cent."""
    return None if share is None else 100 * share


def number(row: Body | None, score: str, column: Column) -> float | None:
    """A score of a row as its column shows it: an error as it is, a share in per cent."""
    value: float | None = row[score] if row else None
    return value if column.is_error else percent(value)


@dataclass(frozen=True)
class Scores:
    """The scores of all runs, each by the values of some of its fields: its key."""

    by_run: Mapping[str, Mapping[Key, Body]]

    @classmethod
    def of(cls, bodies: Mapping[str, Body], *fields: str) -> Scores:
        """Take the scores of the runs' JSON files, which may have none."""
        return cls(
            {
                run: {tuple(row[name] for name in fields): row for row in body.get("scores", ())}
                for run, body in bodies.items()
            }
        )

    @property
    def first(self) -> dict[Key, Body]:
        """Of each key the score of the first run that has one, in the order of the runs."""
        first: dict[Key, Body] = {}
        for rows in self.by_run.values():
            for key, row in rows.items():
                first.setdefault(key, row)
        return first

    def lines(self, columns: Columns) -> tuple[Line, ...]:
        """A line for each run: its score in each column, and on how many clips of how many."""
        return tuple(
            Line(
                run,
                tuple(number(rows.get(key), score, c) for (key, score), c in columns.items()),
                _counted(
                    [rows[key] for key in dict.fromkeys(k for k, _ in columns) if key in rows]
                ),
            )
            for run, rows in self.by_run.items()
        )

    def line(self, name: str, score: str, columns: Columns, under: str | None = None) -> Line:
        """A line of a score that is the same for all runs; with `under` below that score alone."""
        first = self.first
        return Line(
            name,
            tuple(
                number(first[key], score, column) if under in (None, shown) else None
                for (key, shown), column in columns.items()
            ),
        )


def _counted(rows: Sequence[Body]) -> str:
    counts = sorted({(row["scored"], row["of"]) for row in rows})
    if len(counts) > 1:  # tasks of their own
        counts = [(sum(row["scored"] for row in rows), sum(row["of"] for row in rows))]
    return "".join(f"{scored:,} of {of:,}" for scored, of in counts)


def published(
    cells: Sequence[Mapping[str, float]], sources: Mapping[str, str] | None = None
) -> list[Line]:
    """A row per method of the paper that has a number in any of these columns; where it is from."""
    methods = list(dict.fromkeys(method for cell in cells for method in cell))
    return [
        Line(
            f"{method}, ViT-B (paper)",
            tuple(cell.get(method) for cell in cells),
            description=(sources or {}).get(method, ""),
        )
        for method in methods
    ]
