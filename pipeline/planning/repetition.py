"""How much finished training a planned job would repeat: known before it runs, or at most so much.

A training is repeated where what it is told by (`pipeline.training.identity`) is no longer that of
any training that lies there. Which pictures a data set will have is not known where a stage before
the index is to run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.shards.index import Pictures
from pipeline.errors import UserError
from pipeline.runtime.checkpoint_sets import FINISHED, SHORT_S, archived
from pipeline.runtime.files import read_json
from pipeline.training.identity import Identity, pictures_of

DECIDE_PICTURES = {"manifest", "download", "decode", "shard"}


@dataclass(frozen=True)
class Repetition:
    """What a run's job would train that had been trained before."""

    seconds: float = 0.0
    is_certain: bool = True  # else these are the most
    note: str = ""


def of_run(
    params: Params, run: str, rules: Iterable[str], trained: Collection[str] = ()
) -> Repetition:
    """Return what the job of a run would repeat.

    `rules` are those of all jobs that would run, `trained` the runs that would be trained: whether
    those that this one needs end otherwise than before is not known.
    """
    layout = RunLayout(params.name, run)
    manifest, pictures = _finished(layout), None
    others_known = set(trained).isdisjoint(params.needed(run))
    if DECIDE_PICTURES.isdisjoint(rules) and others_known:
        try:
            pictures = pictures_of(params.data)
        except UserError:  # no index
            return Repetition()
    if manifest is None:
        return _of_other_experiment(params, run, pictures)
    seconds = sum(float(session["seconds"]) for session in manifest["sessions"])
    learned = Pictures(0, manifest.get("pictures_sha256", ""))
    noted = None if others_known else manifest.get("inherited", {})
    components = None
    if pictures is None and params.runs[run].trainer.mixture is not None:
        components = manifest.get("mixture", {}).get("sha256")
    try:
        assumed = Identity.of(params, run, pictures or learned, noted, components)
    except UserError:  # weights that it begins with are not there
        return Repetition()
    others = [each.info for each in archived(layout.checkpoints)]
    if assumed.is_of(manifest) or any(
        each.compare(assumed.settings, assumed.code) == "same" for each in others
    ):
        if pictures is not None:
            return Repetition(note="trained before: nothing is repeated")
        return _repeated(seconds, is_certain=False)
    if not seconds:
        return Repetition()
    on_change = params.runs[run].trainer.on_code_change
    if assumed.has_settings_of(manifest) and (
        on_change == "resume" or (on_change == "stop" and seconds >= SHORT_S)
    ):
        return Repetition(note=f"nothing is repeated (trainer.on_code_change={on_change})")
    return _repeated(seconds, is_certain="pictures_sha256" in manifest)


def _finished(layout: RunLayout) -> dict[str, Any] | None:
    """Return the manifest of a run's finished training; None where there is none."""
    for path in (layout.checkpoints / FINISHED, layout.pretrained):
        try:
            manifest: dict[str, Any] = read_json(path)
            if manifest["sessions"]:
                return manifest
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


def _of_other_experiment(params: Params, run: str, pictures: Pictures | None) -> Repetition:
    if pictures is not None and params.runs[run].trainer.epochs:
        with contextlib.suppress(UserError):  # weights that it begins with are not there
            for other in Identity.of(params, run, pictures).elsewhere(params.name):
                return Repetition(note=f"copied from {other.folder}")
    return Repetition()


def _repeated(seconds: float, *, is_certain: bool) -> Repetition:
    at_most = "" if is_certain else "at most "
    return Repetition(seconds, is_certain, f"repeats {at_most}{duration(seconds)} of training")


def in_sum(repetitions: Iterable[Repetition]) -> str:
    """Say in a sentence how much finished training would be repeated; empty where none is."""
    repeated = [each for each in repetitions if each.seconds]
    if not repeated:
        return ""
    at_most = "" if all(each.is_certain for each in repeated) else "At most "
    total = duration(sum(each.seconds for each in repeated))
    return f"{at_most}{total} of finished training would be repeated."


def duration(seconds: float) -> str:
    """Return hours, or minutes where it is less than one."""
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours >= 0.95 else f"{max(1, round(hours * 60))} min"
