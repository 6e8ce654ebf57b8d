"""A run's training that has ended before: in its own folder, or under another experiment's name."""

from __future__ import annotations

import shutil
import sys

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.runtime.checkpoint_sets import FINISHED, is_empty
from pipeline.runtime.checkpoints import is_sound
from pipeline.runtime.files import atomic_path, read_json, sha256_file, write_json
from pipeline.training.identity import Identity
from pipeline.training.inheritance import Initial


def is_done(params: Params, run: str, label: str) -> bool:
    """Whether this training has ended before; then its manifest is put back, the same bytes.

    Where this run has come to nothing yet, an equal training of another experiment is copied: an
    experiment or a data set that is called otherwise is not trained again.
    """
    layout, chosen = RunLayout(params.name, run), params.runs[run]
    place = layout.checkpoints / FINISHED
    copies = chosen.trainer.epochs > 0 and is_empty(layout.checkpoints)
    if chosen.weights or not (copies or place.is_file()):
        return False
    identity = Identity.of(params, run)
    if copies:
        _copy_equal(layout, identity, label)
    if not place.is_file() or chosen.objective.files:
        return False
    manifest = read_json(place)
    steps = manifest["steps"]
    initial = Initial.of(params.name, chosen, params.data.clip)
    if (
        not identity.is_of(manifest)
        or (initial is not None and not initial.is_of(manifest.get("init")))
        or manifest["configuration"] != chosen.model_dump(mode="json")
        or not all(path.is_file() for path in (layout.weights, layout.metrics, layout.curves))
        or manifest["model_sha256"] != sha256_file(layout.weights)
        or manifest["metrics_sha256"] != sha256_file(layout.metrics)
        or (steps and not is_sound(layout.checkpoints / f"step-{steps:08d}.pt"))
    ):
        return False
    if not layout.pretrained.is_file() or read_json(layout.pretrained) != manifest:
        write_json(layout.pretrained, manifest)
    _say(label, f"going on after step {steps:,}, which is the last: nothing is left to train")
    return True


def _copy_equal(layout: RunLayout, identity: Identity, label: str) -> None:
    """Copy the last checkpoint, weights and logs of an equal training of another experiment.

    What makes it count comes last; what is missing in the end is trained, as after a kill.
    """
    for other in identity.elsewhere(layout.experiment):
        manifest = read_json(other.checkpoints / FINISHED)
        last = f"step-{manifest['steps']:08d}.pt"
        if not is_sound(other.checkpoints / last):
            continue
        pairs = [*zip(other.learned, layout.learned, strict=True)]
        pairs += [(other.checkpoints / n, layout.checkpoints / n) for n in (f"{last}.sha256", last)]
        for source, target in pairs:
            if source.is_file():
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)
        names = {"experiment": layout.experiment, "run": layout.run}
        write_json(layout.checkpoints / FINISHED, manifest | names)
        _say(label, f"copied from {other.folder}: an equal training has ended there")
        return


def _say(label: str, message: str) -> None:
    print(f"[{label}] {message}", file=sys.stderr, flush=True)
