"""The page: everything of an experiment in one HTML file that asks for nothing from outside.

Text that comes from files (ids, reasons, class names) reaches HTML through Jinja's autoescaping
alone, and scripts through `script_json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.evaluation.registry import BENCHMARKS
from pipeline.evaluation.table import Table
from pipeline.report import (
    comparison,
    data_sets,
    figures,
    matrices,
    origin,
    paper,
    remarks,
    seeds,
    shown_tables,
    summary,
    tables,
    time_chart,
    times,
    trials,
)
from pipeline.report.drawn_curves import COLOURS
from pipeline.report.formats import TEMPLATES, census_line, environment
from pipeline.report.gallery import Gallery
from pipeline.report.neighbours import NeighbourGroup
from pipeline.report.results import Results
from pipeline.report.segments import OverlayGroup
from pipeline.report.strips import StripGroup

LOST_SHOWN = 500  # rows; the rest is in lost.csv


@dataclass(frozen=True)
class ClassRow:
    """Share of right answers for one class: `clips` and, per run, the share (None: no answer)."""

    name: str
    clips: int
    shares: tuple[float | None, ...]


@dataclass(frozen=True)
class ClassTable:
    """Per-class accuracy of one label for all runs that have it."""

    label: str
    probe: str
    runs: tuple[str, ...]
    rows: tuple[ClassRow, ...]


@dataclass(frozen=True)
class Section:
    """A part of the page that has a place in its contents."""

    id: str
    title: str  # in the list of contents
    template: str
    charts: bool = False


@dataclass(frozen=True)
class Pictures:
    """What was drawn: prototypes, masks, segmented clips, neighbours; and what could not be."""

    galleries: Sequence[Gallery] = ()
    strips: Sequence[StripGroup] = ()
    overlays: Sequence[OverlayGroup] = ()
    neighbours: Sequence[NeighbourGroup] = ()
    failures: Mapping[str, str] = field(default_factory=dict)  # what -> why


@dataclass(frozen=True)
class Rendered:
    """The page, and each of its sections as a page of its own."""

    page: str
    sections: Mapping[str, str]  # id -> HTML


def render(results: Results, pictures: Pictures) -> Rendered:
    """Return the experiment as HTML: all on one page, and section by section."""
    values = _values(results, pictures)
    sections = _sections(values)
    values |= {
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        "script": Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),  # noqa: S704
    }

    def filled(template: str, shown: Sequence[Section]) -> str:
        charts = any(section.charts for section in shown)
        return (
            environment()
            .get_template(template)
            .render(**values, sections=shown, plotly=plotly_script() if charts else "")
        )

    return Rendered(
        filled("report.html", sections),
        {section.id: filled("section.html", [section]) for section in sections},
    )


def _values(results: Results, pictures: Pictures) -> dict[str, Any]:
    """Everything that the templates show."""
    groups = seeds.seed_groups(results.runs)
    colours = seeds.colours(groups, COLOURS)
    stages = times.stage_times(results)
    benchmarks = shown_tables.of_benchmarks(results)
    firsts = replace(results, runs=tuple(group.first for group in groups))
    return {
        "results": results,
        "paragraph": summary.paragraph(results),
        "level": comparison.LEVEL,
        "tests": f"{comparison.CLIPS}; {comparison.SEEDS} where there are several",
        "several_seeds": any(group.has_several_seeds for group in groups),
        "groups_by_name": {group.name: group for group in groups},
        "score_tables": shown_tables.of_scores(results),
        "benchmarks": benchmarks,
        "benchmark_charts": {
            shown.grouped.id: figures.of_table(shown.single, results.runs) for shown in benchmarks
        },
        "has_paper_rows": any(paper.lines(results, t) for t in tables.score_tables(results)),
        "notes": tables.notes(results),
        "overview": data_sets.overview(results),
        "blocks": data_sets.blocks(results),
        "colours": colours,
        "split_uses": split_uses(results),
        "census": ranked(results.index.census),
        "census_line": census_line(results.index.census),
        "mixtures": list(mixtures(results)),
        "lost": results.index.lost[:LOST_SHOWN],
        "curves": figures.curves(results),
        "trial_charts": trials.figures(results),
        "trial_counts": trials.counts(results.params.sweep) if results.params.sweep else "",
        "training_remarks": remarks.of_training(results.trained),
        "confusions": matrices.confusions(firsts),
        "class_tables": class_tables(results),
        "pictures": pictures,
        "stages": stages,
        "time_chart": time_chart.chart(stages, groups),
        **origin.facts(results),
    }


def _sections(values: Mapping[str, Any]) -> list[Section]:
    """Return the sections that there is something to show in, in the page's order."""
    pictures: Pictures = values["pictures"]
    has_classes = values["class_tables"] or values["confusions"]
    charts = bool(values["confusions"])
    timed = values["time_chart"] is not None
    sections = [
        (values["overview"], Section("overview", "All data sets", "overview.html")),
        (True, Section("runs", "Runs", "scores.html")),
        (values["trial_charts"], Section("trials", "Trials", "trials.html", charts=True)),
        *((True, section) for section in (*_of_benchmarks(values), *_of_further_data(values))),
        (True, Section("census", "Clips", "census.html")),
        (values["curves"], Section("curves", "Curves", "curves.html", charts=True)),
        (pictures.galleries, Section("prototypes", "Prototypes", "prototypes.html")),
        (pictures.strips or pictures.overlays, Section("masks", "Masks", "masks.html")),
        (pictures.neighbours, Section("neighbours", "Neighbours", "neighbours.html")),
        (has_classes, Section("classes", "Classes", "classes.html", charts=charts)),
        (True, Section("time", "Time", "time.html", charts=timed)),
        (True, Section("provenance", "Provenance", "provenance.html")),
    ]
    return [section for shown, section in sections if shown]


def _of_benchmarks(values: Mapping[str, Any]) -> Iterator[Section]:
    for table in (shown.grouped for shown in values["benchmarks"]):
        charts = bool(values["benchmark_charts"][table.id])
        yield Section(table.id, _title(table), "benchmark.html", charts)


def _of_further_data(values: Mapping[str, Any]) -> Iterator[Section]:
    for block in values["blocks"]:
        title, charts = f"On {block.results.data.name}", any(block.charts.values())
        yield Section(block.id, title, "further_data.html", charts)


def _title(table: Table) -> str:
    """A benchmark's title as it begins a line; that of a table beside one is the table's."""
    title = BENCHMARKS[table.id].title if table.id in BENCHMARKS else table.title
    return f"{title[:1].upper()}{title[1:]}"


def split_uses(results: Results) -> dict[str, str]:
    """Say of every split what its clips are used for."""
    uses: dict[str, list[str]] = {split: [] for split in results.index.splits}
    is_pretrained = any(run.settings.trainer.epochs for run in results.runs)
    for split in results.params.data.pretrain_splits if is_pretrained else ():
        uses.get(split, []).append("pretraining")
    uses.get("train", []).append("what probes learn from")
    uses.get("val", []).append("choosing probes’ settings, scores to compare trials by")
    scored = results.params.evaluation.test
    uses.get("test", []).append("scores" if scored else "nothing (evaluation.test=false)")
    return {split: ", ".join(texts) or "nothing" for split, texts in uses.items()}


def mixtures(results: Results) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield run, column, value and what `pretrain.json` says, of each component of a mixture."""
    for run in results.trained:
        told: Mapping[str, Any] = run.pretrained.get("mixture") or {"components": {}}
        for name, part in told["components"].items():
            yield run.name, told["column"], name, part


def ranked(census: Mapping[str, int]) -> dict[str, int]:
    """Put what is there first, then the losses, the commonest first."""
    return dict(sorted(census.items(), key=lambda item: (item[0] != "ok", -item[1], item[0])))


def plotly_script() -> Markup:
    """Return plotly.js, the copy that its Python package ships."""
    text: str = get_plotlyjs()
    if "</script" in text.lower():
        raise ValueError("this release of plotly.js cannot stand inside a script element")
    return Markup(text)  # noqa: S704


def class_tables(results: Results) -> list[ClassTable]:
    """Merge the runs' per-class counts, a table per label and probe."""
    counts: dict[tuple[str, str], dict[str, dict[str, dict[str, int]]]] = {}
    for run in results.runs:
        for details in run.details:
            if details.per_class:
                here = counts.setdefault((details.label, details.probe), {})
                here[run.name] = details.per_class
    return [_class_table(label, probe, runs) for (label, probe), runs in counts.items()]


def _class_table(
    label: str, probe: str, runs: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> ClassTable:
    clips = {name: each["clips"] for counts in runs.values() for name, each in counts.items()}
    rows = []
    for name in sorted(clips):
        cells = (counts.get(name) for counts in runs.values())
        shares = (
            each["right"] / each["clips"] if each and each["clips"] else None for each in cells
        )
        rows.append(ClassRow(name, clips[name], tuple(shares)))
    return ClassTable(label, probe, tuple(runs), tuple(rows))
