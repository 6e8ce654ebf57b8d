"""What a training has of others: the weights that it begins with, and runs that its targets are of.

Both are told apart by the bytes of their tensors, not of their files, which also say how often the
other run has logged: so nothing that leaves weights as they are has another training done again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from safetensors import SafetensorError, safe_open

from pipeline.configuration import known_weights
from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Clip, Run
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file

if TYPE_CHECKING:
    from pipeline.method.sigma import SigmaModel

Inherited = dict[str, Any]


def inherited(experiment: str, run: Run) -> Inherited:
    """Return what tells the other trainings that a run depends on; empty where there are none.

    `init`: the weights that it begins with; `needs`: those of each run that its targets name.

    Raises:
        UserError: where such a run has not been trained, or a file is not there.
    """
    found: Inherited = {}
    if run.init is not None:
        digest = weights_digest(initial_weights(experiment, run))
        found["init"] = {"weights": digest, "decoder": run.init_decoder}
    of_targets = run.objective.needs
    others = [other for other in run.needs if other != run.init_run or other in of_targets]
    if others:
        found["needs"] = {each: weights_digest(weights_of(experiment, each)) for each in others}
    return found


def initial_weights(experiment: str, run: Run) -> Path:
    """Return the file or directory that `run.init` names."""
    if run.init_run is not None:
        return weights_of(experiment, run.init_run)
    path = Path(run.init_file or "")
    if not path.exists():
        raise UserError("there are no weights to begin with", place=f"runs.NAME.init: {path}")
    return path


def weights_of(experiment: str, run: str) -> Path:
    """Return the weights of another run of the experiment.

    Raises UserError where it has not been trained to its end.
    """
    layout = RunLayout(experiment, run)
    if not layout.pretrained.is_file() or not layout.weights.is_file():
        raise UserError(
            f"run {run} is to be trained first, and is not yet",
            place=layout.pretrained.as_posix(),
            remedy=f"python -m pipeline pretrain --run {run}, or let snakemake find the order",
        )
    return layout.weights


def weights_digest(path: Path) -> str:
    """Return a hash of the weights in a file: of this project's, of the tensors alone."""
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file())
        digests = "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)
        return hashlib.sha256(digests.encode()).hexdigest()
    if path.suffix != ".safetensors" or not known_weights.header(path)[0]:
        return sha256_file(path)
    digest = hashlib.sha256()
    try:
        with safe_open(path, framework="numpy") as handle:
            for name in sorted(handle.keys()):
                tensor = handle.get_tensor(name)
                digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
                digest.update(tensor.tobytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"it cannot be read as safetensors: {error}", place=str(path)) from None
    return digest.hexdigest()


@dataclass(frozen=True)
class Initial:
    """The weights that a training begins with in place of fresh ones."""

    path: Path
    run: Run
    clip: Clip

    @classmethod
    def of(cls, experiment: str, run: Run, clip: Clip) -> Self | None:
        """Return those that `run.init` names; None where it names none."""
        return cls(initial_weights(experiment, run), run, clip) if run.init else None

    def load(self, model: SigmaModel) -> None:
        """Fill a model; its target network begins anew from the encoder where it is made of it.

        Raises UserError naming what is missing, left over, or of another shape.
        """
        from pipeline.weights import encoders, hub

        _, checkpoint = encoders.opened(self.path, self.run, self.clip)
        encoders.fill_from(checkpoint, model.encoder, self.path)
        if self.run.init_decoder:
            hub.load_pretrained_decoder(model, checkpoint.tensors, place=str(self.path))
        model.target.follow(model.encoder)

    def is_of(self, record: Mapping[str, Any] | None) -> bool:
        """Whether a `record` is of these files, byte for byte."""
        from pipeline.weights import encoders

        digests = {file.name: sha256_file(file) for file in encoders.weight_files(self.path)}
        noted = record and (record["path"], record["sha256"])
        return noted == (str(self.path), digests)

    def record(self, fps: float | None) -> dict[str, Any]:
        """Return what pretrain.json says of them; `fps`: frames a second of the videos."""
        from pipeline.weights import encoders

        origin, _ = encoders.opened(self.path, self.run, self.clip, fps)
        parts = {"run": self.run.init_run, "decoder": self.run.init_decoder}
        return {**origin.record(), **parts}
