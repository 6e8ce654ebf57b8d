"""What a table of scores does not say by itself: which differences are shown, and which are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.report.comparison import LEVEL, p_text
from pipeline.report.seeds import Group, GroupCell, Verdict, group_rows, verdicts
from pipeline.report.tables import ScoreTable, probe_name


def remarks(table: ScoreTable, found: Sequence[Group]) -> list[str]:
    """Return a sentence per kind of thing that a reader of the numbers alone would take wrongly."""
    said: dict[str, list[str]] = {}  # what -> of which probes
    rows = group_rows(table, found)
    for place, verdict in enumerate(verdicts(table, found)):
        cells = {row.group.name: cell for row in rows if (cell := row.cells[place])}
        for what, whom in [*_of_differences(table, verdict), *_of_answers(table, cells)]:
            said.setdefault(what, []).append(f"{probe_name(verdict.probe)} ({whom})")
    return [f"{what}: {', '.join(probes)}." for what, probes in said.items()]


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


def listed(items: Sequence[str]) -> str:
    """Join with commas and a last `and`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def finding(table: ScoreTable, found: Sequence[Group]) -> str:
    """Say who does best on a label by the first probe, if anybody does, beside what to compare."""
    verdict = verdicts(table, found)[0]
    cells = {r.group.name: cell for r in group_rows(table, found) if (cell := r.cells[0])}
    best = cells[verdict.highest[0]]
    probe, beside = probe_name(verdict.probe), ", ".join(_beside(table, verdict, found, cells))
    sentences = [
        f"On “{table.label}” ({table.classes} classes) {_who(verdict)} by the {probe}: "
        f"{_score(best)} right; {beside}."
    ]
    if best.interval:
        low, high = best.interval
        clips = f"{table.first.scored:,} clip{'s' * (table.first.scored > 1)}"
        sentences.append(f"The 95 % interval of {clips} is {100 * low:.1f} to {100 * high:.1f} %.")
    if len(verdict.highest) == 1 and verdict.p is not None:
        what = (
            "Each difference is shown"
            if verdict.shown
            else f"No difference to {listed(verdict.doubtful)} is shown"
        )
        sentences.append(f"{what} ({verdict.test}, {p_text(verdict.p)}).")
    if best.constant is not None:
        sentences.append(f"The answer is “{best.constant}” for every clip.")
    elif best.above is False:
        sentences.append("That is not shown to be above the commonest class.")
    worse = [
        f"{name} by {-100 * cell.gain:.1f}"
        + ("" if cell.gain_p is None or cell.gain_p < LEVEL else " (no difference is shown)")
        for name, cell in cells.items()
        if cell.gain is not None and cell.gain < 0
    ]
    if worse:
        sentences.append(f"Below the untrained encoder, in points: {listed(worse)}.")
    return " ".join(sentences)


def _who(verdict: Verdict) -> str:
    names = listed(verdict.highest)
    if len(verdict.highest) > 1:
        return f"{names} are level"
    if not verdict.others:
        return f"{names} was scored"
    return f"{names} {'does best' if verdict.shown else 'is highest'}"


def _beside(
    table: ScoreTable, verdict: Verdict, found: Sequence[Group], cells: Mapping[str, GroupCell]
) -> Iterator[str]:
    """What the highest score is to be compared with."""
    baseline = next((g.name for g in found if not g.first.trained and g.name in cells), None)
    if baseline is not None and baseline not in verdict.highest:
        yield f"untrained {_score(cells[baseline])}"
    if table.first.majority is not None:
        yield f"commonest class {table.first.majority:.1%}"
    yield f"chance {table.chance:.1%}"


def _score(cell: GroupCell) -> str:
    """A share in per cent; of several seeds mean and standard deviation."""
    said = f"{cell.top1.mean:.1%}"
    if cell.top1.deviation is not None:
        said += f" (± {100 * cell.top1.deviation:.1f} over {cell.top1.n} seeds)"
    return said
