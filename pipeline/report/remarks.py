"""What a table of scores does not say by itself: which differences are shown, and which are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.report.comparison import p_text
from pipeline.report.seeds import Group, GroupCell, Verdict, group_rows, verdicts
from pipeline.report.tables import ScoreTable, probe_name


def remarks(table: ScoreTable, groups: Sequence[Group]) -> list[str]:
    """Return a sentence per kind of thing that a reader of the numbers alone would take wrongly."""
    probes_of: dict[str, list[str]] = {}  # remark -> probes that it is true of
    rows = group_rows(table, groups)
    for place, verdict in enumerate(verdicts(table, groups)):
        cells = {row.group.name: cell for row in rows if (cell := row.cells[place])}
        for what, whom in [*_of_differences(table, verdict), *_of_answers(table, cells)]:
            probes_of.setdefault(what, []).append(f"{probe_name(verdict.probe)} ({whom})")
    return [f"{what}: {', '.join(probes)}." for what, probes in probes_of.items()]


def _of_differences(table: ScoreTable, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What a test says of the highest, and of whom; nothing of one run alone, nor of val."""
    names = ", ".join(verdict.highest)
    if table.beside or len(verdict.highest) + len(verdict.others) < 2:
        return
    if len(verdict.highest) > 1:
        yield "The highest are level", names
    elif verdict.p is None:
        yield "Whether the highest is so by more than chance was not tested", names
    elif verdict.shown:
        yield f"Better than every other run by {verdict.test}", f"{names}, {p_text(verdict.p)}"
    else:
        beside = f"{names} beside {', '.join(verdict.doubtful)}, {p_text(verdict.p)}"
        yield f"No difference of the highest is shown by {verdict.test}", beside


def _of_answers(table: ScoreTable, cells: Mapping[str, GroupCell]) -> Iterator[tuple[str, str]]:
    """What is no better than an answer that looks at no clip, and of whom."""
    same = [f"{name} “{c.constant}”" for name, c in cells.items() if c.constant is not None]
    if same:
        yield "One answer to every clip", ", ".join(same)
    below = [name for name, c in cells.items() if c.above is False and c.constant is None]
    if below:
        share = table.first.majority
        yield f"Not shown to be above the commonest class ({share:.1%})", ", ".join(below)
