"""The board: a line per stage, below it one per running job, and below all the errors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.planning.board.jobs import Job, JobEvents, Stage
from pipeline.runtime.progress import ProgressLine, duration

NARROW = 90  # columns: with fewer the bar is short, and the speed stands among the details
FIRST = ("loss", "k-NN")  # fields of a line of progress that are shown before the others
EARLY = 0.02  # the share of a stage before which nothing is said of the time that is left
ERROR_LINES = 6  # of one error; the end of the run shows all of it
PAUSE = 10.0  # seconds between two jobs for which the row of the first one stays


@dataclass(frozen=True)
class Row:
    """A line of the board."""

    name: str
    count: str = ""
    unit: str = ""
    fraction: float | None = None  # None: no bar
    speed: str = ""
    left: str = ""
    details: tuple[str, ...] = ()
    style: str = ""


def board(
    events: JobEvents,
    title: str,
    footer: str,
    size: tuple[int, int],
    *,
    errors_are_told: bool = False,
) -> RenderableType:
    """Return the board as it stands; `size` is that of the terminal, columns and lines.

    `errors_are_told`: below it, at the end, so that the board says no more than how many.
    """
    width, height = size
    errors = [] if errors_are_told else _errors(events, most=max(1, height // 3))
    room = height - 4 - len(errors)  # the head, the footer, an empty line, the cursor's line
    with events.changing:
        stages = list(events.stages.values())
        last = None if errors_are_told else _just_ended(stages)
        rows = _rows(stages, max(1, room), last)
        head = f"{title}  {events.done}/{events.total} jobs"
        failed = sum(len(stage.failed) for stage in events.stages.values())
        head += f", {failed} failed" if failed else ""
    parts: list[RenderableType] = [Text(head, style="bold", no_wrap=True, overflow="ellipsis")]
    parts += [_table(rows, width), *errors]
    return Group(*parts, Text(footer, style="dim", no_wrap=True, overflow="ellipsis"))


def _table(rows: Iterable[Row], width: int) -> Table:
    is_narrow = width < NARROW
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=16 if is_narrow else 28)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, width=8 if is_narrow else 20)
    if not is_narrow:
        table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*_cells(row, is_narrow=is_narrow), style=row.style)
    return table


def _cells(row: Row, *, is_narrow: bool) -> Iterator[RenderableType]:
    yield Text(row.name, no_wrap=True, overflow="ellipsis")
    yield Text(row.count if is_narrow else f"{row.count} {row.unit}".strip())
    if row.fraction is None:
        yield Text()
    else:
        yield ProgressBar(total=1.0, completed=row.fraction, width=8 if is_narrow else 20)
    details = row.details
    if is_narrow:  # after the loss, before all else
        details = (*details[:1], row.speed, *details[1:])
    else:
        yield Text(row.speed)
    yield Text(row.left if is_narrow or not row.left else f"{row.left} left")
    yield Text(", ".join(filter(None, details)), no_wrap=True, overflow="ellipsis")


def _rows(stages: Sequence[Stage], room: int, last: Job | None) -> list[Row]:
    """Return at most `room` rows, those of running jobs, `last` and stages before all others."""
    groups: list[tuple[Row, list[Job]]] = []
    for stage in stages:
        jobs = stage.running or [job for job in stage.jobs if job is last]
        groups.append((_of_stage(stage), jobs if stage.total > 1 else []))
    over = len(groups) - room
    if over > 0:
        groups = _without_idle(groups, stages, over + 1)
    active = sum(bool(jobs) for _, jobs in groups)
    left = room - len(groups)
    rows = []
    for row, jobs in groups:
        rows.append(row)
        if jobs:
            share = max(0, left // active)
            shown = jobs if len(jobs) <= share else jobs[: max(0, share - 1)]
            rows += [_of_job(job) for job in shown]
            if len(jobs) > share > 0:
                rows.append(Row(f"  {len(jobs) - len(shown)} more", style="dim"))
            left -= min(len(jobs), share)
            active -= 1
    return rows[:room]


def _just_ended(stages: Sequence[Stage]) -> Job | None:
    """Return the last job while Snakemake looks for the next one: else the board would jump."""
    jobs = [job for stage in stages for job in stage.jobs]
    if not jobs or any(job.is_running for job in jobs) or all(s.is_done for s in stages):
        return None
    last = max(jobs, key=lambda job: job.ended or 0.0)
    return last if time.time() - (last.ended or 0.0) < PAUSE else None


def _without_idle(
    groups: Sequence[tuple[Row, list[Job]]], stages: Sequence[Stage], over: int
) -> list[tuple[Row, list[Job]]]:
    """Leave out `over` stages in which nothing runs or has failed, finished ones first."""
    pairs = list(zip(groups, stages, strict=True))
    done = [index for index, (_, stage) in enumerate(pairs) if stage.is_done]
    later = [index for index, (_, stage) in enumerate(pairs) if not stage.jobs]
    omitted = {*(done + later[::-1])[:over]}
    kept = [group for index, group in enumerate(groups) if index not in omitted]
    note = Row(f"{len(omitted)} stages", details=("done, or not begun",), style="dim")
    return [*kept, (note, [])] if omitted else kept


def _of_stage(stage: Stage) -> Row:
    row = Row(stage.rule, f"{stage.done}/{stage.total}", fraction=stage.fraction)
    lines = [job.progress for job in stage.running if job.progress]
    if stage.is_done:
        return replace(row, details=(f"in {duration(stage.seconds)}",))
    if not stage.jobs:
        return replace(row, style="dim")
    ended = (("failed", stage.failed), ("stopped", stage.stopped))
    failed = tuple(f"{len(jobs)} {word}" for word, jobs in ended if jobs)
    row = replace(row, speed=_speed(lines), style="red" if stage.failed else "")
    if stage.total == 1 and lines:
        return replace(row, left=lines[0].left, details=_details(lines[0]))
    if stage.total == 1 and stage.running:
        return replace(row, details=(_without_progress(stage.running[0]),))
    if not stage.running:
        return replace(row, details=failed)
    left = ""
    if stage.fraction > EARLY:
        left = duration(stage.seconds * (1 / stage.fraction - 1))
    return replace(row, left=left, details=(*failed, f"{len(stage.running)} running"))


def _of_job(job: Job) -> Row:
    name = f"  {job.part}"
    if not job.is_running:
        word = "failed" if job.failed else "done"
        return Row(
            name,
            fraction=None if job.failed else 1.0,
            details=(f"{word} in {duration(job.seconds)}",),
        )
    if job.progress is None:
        return Row(name, details=(_without_progress(job),))
    line = job.progress
    count = f"{line.done:,}/{line.total:,}"
    return Row(name, count, line.unit, line.fraction, _speed([line]), line.left, _details(line))


def _without_progress(job: Job) -> str:
    return f"for {duration(job.seconds)}"


def _speed(lines: Sequence[ProgressLine]) -> str:
    """Return the sum of the speeds, where they count the same."""
    units = {line.rate_unit for line in lines}
    if len(units) != 1:
        return ""
    return f"{sum(line.rate for line in lines):,.1f} {units.pop()}/s"


def _details(line: ProgressLine) -> tuple[str, ...]:
    """Return the fields of a line of progress, what matters most first."""
    return tuple(sorted(line.fields, key=lambda field: not field.startswith(FIRST)))


def _errors(events: JobEvents, most: int) -> list[Text]:
    """Return the last errors, in no more than about `most` lines of the terminal."""
    texts = [f"{job.name}: {message or 'failed'}" for job, message in events.failed()]
    lines: list[str] = []
    for text in [*texts, *events.messages]:
        own = text.splitlines()
        cut = [*own[: ERROR_LINES - 1], "..."] if len(own) > ERROR_LINES else own
        lines += cut
    return [Text(line, style="red", no_wrap=True, overflow="ellipsis") for line in lines[-most:]]
