"""Files and packages that a run's own settings ask for: weights, teachers, engines, trackers."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.doctor.workplace import version_of
from pipeline.configuration import fitting_weights, known_weights
from pipeline.configuration.schema import Params, Run
from pipeline.errors import UserError, first_line, how_to_install
from pipeline.method.targets import FrozenTarget

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}


def inputs(params: Params) -> Iterator[Finding]:
    """Weights that runs begin with or have as targets."""
    for name, run in params.runs.items():
        if run.weights is not None:
            yield _file(f"weights of {name}", run.weights, f"runs.{name}.weights")
            yield from _geometry(params, name)
        if run.init_file is not None:
            yield _file(f"weights that {name} begins with", run.init_file, f"runs.{name}.init")
        if run.trainer.epochs:
            yield from _teachers(name, run)


def packages(params: Params) -> Iterator[Finding]:
    """Engines, trackers, a compiler."""
    runs = list(params.runs.values())
    yield _package("deepspeed", "deepspeed", "deepspeed", any(_uses_deepspeed(r) for r in runs))
    for tracker, package in TRACKERS.items():
        needed = any(getattr(run.trainer.tracking, tracker) for run in runs)
        yield _package(tracker, package, "tracking", needed)
    if any(run.trainer.compile for run in runs):
        yield _compiler()


def _uses_deepspeed(run: Run) -> bool:
    return run.trainer.engine == "deepspeed" and run.trainer.epochs > 0


def _file(subject: str, path: str, key: str) -> Finding:
    if Path(path).exists():
        return ok(subject, path)
    return missing(subject, f"{path} is not there", f"see {key}", needed=True)


def _geometry(params: Params, name: str) -> Iterator[Finding]:
    """What the weights know of their encoder and clips, and whether they are given just these."""
    run, subject = params.runs[name], f"geometry of {name}"
    try:
        fitting_weights.check(params.model_copy(update={"runs": {name: run}}))
        known = known_weights.known(Path(run.weights or ""), run.pooling)
    except UserError as error:
        yield missing(subject, error.problem, error.remedy, needed=True)
        return
    other = (
        fitting_weights.differences(known, params.clip_of(name), "not compared") if known else []
    )
    if other:
        remedy = f"runs.{name}.allow_other_clip says that it is meant"
        yield warning(subject, f"other clips than the weights': {'; '.join(other)}", remedy)
    elif known is not None:
        seen = ", ".join(f"{key} {value}" for key, value in known.seen.items())
        yield ok(subject, f"as the weights say: {seen}")
    elif Path(run.weights or "").exists():
        remedy = f"see that data.clip and runs.{name}.model are what they were trained on"
        yield warning(subject, "the weights do not say what they were trained on", remedy)


def _teachers(name: str, run: Run) -> Iterator[Finding]:
    """Weights of frozen networks: those whose features are targets, and that of the mask."""
    subject = f"teacher of {name}"
    keys = ("target", *(f"further.{each}.target" for each in run.objective.further))
    for key, target in zip(keys, run.objective.all_targets, strict=True):
        place = f"runs.{name}.objective.{key}.weights"
        if file := getattr(target, "weights", None):
            yield _file(subject, file, place)
        elif isinstance(target, FrozenTarget):
            yield warning(
                subject,
                f"timm fetches {target.model} from its hub when the run starts",
                f"on a machine without network, fetch it before and give {place}",
            )
    if file := getattr(run.objective.mask, "weights", None):
        yield _file(f"optical flow of {name}", file, f"runs.{name}.objective.mask.weights")


def _package(module: str, package: str, extra: str, needed: bool) -> Finding:
    """Import it where it is needed; deepspeed takes seconds, so else see if it is installed."""
    version = version_of(package)
    remedy = how_to_install(extra)
    if not version:
        return missing(module, "not installed", remedy, needed=needed)
    if needed:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever a foreign package raises
            problem = f"{version}: {first_line(error)}"
            return missing(module, problem, remedy, needed=True)
    return ok(module, version)


def _compiler() -> Finding:
    subject = "trainer.compile"
    compiler = next((name for name in ("g++", "clang++") if shutil.which(name)), None)
    if compiler:
        return ok(subject, f"{compiler} is there, which torch.compile needs")
    remedy = "install g++, or set trainer.compile to false"
    return missing(subject, "no C++ compiler for torch.compile", remedy, needed=True)
