"""The table of runs on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.report import benchmarks
from pipeline.report.remarks import remarks
from pipeline.report.results import Results
from pipeline.report.seeds import Group, GroupRow, Spread, alone, group_rows, groups
from pipeline.report.tables import ScoreTable, notes, probe_name, score_tables

SHOWN_REASONS = 12  # lines; the page has all


def census_line(census: dict[str, int]) -> str:
    """Say what became of the clips: `18 of 25 ok, 7 lost: corrupt 3, too short 2, ...`."""
    total, good = sum(census.values()), census.get("ok", 0)
    if good == total:
        return f"{total:,} ok"
    lost = {name: count for name, count in census.items() if name != "ok"}
    ranked = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in ranked)
    return f"{good:,} of {total:,} ok, {total - good:,} lost: {named}"


def show(results: Results, console: Console) -> None:
    """Print a table per label, what was skipped and why, and the census."""
    console.print()
    tables = score_tables(results)
    found = groups(results.runs)
    for table in tables:
        console.print(_rich_table(table, found))
        for remark in [*remarks(table, found), _interval(table)]:
            console.print(Text(remark), soft_wrap=True)
    if not tables:
        console.print("no score: every probe was skipped")
    for benchmark in benchmarks.tables(results):
        console.print(_benchmark(benchmark))
    said = notes(results)
    for note in said[:SHOWN_REASONS]:
        runs = "" if len(note.runs) == len(results.runs) else f" ({', '.join(note.runs)})"
        what = "skipped" if note.skipped else "note"
        line = f"{what}: {note.label}, {probe_name(note.probe)}{runs}: {note.reason}"
        console.print(Text(line), soft_wrap=True)
    if len(said) > SHOWN_REASONS:
        console.print(f"... and {len(said) - SHOWN_REASONS} more: see the report")
    console.print(Text(f"clips: {census_line(results.index.census)}"), soft_wrap=True)


def _rich_table(table: ScoreTable, found: Sequence[Group]) -> Table:
    title = f"{table.label}: {table.classes} classes, split {table.split}, % right"
    title += ", settings were chosen on it" if table.beside else " (* shown to be best)"
    shown = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    shown.add_column("run", no_wrap=True)
    for probe in table.probes:
        shown.add_column(Text(f"{probe_name(probe)}\ntop-1"), justify="right")
        if table.with_top5:
            shown.add_column(Text("\ntop-5"), justify="right")
    shown.add_column("scored", justify="right")
    grouped = group_rows(table, found)
    single = {row.group.name: row for row in grouped if not row.group.spread}
    for row in group_rows(table, alone([row.run for row in table.rows])):
        shown.add_row(*_row(single.get(row.group.name, row), table.with_top5))
    for row in grouped:
        if row.group.spread:
            shown.add_row(*_row(row, table.with_top5), style="italic")
    chance = [_percent(table.chance)]
    majority = [_percent(table.first.majority)]
    if table.with_top5:
        chance.append(_percent(min(1.0, 5 / table.classes)))
        majority.append("")
    shown.add_row("chance", *chance * len(table.probes), "", style="dim")
    if table.first.majority is not None:
        shown.add_row("commonest class", *majority * len(table.probes), "", style="dim")
    return shown


def _interval(table: ScoreTable) -> str:
    """How far the number of clips alone leaves a score open: the widest interval of the table."""
    cells = [cell for row in table.rows for cell in row.cells if cell]
    widest = max(cells, key=lambda cell: cell.interval[1] - cell.interval[0])
    low, high = widest.interval
    return (
        f"95 % intervals of {widest.score.scored:,} clips are up to {100 * (high - low):.1f} points"
        f" wide, such as {100 * low:.1f} to {100 * high:.1f}."
    )


def _benchmark(table: benchmarks.Table) -> Table:
    title = Text(f"{table.title}: {table.unit} (* best number; no test is made)")
    shown = Table(
        title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", padding=(0, 0, 0, 1)
    )
    shown.add_column("run", no_wrap=True)
    for column in table.columns:
        shown.add_column(Text(_heading(table, column)), justify="right", overflow="fold")
    shown.add_column("scored", justify="right", no_wrap=True)
    for line in (*table.runs, *table.others):
        is_run = line in table.runs
        cells = [
            f"{table.shown(place, value)}{'*' if is_run and table.is_best(place, value) else ' '}"
            for place, value in enumerate(line.values)
        ]
        texts = [Text(cell, style="bold green" if cell.endswith("*") else "") for cell in cells]
        shown.add_row(Text(line.name), *texts, line.scored, style="" if is_run else "dim")
    return shown


def _heading(table: benchmarks.Table, column: benchmarks.Column) -> str:
    """Two lines where the group tells columns apart; elsewhere the terminal has no room for it."""
    titles = [each.title for each in table.columns]
    return column.title if len(set(titles)) == len(titles) else f"{column.group}\n{column.title}"


def _row(row: GroupRow, with_top5: bool) -> list[Text]:
    """A run's scores; of several seeds mean and standard deviation."""
    name = row.group.name + ("" if row.group.first.trained else " (untrained)")
    if row.group.spread:
        name += f", {len(row.group.runs)} seeds"
    texts = [Text(name)]
    for cell in row.cells:
        if cell is None:
            texts += [Text("skipped", style="dim"), *[Text("")] * with_top5]
            continue
        # A star as well as bold, since a log file has no bold.
        star, style = ("*", "bold green") if cell.best else (" ", "")
        texts.append(Text(_spread(cell.top1) + star, style=style))
        if with_top5:
            texts.append(Text("" if cell.top5 is None else _spread(cell.top5)))
    return [*texts, Text(row.scored)]


def _spread(spread: Spread) -> str:
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.1f}"
    return _percent(spread.mean) + deviation


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
