"""The page: everything of an experiment in one HTML file that asks for nothing from outside.

Text that comes from files (ids, reasons, class names) reaches HTML through Jinja's autoescaping
alone, and scripts through `script_json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.files import read_json
from pipeline.progress import duration
from pipeline.provenance import provenance
from pipeline.reporting import benchmarks, figures, summary, tables
from pipeline.reporting.gallery import Gallery
from pipeline.reporting.results import Results, RunResult
from pipeline.reporting.segments import Overlay
from pipeline.reporting.strips import StripGroup
from pipeline.reporting.terminal import census_line

TEMPLATES = Path(__file__).parent / "templates"
LOST_SHOWN = 500  # rows; the rest is in lost.csv
COLOURS = 8  # that report.css defines for runs


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


def render(
    results: Results,
    galleries: Sequence[Gallery],
    strips: Sequence[StripGroup],
    overlays: Sequence[Overlay],
    failures: Mapping[str, str],
) -> str:
    """Return the page as HTML.

    Args:
        results: the experiment.
        galleries: prototypes, one gallery per run that has some.
        strips: masks.
        overlays: segmented clips.
        failures: pictures that could not be drawn: what, and why.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "bytes": _bytes,
        "duration": duration,
        "probe": tables.probe_name,
        "script_json": script_json,
        "listed": summary.listed,
    }
    curves, confusions = figures.curves(results), figures.confusions(results)
    return environment.get_template("report.html").render(
        results=results,
        paragraph=summary.paragraph(results),
        tables=tables.score_tables(results),
        notes=tables.notes(results),
        colours={run.name: place % COLOURS for place, run in enumerate(results.runs)},
        census=ranked(results.index.census),
        census_line=census_line(results.index.census),
        lost=results.index.lost[:LOST_SHOWN],
        curves=curves,
        confusions=confusions,
        class_tables=class_tables(results),
        galleries=galleries,
        strips=strips,
        overlays=overlays,
        benchmarks=benchmarks.tables(results),
        failures=failures,
        **_provenance(results),
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),  # noqa: S704
        plotly=plotly_script() if curves or confusions else "",
    )


def ranked(census: Mapping[str, int]) -> dict[str, int]:
    """Put what is there first, then the losses, the commonest first."""
    return dict(sorted(census.items(), key=lambda item: (item[0] != "ok", -item[1], item[0])))


def script_json(text: str) -> Markup:
    """Make JSON safe inside a script element: `<` cannot end it, nor `<!--` begin a comment."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704


def plotly_script() -> Markup:
    """Return plotly.js, the copy that its Python package ships."""
    text: str = get_plotlyjs()
    if "</script" in text.lower():
        raise ValueError("this release of plotly.js cannot stand inside a script element")
    return Markup(text)  # noqa: S704


def class_tables(results: Results) -> list[ClassTable]:
    """Merge the runs' per-class counts, a table per label and probe."""
    found: dict[tuple[str, str], dict[str, dict[str, dict[str, int]]]] = {}
    for run in results.runs:
        for details in run.details:
            if details.per_class:
                here = found.setdefault((details.label, details.probe), {})
                here[run.name] = details.per_class
    return [_class_table(label, probe, runs) for (label, probe), runs in found.items()]


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


def _provenance(results: Results) -> dict[str, Any]:
    here = provenance()
    runs = {run.name: run.pretrained.get("provenance") or {} for run in results.runs}
    machines = [each.get("hardware") or {} for each in runs.values()]
    versions = [each.get("packages") or {} for each in runs.values()]
    codes = {name: _code(each.get("code") or {}) for name, each in runs.items()}
    source = read_json(results.data.manifest) if results.data.manifest.is_file() else {}
    values = results.params.model_dump(mode="json")
    return {
        "configuration": yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        "code": _code(here["code"]),
        "run_codes": codes,
        "hardware": _distinct([*machines, here["hardware"]]),
        "packages": _merged([*versions, here["packages"]]),
        "seconds": [_seconds(run) for run in results.runs],
        "source": {"file": "", "sha256": ""} | source["source"] if source else {},
    }


def _code(version: Mapping[str, Any]) -> str:
    """Say which code it was: a git revision, and a hash of the sources that tells edits apart."""
    revision, digest = version.get("revision"), version.get("source_sha256") or "unknown"
    if not revision:
        return f"sources {digest[:16]} (not in git)"
    edited = ", with uncommitted edits" if version.get("dirty") else ""
    return f"git {revision[:12]}{edited}, sources {digest[:16]}"


def _seconds(run: RunResult) -> tuple[str, float | None, float | None]:
    return run.name, run.pretrained.get("seconds"), run.evaluated.get("seconds")


def _distinct(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return each machine once, in words."""
    said = []
    for machine in machines:
        if not machine:
            continue
        accelerators = ", ".join(machine.get("accelerators") or []) or "no accelerator"
        parts = [
            str(machine.get("cpu") or "unknown processor"),
            f"{machine.get('cores')} cores",
            f"{machine.get('memory_gib')} GiB",
            accelerators,
            str(machine.get("system")),
        ]
        said.append(", ".join(parts))
    return list(dict.fromkeys(said))


def _merged(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return every package's version; all of them where the runs differ."""
    found: dict[str, dict[str, None]] = {}
    for packages in versions:
        for name, version in packages.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(each) for name, each in sorted(found.items())}


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


def _points(gain: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return "–" if gain is None else f"{100 * gain:+.1f}".replace("-", "−")


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"
