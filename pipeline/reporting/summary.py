"""`evaluation.json` and `metrics.json` of an experiment, and the paragraph that begins the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.files import sha256_file
from pipeline.provenance import code_version
from pipeline.reporting.results import Results, RunResult
from pipeline.reporting.tables import ScoreTable, probe_name, score_tables


def evaluation(results: Results) -> dict[str, Any]:
    """Return all runs' scores together, as JSON values.

    Holds nothing that differs between equal runs (no times): equal results, equal bytes.
    """
    runs = results.runs
    return {
        "experiment": results.params.name,
        "scores": [{"run": r.name, **s.model_dump(mode="json")} for r in runs for s in r.scores],
        "skipped": [{"run": r.name, **s.model_dump(mode="json")} for r in runs for s in r.skipped],
        "data": {
            "name": results.index.name,
            "census": results.index.census,
            "splits": results.index.splits,
            "shards": {shard.name: shard.sha256 for shard in results.index.shards},
        },
        "inputs": {
            "index": sha256_file(results.data.index),
            "weights": {run.name: run.evaluated["inputs"]["weights"] for run in runs},
        },
        "settings": results.params.model_dump(mode="json"),
        "code": code_version(),
    }


def metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Return run -> label -> probe -> top-1, a share from 0 to 1: few enough for DVC's tables."""
    top1: dict[str, dict[str, dict[str, float]]] = {}
    for run in results.runs:
        for score in run.scores:
            top1.setdefault(run.name, {}).setdefault(score.label, {})[score.probe] = score.top1
    return top1


def paragraph(results: Results) -> str:
    """Say in a few sentences what was done and what came of it."""
    tables = score_tables(results)
    sentences = [_what_was_trained(results), _how_it_was_scored(results, tables)]
    return " ".join([*sentences, *(_finding(table) for table in tables)])


def listed(items: Sequence[str]) -> str:
    """Join with commas and a last `and`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def count(number: int, one: str) -> str:
    """Return such as `1 clip`, `2,000 clips`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def _what_was_trained(results: Results) -> str:
    data = results.params.data
    trained = [run for run in results.trained if run.settings.weights is None]
    if not results.trained:
        return f"No encoder was trained on “{data.name}”: all runs are untrained baselines."
    if not trained:
        kinds = listed([f"{run.name} ({run.description})" for run in results.trained])
        return f"No encoder was trained on “{data.name}”; scored was {kinds}."
    splits = [name for name in data.pretrain_splits if results.index.splits.get(name)]
    clips = sum(results.index.splits[name] for name in splits)
    view = f"{count(data.clip.frames, 'frame')} of {data.clip.size}×{data.clip.size} pixels each"
    epochs = sorted({run.settings.trainer.epochs for run in trained})
    times = listed([f"{number:,}" for number in epochs])
    times += " epoch" if epochs == [1] else " epochs"
    shapes = list(dict.fromkeys(_shape(run) for run in trained))
    one = len(trained) == 1
    encoders = "One video encoder" if one else f"{_in_words(len(trained))} video encoders"
    kinds = listed([f"{run.name} ({run.description})" for run in trained])
    return (
        f"{encoders} ({listed(shapes)}) {'was' if one else 'were'} pretrained without labels for "
        f"{times} on {count(clips, 'clip')} of “{data.name}”, {view}: {kinds}."
    )


def _shape(run: RunResult) -> str:
    model = run.settings.model
    tubes = "×".join(map(str, model.tube))
    return f"{count(model.depth, 'block')} of width {model.width} on tubes of {tubes}"


def _how_it_was_scored(results: Results, tables: Sequence[ScoreTable]) -> str:
    if not tables:
        return "No probe could be run; the reasons stand below."
    asked = dict.fromkeys(probe for table in tables for probe in table.probes)
    names = [probe_name(probe) for probe in asked if probe != "finetune"]
    probes = listed(
        [f"{_article(name)} {name}" if name.endswith("probe") else name for name in names]
    )
    clips = dict.fromkeys(count(table.first.scored, f"{table.split} clip") for table in tables)
    untrained = [run.name for run in results.runs if not run.trained]
    whose = "Their frozen features" if len(results.trained) != 1 else "Its frozen features"
    if untrained and results.trained:
        whose += f", and those of the untrained {listed(untrained)},"
    tuned = " The encoders were also fine-tuned." if "finetune" in asked else ""
    return f"{whose} were read out by {probes} on {listed(list(clips))}.{tuned}"


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _finding(table: ScoreTable) -> str:
    """Who does best on a label, with the first probe, and how that compares with no training."""
    cells = [(row.run, row.cells[0]) for row in table.rows]
    best = [(run, cell) for run, cell in cells if cell and cell.best1]
    names = listed([run.name for run, _ in best])
    said = f"On “{table.label}” ({table.classes} classes) {names} "
    said += f"{'does best' if len(best) == 1 else 'are level'} by the {probe_name(table.probes[0])}"
    beside = f"chance {table.chance:.1%}"
    baseline = table.baseline.cells[0] if table.baseline else None
    if baseline and not baseline.best1:
        beside = f"untrained {baseline.score.top1:.1%}, {beside}"
    return f"{said}: {best[0][1].score.top1:.1%} right; {beside}."


def _in_words(number: int) -> str:
    words = ["Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"]
    return words[number - 2] if 2 <= number < 2 + len(words) else f"{number:,}"
