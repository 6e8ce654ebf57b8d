"""The table of runs on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.reporting import benchmarks
from pipeline.reporting.results import Results
from pipeline.reporting.seeds import GroupRow, Spread, group_rows, groups
from pipeline.reporting.tables import Cell, Row, ScoreTable, notes, probe_name, score_tables

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
    for table in tables:
        console.print(_rich_table(table))
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


def _rich_table(table: ScoreTable) -> Table:
    title = f"{table.label}: {table.classes} classes, split {table.split}, % right (* best)"
    shown = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    shown.add_column("run", no_wrap=True)
    for probe in table.probes:
        shown.add_column(Text(f"{probe_name(probe)}\ntop-1"), justify="right")
        if table.with_top5:
            shown.add_column(Text("\ntop-5"), justify="right")
    shown.add_column("scored", justify="right")
    for row in table.rows:
        shown.add_row(*_row(row, table.with_top5))
    for mean in group_rows(table, groups([row.run for row in table.rows])):
        if mean.group.spread:
            shown.add_row(*_mean(mean, table.with_top5), style="italic")
    chance = [_percent(table.chance, False)]
    if table.with_top5:
        chance.append(_percent(min(1.0, 5 / table.classes), False))
    shown.add_row(Text("chance"), *chance * len(table.probes), "", style="dim")
    return shown


def _benchmark(table: benchmarks.Table) -> Table:
    title = Text(f"{table.title}: {table.unit} (* best)")
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


def _row(row: Row, with_top5: bool) -> list[Text]:
    name = row.run.name + ("" if row.run.trained else " (untrained)")
    texts = [Text(name)]
    for cell in row.cells:
        texts += _cell(cell, with_top5)
    return [*texts, Text(row.scored)]


def _mean(row: GroupRow, with_top5: bool) -> list[str]:
    """Mean and standard deviation over the seeds of a run."""
    texts = [f"{row.group.name}, {len(row.group.runs)} seeds"]
    for cell in row.cells:
        texts.append(_spread(cell.top1 if cell else None))
        if with_top5:
            texts.append(_spread(cell.top5 if cell else None))
    return [*texts, row.scored]


def _spread(spread: Spread | None) -> str:
    if spread is None or spread.deviation is None:
        return ""
    return f"{100 * spread.mean:.1f} ± {100 * spread.deviation:.1f} "


def _cell(cell: Cell | None, with_top5: bool) -> list[Text]:
    if cell is None:
        return [Text("skipped", style="dim"), Text("")] if with_top5 else [Text("skipped")]
    texts = [_percent(cell.score.top1, cell.best1)]
    if with_top5:
        texts.append(Text("") if cell.top5 is None else _percent(cell.top5, cell.best5))
    return texts


def _percent(share: float, best: bool) -> Text:
    """One decimal; a star as well as bold, since a log file has no bold."""
    return Text(f"{100 * share:.1f}{'*' if best else ' '}", style="bold green" if best else "")
