"""Whether a step on the accelerator is the step of a CPU: each objective, number format and engine.

The first training step of each run of `experiment=methods`, on the same drawn clips and masks, with
the weights that every process begins with: float32 on a CPU is the truth. Then Sinkhorn alone, at
the temperatures in use, and torch.compile.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.accelerator.measurement import Measurement, relative
from pipeline.configuration.build import encoder
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Clip, Params, Run
from pipeline.data.load.crops import Window
from pipeline.data.load.decoders import Frames
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.load.loader import Batch, PretrainingClips, PretrainingSteps
from pipeline.data.load.sampling import Indices
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.motion_vectors import Vectors
from pipeline.method.masks import RedundancyMask
from pipeline.method.sigma import SigmaModel
from pipeline.method.sinkhorn import assign, transport
from pipeline.method.targets import ClustersTarget, EncoderTarget
from pipeline.method.targets.clusters import ClusterTargets
from pipeline.method.targets.feature_networks import ClipFeatures
from pipeline.method.targets.frozen import VideoFeatures
from pipeline.runtime import precision
from pipeline.runtime.interruption import StopRequest
from pipeline.runtime.optimisers import StepValues
from pipeline.runtime.ranks import Ranks
from pipeline.training import engines
from pipeline.training.loop import initial_model, train_step, with_equal_counts

STEPS = 3
RATE = 1e-3
SAME_LOSS, SAME_GRADIENT = 1e-5, 1e-4  # relative, of float32
SAME_LABELS = 0.999  # of tubes: two shares may be equal but for rounding
CLOSE_LOSS = 0.01  # relative, of the first step under bf16 and fp16
EPSILONS = (0.05, 0.03, 0.02, 0.005)
COMPILED = ("sigma_mlp",)  # a minute for each of the others would be too much


class Drawn(FrameSource):
    """Clips of moving stripes and noise, each by its id, in place of stored ones."""

    def read(self, entry: ClipEntry, indices: Indices, window: Window | None = None) -> Frames:
        """Return uint8 frames (T,h,w,3) of a window."""
        rng = np.random.default_rng(int(entry.id))
        frames, rows, columns = np.ogrid[: entry.frames, : entry.height, : entry.width]
        wave = np.sin((rows + columns + 3 * frames) / rng.uniform(3, 9))
        shown = 90 + 80 * wave[..., None] + rng.normal(0, 12, (*wave.shape, 3))
        frames_shown = shown.clip(0, 255).astype(np.uint8)[indices]
        return frames_shown if window is None else frames_shown[:, window.rows, window.columns]

    def read_vectors(self, entry: ClipEntry) -> Vectors:
        """Return motion vectors, int8 (T,R,C,2)."""
        rng = np.random.default_rng(int(entry.id))
        shape = (entry.frames, -(-entry.height // 16), -(-entry.width // 16), 2)
        return rng.integers(-8, 9, shape, dtype=np.int8)


@dataclass(frozen=True)
class Steps:
    """What a few steps of a run came to."""

    losses: list[float]
    gradient: float  # the first one's length


@dataclass(frozen=True)
class Case:
    """What the steps are taken with."""

    run: Run
    clip: Clip
    batches: list[Batch]


@dataclass(frozen=True)
class Variant:
    """A way to take the same steps."""

    name: str
    changes: dict[str, object]  # of the trainer
    bound: float  # of the first loss, relative

    def of(self, case: Case) -> Case:
        """Return the case with these changes."""
        trainer = case.run.trainer.model_copy(update=self.changes)
        return replace(case, run=case.run.model_copy(update={"trainer": trainer}))


VARIANTS = (
    Variant("fp32", {"precision": "fp32"}, SAME_LOSS),
    Variant("bf16", {"precision": "bf16"}, CLOSE_LOSS),
    Variant("fp16", {"precision": "fp16"}, CLOSE_LOSS),
    Variant("bf16 compiled", {"precision": "bf16", "compile": True}, CLOSE_LOSS),
)


def measurements(options: argparse.Namespace) -> Iterator[Measurement | str]:
    """Yield each objective's steps beside those of a CPU, then Sinkhorn's."""
    params = Params.model_validate(yaml.safe_load(compose(["experiment=methods"])))
    device = torch.device(options.device)
    yield f"{'relative to float32 on a CPU':32s}  loss     gradient  loss of step {STEPS}  seconds"
    for name, run in params.runs.items():
        if not run.trainer.epochs:
            continue
        run = with_more_times(run)
        batches = drawn_batches(run, params.data.clip, 2 if options.small else 8)
        case = Case(run, params.data.clip, batches)
        expected = steps(VARIANTS[0].of(case), torch.device("cpu"))
        for variant in VARIANTS:
            if "compile" not in variant.changes or name in COMPILED:
                yield compared(name, variant, case, expected, device)
    for epsilon in EPSILONS:
        yield sinkhorn(epsilon, device)


def compared(
    name: str, variant: Variant, case: Case, expected: Steps, device: torch.device
) -> Measurement:
    """Take the steps in one way; compare them with the expected ones."""
    label, began = f"{name}, {variant.name}", time.perf_counter()
    try:
        found = steps(variant.of(case), device)
    except Exception as error:  # noqa: BLE001 - the others are tried, too
        return Measurement(
            {"case": label, "error": repr(error)},
            f"{label:32s}  {type(error).__name__}",
            [f"{label}: {traceback.format_exc()}"],
        )
    loss, last = (relative(found.losses[k], expected.losses[k]) for k in (0, -1))
    gradient = relative(found.gradient, expected.gradient)
    failures = []
    # Which of equally important tubes a redundancy mask keeps depends on the device.
    has_ties = isinstance(case.run.objective.mask, RedundancyMask)
    bound = CLOSE_LOSS if has_ties else variant.bound
    if not loss <= bound:
        failures.append(f"{label}: the loss differs by {loss:.1e}, at most {bound:.0e}")
    if variant.name == "fp32" and not has_ties and not gradient <= SAME_GRADIENT:
        failures.append(f"{label}: the gradient differs by {gradient:.1e}")
    seconds = time.perf_counter() - began
    record = {"case": label, "loss": loss, "gradient": gradient, "last_loss": last}
    line = f"{label:32s}  {loss:.1e}  {gradient:.1e}   {last:.1e}  {seconds:15.1f}"
    return Measurement(record, line, failures)


def with_more_times(run: Run) -> Run:
    """Halve the tubes' frames where a redundancy mask selects: of two times every tube is a tie."""
    frames, *size = run.model.tube
    if not isinstance(run.objective.mask, RedundancyMask) or frames % 2:
        return run
    model = run.model.model_copy(update={"tube": (frames // 2, *size)})
    return run.model_copy(update={"model": model})


def steps(case: Case, device: torch.device) -> Steps:
    """Take a training step on each batch with the model as it begins."""
    run, trainer = case.run, case.run.trainer
    model = with_teachers(initial_model(run, case.clip), run, case.clip).to(device).train()
    number_format = precision.choose(trainer.precision, device)
    engine = engines.build(model, trainer, Ranks(), number_format)
    values = StepValues(RATE)
    results = [
        train_step(engine, batch, len(batch.ids), run, values, StopRequest())
        for batch in case.batches
    ]
    return Steps([result.loss for result in results], results[0].grad_norm)


def with_teachers(model: SigmaModel, run: Run, clip: Clip) -> SigmaModel:
    """Give targets that are features of another run's encoder one with random weights."""
    torch.manual_seed(1)
    for target, network in zip(run.objective.all_targets, model.targets, strict=True):
        if isinstance(network, ClusterTargets) and isinstance(target, ClustersTarget):
            network.use(torch.randn(network.width, network.features.width))
            target, network = target.features, network.features
        if isinstance(target, EncoderTarget) and isinstance(network, VideoFeatures):
            depth = max(run.model.depth, len(target.layers))
            teacher = run.model.model_copy(update={"depth": depth})
            network.use(ClipFeatures(encoder(teacher, clip), target))
    return model


def drawn_batches(run: Run, clip: Clip, size: int) -> list[Batch]:
    """Make the first batches of a run as the loader does, of clips that are drawn."""
    entries = [
        ClipEntry(
            id=str(number),
            shard=Path("drawn"),
            offset=0,
            size=0,
            frames=2 * clip.frames * clip.stride,
            fps=10.0,
            width=clip.size + 16,
            height=clip.size + 16,
            split="train",
        )
        for number in range(STEPS * size)
    ]
    clips = PretrainingClips(
        entries,
        clip,
        run.objective.mask,
        run.model.tube,
        seed=0,
        batch_size=size,
        masks_per_clip=run.objective.masks_per_clip,
        paste=run.objective.paste,
    )
    loaded = PretrainingSteps(clips, Drawn(), 0, 1)
    return [with_equal_counts(loaded[step], run.objective.mask, Ranks()) for step in range(STEPS)]


def sinkhorn(epsilon: float, device: torch.device) -> Measurement:
    """Compare the transport of drawn cosines on the device with that of a CPU."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4096, 1500, generator=generator) * 2 - 1
    expected = transport(scores, epsilon, 10)
    found = transport(scores.to(device), epsilon, 10).cpu()
    labels = assign(scores.to(device), epsilon, 10, bound=1.0).cpu()
    difference = float((found - expected).abs().max())
    same = float((labels == expected.argmax(1)).double().mean())
    label = f"Sinkhorn, epsilon {epsilon}"
    failures = [f"{label}: q differs by {difference:.1e}"] if difference > SAME_LOSS else []
    if same < SAME_LABELS:
        failures.append(f"{label}: {same:.2%} of tubes have the prototype of a CPU")
    record = {"case": label, "largest_difference": difference, "same_prototype": same}
    line = f"{label:32s}  q within {difference:.1e}, {same:.2%} of tubes to the same prototype"
    return Measurement(record, line, failures)
