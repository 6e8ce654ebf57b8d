"""The stages of the chain: what each runs, which settings it reads, of which files it consists.

The command line, the Snakefile and the tests of dvc.yaml read this one list, so that all agree on
when a stage has to run again: when a setting that it reads, a source file that it consists of, or
the manifest of the stage before it changes.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.configuration.schema import Params, Section
from pipeline.files import sha256_file

PROJECT = Path(__file__).resolve().parent.parent.parent

# Every stage imports these, and none decides what a result is: settings and paths reach a stage
# by value, which is compared on its own. As inputs they would rerun everything for a comment.
SHARED = (
    "pipeline.cli",
    "pipeline.configuration",
    "pipeline.errors",
    "pipeline.files",
    "pipeline.joblog",
    "pipeline.models.video_model",
    "pipeline.progress",
    "pipeline.provenance",
    "pipeline.training.flops",
    "pipeline.training.profiling",
    "pipeline.training.tracking",
)


@dataclass(frozen=True)
class Stage:
    """A stage of the chain: its module has `run(params, **wildcards) -> None`.

    `reads` names the keys of `params.yaml` that it is given, and no other; RUN stands for the
    run's name. A key covers all that is below it.
    """

    module: str
    summary: str
    reads: tuple[str, ...]
    per: tuple[Literal["chunk", "run"], ...] = ()  # what one job is for


# In the order of the chain. Modules are imported only when their stage runs: torch takes seconds.
STAGES = {
    "manifest": Stage(
        "pipeline.videos.manifest_stage",
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
        "pipeline.videos.download_stage",
        "fetch or make the videos",
        ("data.name", "data.synthetic", "data.download"),
        ("chunk",),
    ),
    "decode": Stage(
        "pipeline.videos.decode_stage",
        "check and transcode each video",
        ("data.name", "data.decode"),
        ("chunk",),
    ),
    "shard": Stage(
        "pipeline.shards.shard_stage",
        "pack a chunk's clips into tar shards",
        ("data.name", "data.shards"),
        ("chunk",),
    ),
    "index": Stage(
        "pipeline.shards.index_stage",
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
    "evaluate": Stage(
        "pipeline.evaluation.evaluate_stage",
        "score one run's encoder",
        ("name", "data.name", "data.labels", "data.clip", "evaluation", "runs.RUN.trainer"),
        ("run",),
    ),
    "segment": Stage(
        "pipeline.evaluation.segmentation.segment_stage",
        "find objects in videos with one run's encoder",
        (
            "name",
            "data.name",
            "data.synthetic",
            "data.clip",
            "segmentation",
            "runs.RUN.trainer",
        ),
        ("run",),
    ),
    "severe": Stage(
        "pipeline.evaluation.severe.severe_stage",
        "try one run's encoder away from its data and task",
        (
            "name",
            "data.name",
            "data.synthetic",
            "data.clip",
            "severe",
            "runs.RUN.trainer",
        ),
        ("run",),
    ),
    "report": Stage(
        "pipeline.reporting.report_stage",
        "compare the runs: table and HTML page",
        (
            "name",
            "data",
            "model",
            "objective",
            "trainer",
            "evaluation",
            "segmentation",
            "severe",
            "runs",
        ),
    ),
}


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


def sources(stage: str) -> list[str]:
    """Return the files that a stage consists of, relative to the project, sorted.

    They are the modules that its module imports, directly or not, but for the SHARED ones, and
    the templates that lie in its folder.
    """
    files = {_file(module) for module in _closure(STAGES[stage].module)}
    folder = _file(STAGES[stage].module).parent
    files |= {path for path in folder.rglob("*") if path.suffix in {".html", ".css", ".js", ".j2"}}
    return _names(files)


def code_sha256(stage: str) -> str:
    """Return one hash of the names and contents of all `sources` of a stage."""
    return _hash(sources(stage))


def modules_sha256(*modules: str) -> str:
    """Return one hash of the sources of these modules and of all that they import.

    For a part of a stage whose result outlasts a change to the rest of it.
    """
    return _hash(_names({_file(name) for module in modules for name in _closure(module)}))


def _names(files: Iterable[Path]) -> list[str]:
    filled = (path for path in files if path.stat().st_size)  # an empty __init__.py says nothing
    return sorted(path.relative_to(PROJECT).as_posix() for path in filled)


def _hash(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{sha256_file(PROJECT / name)}  {name}\n".encode())
    return digest.hexdigest()


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


@functools.cache
def _closure(module: str) -> frozenset[str]:
    """Return `module` and every module of the package that it imports, directly or not."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and not _is_shared(name):
            found.add(name)
            waiting += _imports(name)
    return frozenset(found)


def _is_shared(module: str) -> bool:
    return any(f"{module}.".startswith(f"{shared}.") for shared in SHARED) or module == "pipeline"


def _imports(module: str) -> Iterator[str]:
    """Yield the package's modules that one module imports anywhere in its text."""
    parent = module.rpartition(".")[0]
    if parent:
        yield parent  # importing a module runs its package's __init__ first
    for node in ast.walk(ast.parse(_file(module).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (n for n in names if n.split(".")[0] == "pipeline" and _find(n))


def _file(module: str) -> Path:
    path = _find(module)
    if path is None:
        raise FileNotFoundError(f"module {module} does not exist")
    return path


@functools.cache
def _find(module: str) -> Path | None:
    """Return the file of a module of this project; None where the name is not a module."""
    path = PROJECT.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)
