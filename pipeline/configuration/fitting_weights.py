"""Whether weights fit a run: the same encoder, and clips like those that it was trained on."""

from __future__ import annotations

from pathlib import Path

from pipeline.configuration import known_weights
from pipeline.configuration.known_weights import SEEN, Known
from pipeline.configuration.schema import Clip, Model, Params, Run
from pipeline.errors import UserError

# What an encoder may differ in from the one that its weights were trained as.
LOOSE = {
    *("name", "decoder_width", "decoder_depth", "decoder_heads"),
    *("drop_path", "activation_checkpointing", "initialisation", "projection_bias"),
}


def check(params: Params) -> None:
    """Refuse runs whose weights are of another encoder, or other clips, than they are to be given.

    These are weights that say so themselves, and those of the runs that others begin with.

    Raises:
        UserError: it names what differs. Other clips are allowed by `allow_other_clip`.
    """
    for name, run in params.runs.items():
        fps = "drawn" if params.data.synthetic else params.data.decode.fps
        for key, file in (("weights", run.weights), ("init", run.init_file)):
            weights = known_weights.known(Path(file), run.pooling) if file else None
            if weights is not None:
                other_clip = differences(weights, params.clip_of(name), fps)
                refuse_others(weights, run, other_clip, name, f"runs.{name}.{key}: {file}")
        if run.init_run in params.runs:  # not where a stage sees its own run alone
            theirs = Known(params.runs[run.init_run].model, {})
            refuse_others(theirs, run, [], name, f"runs.{name}.init: {run.init_run}")


def refuse_others(
    known: Known, run: Run, other_clip: list[str], name: str = "NAME", place: str = ""
) -> None:
    """Raise UserError where weights are of another encoder than the run's, or of other clips."""
    follows = f"leave the model out of the command: runs.{name}.model follows the weights"
    if run.init is not None:
        follows = f"give runs.{name}.model the same encoder"
    theirs, ours = _shape(known.model), _shape(run.model)
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    differing = [f"{key} {theirs.get(key)}, here {ours.get(key)}" for key in keys]
    if differing:
        raise UserError(
            f"the encoder of the weights is another one: {'; '.join(differing)}",
            place=place or f"runs.{name}.weights: {run.weights}",
            remedy=follows,
        )
    if other_clip and not run.allow_other_clip:
        raise UserError(
            f"the weights were trained on other clips: {'; '.join(other_clip)}",
            place=place or f"runs.{name}.weights: {run.weights}",
            remedy="leave data.clip (and data.decode.fps) out of the command: they follow the "
            f"weights; or runs.{name}.allow_other_clip=true, which the report then says",
        )


def differences(known: Known, clip: Clip, fps: float | str | None) -> list[str]:
    """Return in words where clips are unlike those that the weights were trained on.

    Args:
        fps: of the videos; None: of each its own; a string: not compared.
    """
    seen, texts = known.seen, []
    for key in SEEN:
        # A stride is nothing where frames are one of each segment.
        counts = key != "stride" or "per_segment" not in (seen.get("sampling"), clip.sampling)
        if key in seen and seen[key] != getattr(clip, key) and counts:
            texts.append(f"{key} {seen[key]}, here {getattr(clip, key)}")
    rate = seen.get("fps")
    if rate is None or isinstance(fps, str) or (fps is not None and abs(fps / rate - 1) < 1e-3):
        return texts
    here = "of each video its own" if fps is None else f"{fps:g}"
    return [*texts, f"frames a second {rate:g}, here {here}"]


def _shape(model: Model) -> dict[str, str]:
    """Return in words what two encoders must have in common."""
    shape = model.model_dump(exclude=LOOSE | {"tube", "mlp_ratio"})
    shape["MLP of width"] = int(model.width * model.mlp_ratio)
    return {"tube": "x".join(map(str, model.tube)), **{k: str(v) for k, v in shape.items()}}
