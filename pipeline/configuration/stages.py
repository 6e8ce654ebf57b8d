"""The stages of the chain: what each runs, which settings it reads, which code decides its result.

The command line, the Snakefile and the tests of dvc.yaml read this one list, so that all agree on
when a stage has to run again: when a setting that it reads, what its code means, or the manifest
of the stage before it changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pipeline.configuration import code, plugins
from pipeline.configuration.schema import Params, Section
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.method.losses import LOSSES
from pipeline.method.masks import MASKS
from pipeline.method.targets import TARGETS
from pipeline.runtime.files import write_text

CODE = Path("workflow") / "code.yaml"  # in the project's folder


@dataclass(frozen=True)
class Stage:
    """A stage of the chain: its module has `run(params, **wildcards) -> None`.

    `reads` names the keys of `params.yaml` that it is given, and no other; RUN stands for the run's
    name. A key covers all that is below it.
    """

    module: str
    summary: str
    reads: tuple[str, ...]
    per: tuple[Literal["chunk", "run"], ...] = ()  # what one job is for
    benchmark: Benchmark | None = None  # its module is run by `pipeline.evaluation.stage`

    @property
    def takes_data(self) -> bool:
        """Whether a job of it is for one of the data sets."""
        return self.benchmark is not None or "name" not in self.reads


# Modules are imported only when their stage runs: torch takes seconds.
_OTHERS = {
    "manifest": Stage(
        "pipeline.data.manifest.manifest_stage",
        "check the list, split it into chunks",
        (
            "data.name",
            "data.manifest",
            "data.rows_from",
            "data.synthetic",
            "data.chunks",
        ),
    ),
    "download": Stage(
        "pipeline.data.fetch.download_stage",
        "fetch or make the videos",
        ("data.name", "data.synthetic", "data.download"),
        ("chunk",),
    ),
    "decode": Stage(
        "pipeline.data.decode.decode_stage",
        "check and transcode each video",
        ("data.name", "data.decode"),
        ("chunk",),
    ),
    "shard": Stage(
        "pipeline.data.shards.shard_stage",
        "pack a chunk's clips into tar shards",
        (
            "data.name",
            "data.shards.codec",
            "data.shards.jpeg_quality",
            "data.shards.clips_per_shard",
            "data.shards.motion_vectors",
        ),
        ("chunk",),
    ),
    "index": Stage(
        "pipeline.data.shards.index_stage",
        "list all shards, take the census",
        (
            "data.name",
            "data.chunks",
            "data.shards",
            "data.pretrain_splits",
            "data.max_lost_share",
        ),
    ),
    "pretrain": Stage(
        "pipeline.training.pretrain_stage",
        "train one run's model",
        ("name", "data.name", "data.pretrain_splits", "data.clip", "runs.RUN"),
        ("run",),
    ),
    "report": Stage(
        "pipeline.report.report_stage",
        "compare the runs: table and HTML page",
        tuple(Params.model_fields),
    ),
}


class _Stages(Mapping[str, Stage]):
    """The stages in the order of the chain; those of benchmarks are the registered ones'."""

    def __getitem__(self, name: str) -> Stage:
        benchmarks = {each.stage: each for each in BENCHMARKS.values()}
        return _stage_of(benchmarks[name]) if name in benchmarks else _OTHERS[name]

    def __iter__(self) -> Iterator[str]:
        *before, last = _OTHERS
        return iter([*before, *(each.stage for each in BENCHMARKS.values()), last])

    def __len__(self) -> int:
        return len(_OTHERS) + len(BENCHMARKS)


def _stage_of(benchmark: Benchmark) -> Stage:
    return Stage(benchmark.module, benchmark.summary, benchmark.keys(), ("run",), benchmark)


STAGES = _Stages()


def keys(stage: str, run: str = "RUN") -> list[str]:
    """Return the keys of `params.yaml` that a stage reads, in its job for `run`."""
    return [key.replace("RUN", run) for key in STAGES[stage].reads]


def settings(params: Params, stage: str, run: str = "RUN") -> str:
    """Return the settings that a stage reads as one JSON string.

    One string with sorted keys: Snakemake compares several values as a set without names, and a
    mapping by the order of its keys.
    """
    values = params.model_dump(mode="json")
    return json.dumps({key: _at(values, key) for key in keys(stage, run)}, sort_keys=True)


def restrict(params: Params, stage: str, run: str = "RUN") -> Params:
    """Return `params` with nothing but what the stage reads.

    Any other attribute is missing, so that a stage cannot come to depend on a setting whose
    change would not run it again.
    """
    restricted: Params = _only(params, [key.split(".") for key in keys(stage, run)])
    return restricted


def sources(stage: str) -> dict[str, str]:
    """Return the files that decide what a stage's result is, each with the hash of its meaning.

    They are the modules that its module imports, directly or not, but for those
    `code.WITHOUT_EFFECT`, and the templates that lie in its folder. Names are relative to the
    project. Pretraining is also of what plugins register, the report of what benchmarks declare.
    """
    modules = [STAGES[stage].module]
    if STAGES[stage].benchmark:
        modules.append("pipeline.evaluation.stage")
    elif stage == "pretrain":
        classes = chain(MASKS.values(), TARGETS.values(), LOSSES.values())
        modules += [each.__module__ for each in classes if plugins.is_one(each.__module__)]
    elif stage == "report":
        modules += [type(benchmark).__module__ for benchmark in BENCHMARKS.values()]
        modules += [benchmark.table for benchmark in BENCHMARKS.values() if benchmark.table]
    return code.meanings(code.of_modules(*modules) | code.templates(modules[0]))


def code_sha256(stage: str) -> str:
    """Return one hash of what all `sources` of a stage mean."""
    return code.combined(sources(stage))


def modules_sha256(*modules: str) -> str:
    """Return one hash of what these modules, and all that they import, mean.

    For a part of a stage whose result outlasts a change to the rest of it.
    """
    return code.combined(code.meanings(code.of_modules(*modules)))


def needs_sha256(params: Params, run: str) -> str:
    """Return one hash of how the runs are trained that a run needs first; empty: it needs none."""
    needed = params.needed(run)
    text = json.dumps({other: settings(params, "pretrain", other) for other in needed})
    return hashlib.sha256(text.encode()).hexdigest() if needed else ""


def code_yaml(params: Params) -> str:
    """Return `workflow/code.yaml` for DVC: `code_sha256` of stages, `needs_sha256` of runs.

    DVC's template of a stage cannot say which other runs one needs: so it compares their settings.
    """
    lines = [f"{stage}: {code_sha256(stage)}\n" for stage in STAGES]
    lines += ["needs:\n", *(f"  {run}: '{needs_sha256(params, run)}'\n" for run in params.runs)]
    return "".join(lines)


def write_code_yaml(params: Params) -> None:
    """Renew `workflow/code.yaml` where it is not of this code and these runs."""
    text = code_yaml(params)
    if not CODE.is_file() or CODE.read_text(encoding="utf-8") != text:
        write_text(CODE, text)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _only(section: Any, paths: list[list[str]]) -> Any:
    """Copy `section` (a Section, or a mapping of such) with just the attributes on `paths`."""
    if [] in paths:
        return section
    kept = {}
    for name in dict.fromkeys(path[0] for path in paths):
        value = section[name] if isinstance(section, dict) else getattr(section, name)
        kept[name] = _only(value, [path[1:] for path in paths if path[0] == name])
    if isinstance(section, dict):
        return kept
    copy: Section = section.model_copy(update=kept)
    for name in set(type(section).model_fields) - kept.keys():
        del copy.__dict__[name]
    return copy
