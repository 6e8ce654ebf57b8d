"""The tables of scores on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.table import Table as BenchmarkTable
from pipeline.report import benchmarks
from pipeline.report.formats import percent
from pipeline.report.remarks import remarks
from pipeline.report.results import Results
from pipeline.report.seeds import (
    Group,
    GroupRow,
    MeanStd,
    group_rows,
    seed_groups,
    single_groups,
)
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
    groups = seed_groups(results.runs)
    for table in tables:
        console.print(_score_table(table, groups))
        for remark in [*remarks(table, groups), _interval(table)]:
            console.print(Text(remark), soft_wrap=True)
    if not tables:
        console.print("no score: every probe was skipped")
    for benchmark in benchmarks.tables(results):
        console.print(_benchmark(benchmark))
    reasons = notes(results)
    for note in reasons[:SHOWN_REASONS]:
        runs = "" if len(note.runs) == len(results.runs) else f" ({', '.join(note.runs)})"
        what = "skipped" if note.skipped else "note"
        line = f"{what}: {note.label}, {probe_name(note.probe)}{runs}: {note.reason}"
        console.print(Text(line), soft_wrap=True)
    if len(reasons) > SHOWN_REASONS:
        console.print(f"... and {len(reasons) - SHOWN_REASONS} more: see the report")
    console.print(Text(f"clips: {census_line(results.index.census)}"), soft_wrap=True)


def _table(title: str, columns: Sequence[str], padding: tuple[int, int, int, int]) -> Table:
    """Return a table of runs with columns of numbers, and how many clips were scored."""
    table = Table(
        title=Text(title),
        box=SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=padding,
    )
    table.add_column("run", no_wrap=True)
    for column in columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    table.add_column("scored", justify="right", no_wrap=True)
    return table


def _number(text: str, *, best: bool) -> Text:
    # A star as well as bold, since a log file has no bold.
    return Text(f"{text}*", style="bold green") if best else Text(f"{text} ")


def _score_table(table: ScoreTable, groups: Sequence[Group]) -> Table:
    title = f"{table.label}: {table.classes} classes, split {table.split}, % right"
    title += ", settings were chosen on it" if table.beside else " (* shown to be best)"
    columns = []
    for probe in table.probes:
        columns += [f"{probe_name(probe)}\ntop-1", *["\ntop-5"] * table.with_top5]
    shown = _table(title, columns, (0, 1, 0, 1))
    grouped = group_rows(table, groups)
    single = {row.group.name: row for row in grouped if not row.group.has_several_seeds}
    for row in group_rows(table, single_groups([row.run for row in table.rows])):
        shown.add_row(*_score_row(single.get(row.group.name, row), table.with_top5))
    for row in grouped:
        if row.group.has_several_seeds:
            shown.add_row(*_score_row(row, table.with_top5), style="italic")
    chance, majority = [percent(table.chance)], [percent(table.first.majority)]
    if table.with_top5:
        chance.append(percent(min(1.0, 5 / table.classes)))
        majority.append("")
    shown.add_row("chance", *chance * len(table.probes), "", style="dim")
    if table.first.majority is not None:
        shown.add_row("commonest class", *majority * len(table.probes), "", style="dim")
    return shown


def _score_row(row: GroupRow, with_top5: bool) -> list[Text]:
    """A run's scores; of several seeds mean and standard deviation."""
    name = row.group.name + ("" if row.group.first.trained else " (untrained)")
    if row.group.has_several_seeds:
        name += f", {len(row.group.runs)} seeds"
    texts = [Text(name)]
    for cell in row.cells:
        if cell is None:
            texts += [Text("skipped", style="dim"), *[Text("")] * with_top5]
            continue
        texts.append(_number(_mean_std(cell.top1), best=cell.best))
        if with_top5:
            texts.append(Text("" if cell.top5 is None else _mean_std(cell.top5)))
    return [*texts, Text(row.scored)]


def _mean_std(value: MeanStd) -> str:
    return percent(value.mean) + ("" if value.std is None else f" ± {percent(value.std)}")


def _interval(table: ScoreTable) -> str:
    """How far the number of clips alone leaves a score open: the widest interval of the table."""
    cells = [cell for row in table.rows for cell in row.cells if cell]
    widest = max(cells, key=lambda cell: cell.interval[1] - cell.interval[0])
    low, high = widest.interval
    return (
        f"95 % intervals of {widest.score.scored:,} clips are up to {100 * (high - low):.1f} points"
        f" wide, such as {100 * low:.1f} to {100 * high:.1f}."
    )


def _benchmark(table: BenchmarkTable) -> Table:
    # Two lines where the group tells columns apart; elsewhere the terminal has no room for it.
    titles = [column.title for column in table.columns]
    if len(set(titles)) < len(titles):
        titles = [f"{column.group}\n{column.title}" for column in table.columns]
    title = f"{table.title}: {table.unit} (* best number; no test is made)"
    shown = _table(title, titles, (0, 0, 0, 1))
    for line in (*table.runs, *table.others):
        is_run = line in table.runs
        cells = [
            _number(table.shown(place, value), best=is_run and table.is_best(place, value))
            for place, value in enumerate(line.values)
        ]
        shown.add_row(Text(line.name), *cells, line.scored, style="" if is_run else "dim")
    return shown
