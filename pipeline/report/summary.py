"""`evaluation.json` and `metrics.json` of an experiment, and the paragraph that begins the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.configuration.layout import RunLayout
from pipeline.report.remarks import finding, listed
from pipeline.report.results import Results, RunResult
from pipeline.report.seeds import Group, groups
from pipeline.report.tables import ScoreTable, probe_name, score_tables
from pipeline.runtime.files import sha256_file
from pipeline.runtime.provenance import code_version, provenance


def evaluation(results: Results) -> dict[str, Any]:
    """Return all runs' scores together, as JSON values, with the hashes of what they are from."""
    runs = results.runs
    return {
        "experiment": results.params.name,
        "scores": [{"run": r.name, **s.model_dump(mode="json")} for r in runs for s in r.scores],
        "validation": [
            {"run": r.name, **s.model_dump(mode="json")} for r in runs for s in r.validation
        ],
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
            "runs": {run.name: _scored(run.layout) for run in runs},
        },
        "settings": results.params.model_dump(mode="json"),
        "code": code_version(),
        "provenance": provenance(),
    }


def _scored(layout: RunLayout) -> dict[str, str]:
    """Hash the files that hold a run's scores, by their names."""
    files = (layout.evaluated, layout.segmented, layout.severe)
    return {path.name: sha256_file(path) for path in files if path.is_file()}


def metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Return every benchmark's scores by run, few enough for DVC's tables.

    Run -> label -> probe -> top-1 on test, and `val_` with the probe -> top-1 on val; run ->
    `segmentation` -> data, frames and protocol -> mIoU; run -> `severe` -> task -> its score. All
    are shares from 0 to 1, but for SEVERE's counting, which is an error and has no upper bound.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for run in results.runs:
        rows = [
            (score.label, f"val_{score.probe}" if score.split == "val" else score.probe, score.top1)
            for score in (*run.scores, *run.validation)
        ]
        for row in run.segmented.get("scores", ()):
            name = f"{row['data']}_{row['frames']}_frames_{row['protocol']}"
            rows += [("segmentation", name, row["miou"])] if row["miou"] is not None else []
        rows += [("severe", row["task"], row["value"]) for row in run.severe.get("scores", ())]
        for group, name, value in rows:
            found.setdefault(run.name, {}).setdefault(group, {})[name] = value
    return found


def paragraph(results: Results) -> str:
    """Say in a few sentences what was done and what came of it."""
    tables = [table for table in score_tables(results) if not table.beside]
    found = groups(results.runs)
    sentences = [_what_was_trained(results), _how_it_was_scored(results, tables)]
    return " ".join([*sentences, *(finding(table, found) for table in tables)])


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
    kinds = listed([_named(group) for group in groups(trained)])
    return (
        f"{encoders} ({listed(shapes)}) {'was' if one else 'were'} pretrained without labels for "
        f"{times} on {count(clips, 'clip')} of “{data.name}”, {view}: {kinds}."
    )


def _named(group: Group) -> str:
    """A run and what it learned from; of several seeds, which."""
    said = group.first.description
    if group.spread:
        said += f"; seeds {listed([str(seed) for seed in group.seeds])}"
    return f"{group.name} ({said})"


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
    untrained = [group.name for group in groups(results.runs) if not group.first.trained]
    whose = "Their frozen features" if len(results.trained) != 1 else "Its frozen features"
    if untrained and results.trained:
        whose += f", and those of the untrained {listed(untrained)},"
    tuned = " The encoders were also fine-tuned." if "finetune" in asked else ""
    if not results.params.evaluation.test:
        tuned += " They were scored on val; the test split was left alone (evaluation.test=false)."
    return f"{whose} were read out by {probes} on {listed(list(clips))}.{tuned}"


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _in_words(number: int) -> str:
    words = ["Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"]
    return words[number - 2] if 2 <= number < 2 + len(words) else f"{number:,}"
