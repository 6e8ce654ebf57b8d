"""The tables of scores on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pipeline.evaluation.table import Cell, Line, Table
from pipeline.report import trials
from pipeline.report.data_sets import overview
from pipeline.report.formats import census_line
from pipeline.report.remarks import of_training
from pipeline.report.results import Results
from pipeline.report.shown_tables import ShownTable, of_benchmarks, of_scores
from pipeline.report.summary import paragraph
from pipeline.report.tables import ScoreTable, notes

SHOWN_REASONS = 12  # lines; the page has all


def show(results: Results, console: Console) -> None:
    """Print all on each data set; of several one table of them together; last, what it comes to."""
    console.print()
    _show_data(results, console)
    for remark in of_training(results.trained):
        console.print(Text(remark))
    for further in results.further:
        console.print()
        console.rule(f"on {further.data.name}", align="left", characters="-")
        _show_data(further, console)
    if table := overview(results):
        console.print(_turned(table))
    console.print()
    console.print(Text(paragraph(results)))


def _show_data(results: Results, console: Console) -> None:
    """Print the benchmarks, what was skipped and why, the census; last a table per label.

    Scores on val, where there are others, are on the page alone.
    """
    untrained = {run.name for run in results.runs if not run.trained}
    for table in of_benchmarks(results):
        console.print(_rich(table, untrained))
    reasons = notes(results)
    for note in reasons[:SHOWN_REASONS]:
        runs = "" if len(note.runs) == len(results.runs) else f" ({', '.join(note.runs)})"
        what = "skipped" if note.skipped else "note"
        console.print(Text(f"{what}: {note.subject}{runs}: {note.reason}"))
    if len(reasons) > SHOWN_REASONS:
        console.print(f"... and {len(reasons) - SHOWN_REASONS} more: see the report")
    console.print(Text(f"clips: {census_line(results.index.census)}"))
    if sweep := results.params.sweep:
        console.print(Text(trials.counts(sweep)))
    tables = [table for table in of_scores(results) if not (table.scores and table.scores.beside)]
    if not tables:
        console.print("no score: every probe was skipped")
    show_tables(tables, untrained, console)


def show_tables(tables: Sequence[ShownTable], untrained: set[str], console: Console) -> None:
    """Print tables of scores; `untrained` are the runs whose encoder has learned nothing."""
    for table in tables:
        console.print()
        console.print(_rich(table, untrained))
        for remark in [*table.remarks, *_interval(table.scores)]:
            console.print(Text(remark))


def _rich(shown: ShownTable, untrained: set[str]) -> RichTable:
    """A row per run, then the groups of several seeds, then what to compare them with."""
    table = shown.grouped
    columns = [column for column in table.columns if not column.on_page_only]
    # The group stands above where it tells columns apart; elsewhere there is no room for it.
    titles = [column.title for column in columns]
    if len(set(titles)) < len(titles) or shown.scores:
        befores = ["", *(column.group for column in columns)]
        groups = ["" if c.group == b else c.group for c, b in zip(columns, befores, strict=False)]
        titles = [f"{g}\n{c.title}" for g, c in zip(groups, columns, strict=True)]
    has_room = bool(shown.scores) and all(line.seeds == 1 for line in table.runs)
    rich = RichTable(
        title=Text(f"{table.title}: {table.unit}{_legend(shown)}"),
        box=SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1, 0, 1) if has_room else (0, 0, 0, 1),
    )
    rich.add_column("run", no_wrap=True)
    for title in titles:
        rich.add_column(Text(title), justify="right", overflow="fold")
    if table.is_scored:
        rich.add_column("scored", justify="right", no_wrap=True)
    for source, line, style in _lines(shown):
        name = line.name + (" (untrained)" if line.name in untrained else "")
        name += f", {line.seeds} seeds" if line.seeds > 1 else ""
        pairs = zip(source.columns, source.cells(line), strict=True)
        cells = [cell for column, cell in pairs if column in columns]  # not the seed of one trial
        texts = [_number(cell, starred=cell.is_best and source is table) for cell in cells]
        scored = [Text(line.scored)] * table.is_scored
        rich.add_row(Text(name), *texts, *scored, style=style)
    return rich


def _turned(table: Table) -> RichTable:
    """Return the table with a column per run: there are more data sets and probes than runs."""
    rich = RichTable(
        title=Text(f"{table.title}: {table.unit} (* shown to be best)"),
        box=SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    for title in ("data: label", "probe"):
        rich.add_column(title, no_wrap=True)
    for line in table.runs:
        rich.add_column(Text(line.name), justify="right", overflow="fold")
    groups = ["", *(column.group for column in table.columns)]
    cells = [table.cells(line) for line in table.runs]
    for place, column in enumerate(table.columns):
        group = "" if groups[place] == column.group else column.group
        numbers = [_number(of_run[place], starred=of_run[place].is_best) for of_run in cells]
        rich.add_row(Text(group), Text(column.title), *numbers)
    return rich


def _lines(shown: ShownTable) -> Iterator[tuple[Table, Line, str]]:
    """Yield lines, each with its table and style; of a run with one seed, it is the group's."""
    groups = {line.name: line for line in shown.grouped.runs if line.seeds == 1}
    for line in shown.single.runs:
        if line.name in groups:
            yield shown.grouped, groups[line.name], ""
        else:
            yield shown.single, line, ""
    for line in shown.grouped.runs:
        if line.seeds > 1:
            yield shown.grouped, line, "italic"
    for line in shown.grouped.others:
        yield shown.grouped, line, "dim"


def _legend(shown: ShownTable) -> str:
    if shown.scores is None:
        is_compared = not all(column.is_neutral for column in shown.grouped.columns)
        return " (* best number; no test is made)" if is_compared else ""
    return "" if shown.scores.beside else " (* shown to be best)"


def _number(cell: Cell, *, starred: bool) -> Text:
    # A star as well as bold, since a log file has no bold.
    text = cell.text + cell.deviation.replace(" ", "")  # no place to break a line at
    return Text(f"{text}*", style="bold green") if starred else Text(f"{text} ")


def _interval(table: ScoreTable | None) -> Iterator[str]:
    """How far the number of clips alone leaves a score open: the widest interval of the table."""
    if table is None:
        return
    scores = [score for row in table.rows for score in row.scores if score]
    widest = max(scores, key=lambda score: score.interval[1] - score.interval[0])
    low, high = widest.interval
    yield (
        f"95 % intervals of {widest.scored:,} clips are up to {100 * (high - low):.1f} points"
        f" wide, such as {100 * low:.1f} to {100 * high:.1f}."
    )
