"""What further data sets add to the report: a block for each, and one table of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.configuration.schema import Params
from pipeline.evaluation.recognition import cost
from pipeline.evaluation.table import Cell, Column, Line, Table
from pipeline.report import figures, shown_tables, tables
from pipeline.report.drawn_curves import Figure
from pipeline.report.results import Results, RunResult, Score
from pipeline.report.seeds import Group, seed_groups
from pipeline.report.shown_tables import ShownTable

CHOSEN = ("C", "k", "rate")  # what probes choose on val


@dataclass(frozen=True)
class Block:
    """What the page shows of one further data set."""

    results: Results
    scores: Sequence[ShownTable]
    benchmarks: Sequence[ShownTable]
    charts: Mapping[str, Sequence[Figure]]  # by the benchmark's table
    notes: Sequence[tables.Note]

    @property
    def id(self) -> str:
        return f"data-{self.results.data.name}"


def blocks(results: Results) -> list[Block]:
    """Return a block per further data set."""
    return [_block(further) for further in results.further]


def _block(results: Results) -> Block:
    benchmarks = shown_tables.of_benchmarks(results)
    charts = {
        shown.grouped.id: [
            replace(figure, id=f"{results.data.name}-{figure.id}")
            for figure in figures.of_table(shown.single, results.runs)
        ]
        for shown in benchmarks
    }
    scores, notes = shown_tables.of_scores(results), tables.notes(results)
    return Block(results, scores, benchmarks, charts, notes)


def overview(results: Results) -> Table | None:
    """Return all encoders by all data sets and probes; None of one data set."""
    if not results.further:
        return None
    groups = seed_groups(results.runs)
    parts = [part for each in (results, *results.further) for part in _of_data(each, groups)]
    parts += list(_cost(groups))
    cells_by_group = {g.name: tuple(cells[g.name] for _, cells in parts) for g in groups}
    lines = [
        Line(
            group.name,
            cells=cells_by_group[group.name],
            seeds=len(group.runs),
            description=_input(results.params, group.first),
        )
        for group in groups
    ]
    return Table(
        id="overview",
        title="All data sets",
        unit="top-1, %",
        remark="Each data set has labels, splits and clips of its own; what a probe chooses (below "
        "its score) it chooses on the val split of this data set, or on a part of train where "
        "there is none. Bold is what a test shows to be best, as in the table of its data set.",
        columns=tuple(column for column, _ in parts),
        runs=tuple(lines),
    )


def _input(params: Params, run: RunResult) -> str:
    """Say which clips an encoder takes, in which tubes, and how another's pixels are normalised."""
    clip, model = params.clip_of(run.name), run.settings.model
    chosen = f"stride {clip.stride}" if clip.sampling == "dense" else "one of each segment"
    texts = [f"{clip.frames} frames of {clip.size}×{clip.size} pixels", chosen]
    texts += [f"tubes of {'×'.join(map(str, model.tube))}"]
    if model.network is not None:
        mean, std = (
            "/".join(f"{value:.2f}" for value in values)
            for values in (model.network.mean, model.network.std)
        )
        texts += [f"mean {mean}, deviation {std}"]
        texts += ["pooled by itself"] if model.network.pooling == "own" else []
    return ", ".join(texts)


def _of_data(
    results: Results, groups: Sequence[Group]
) -> Iterator[tuple[Column, Mapping[str, Cell]]]:
    """Yield the top-1 of each label and probe on one data set: a column, and the groups' cells."""
    for shown in shown_tables.of_scores(results):
        if shown.scores is None or shown.scores.beside:
            continue
        lines = {line.name: shown.grouped.cells(line) for line in shown.grouped.runs}
        places = [n for n, column in enumerate(shown.grouped.columns) if column.title == "top-1"]
        scores = {row.run.name: row.scores for row in shown.scores.rows}
        for number, place in enumerate(places):
            column = Column(
                f"{results.data.name}: {shown.scores.label}", shown.grouped.columns[place].group
            )
            cells = {}
            for group in groups:
                of_group = [s for name in group.names if (s := scores[name][number])]
                cell = lines[group.name][place]
                notes = (*cell.notes, *_census_and_choice(of_group))
                cells[group.name] = replace(cell, notes=notes)
            yield column, cells


def _census_and_choice(scores: Sequence[Score]) -> Iterator[tuple[str, str]]:
    """Yield on how many clips of how many, and what was chosen on which clips."""
    if counts := list(dict.fromkeys(score.counts for score in scores)):
        yield "; ".join(counts), "clips that were scored, of all that have this label"
    choices = dict.fromkeys(
        (f"{key} {score.chosen[key]}", str(score.chosen.get("chosen_on", "nothing")))
        for score in scores
        for key in CHOSEN
        if key in score.chosen
    )
    for choice, judge in choices:
        yield choice, f"chosen on {judge}"


def _cost(groups: Sequence[Group]) -> Iterator[tuple[Column, Mapping[str, Cell]]]:
    """Yield what an encoder costs, as far as its stages noted it."""
    parameters = {group.name: _parameters(group.first) for group in groups}
    if any(cell.value for cell in parameters.values()):
        yield Column("cost", "parameters, M", is_error=True), parameters
    bodies = {group.name: group.first.results.get("evaluation", {}) for group in groups}
    if (costs := cost.table(bodies)) is None:
        return
    lines = {line.name: line for line in costs.runs}
    for place, title in ((1, "operations, 10^9"), (2, "ms a clip")):
        values = {group.name: _value(lines.get(group.name), place) for group in groups}
        cells = {n: Cell(costs.shown(place, value), value) for n, value in values.items()}
        yield Column("cost", title, is_error=True), cells


def _value(line: Line | None, place: int) -> float | None:
    return None if line is None else line.values[place]


def _parameters(run: RunResult) -> Cell:
    count = run.pretrained.get("encoder_parameters")
    return Cell("–") if count is None else Cell(f"{count / 1e6:.3g}", count / 1e6)
