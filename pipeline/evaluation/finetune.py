"""Fine-tuning: the whole encoder learns a task, with a new linear head.

Protocol of VideoMAE (Tong et al. 2022, appendix), which the paper follows (section 4): AdamW with
layer decay, RandAugment, random erasing, Mixup and CutMix, label smoothing, drop path, averaged
weights. With `frozen` only the head learns: the paper's linear probe. Nothing is chosen on the way:
the weights after the last step are the result, and no test clip is looked at.

As in pretraining the batch of each step and all random numbers depend on seed and step alone, so
that a resumed fine-tuning equals an uninterrupted one.

Shapes: n clips, B of a batch, b of a part of it, C outputs, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.configuration.schema import Clip, Finetune
from pipeline.data.load.options import LoaderOptions
from pipeline.data.load.order import planned_steps
from pipeline.data.shards.clip_table import ids_of
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.evaluation.finetune_loss import Targets, loss_of, mixed
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.evaluation.training_clips import TrainingBatch, batches, seeded
from pipeline.method.pixels import normalise, to_device
from pipeline.runtime.checkpoints import Checkpoints, Resumption
from pipeline.runtime.devices import choose_device, deterministic, fast_fp32
from pipeline.runtime.files import sha256_file
from pipeline.runtime.interruption import ResumeLater, StopRequest
from pipeline.runtime.optimisers import parameter_groups, scaled_rate, schedule, solver
from pipeline.runtime.precision import Precision, choose
from pipeline.runtime.progress import Progress
from pipeline.weights import hub
from pipeline.weights.classifier import Classifier

if TYPE_CHECKING:
    from timm.utils.model_ema import ModelEmaV3


NEUTRAL = {"checkpoint_every", "views", "deterministic"}  # of what is learned


@dataclass(frozen=True)
class TrainingSet:
    """The train clips, and no others, with their targets in the same order."""

    entries: Sequence[ClipEntry]
    clip: Clip
    targets: Targets

    def steps(self, settings: Finetune) -> tuple[int, int]:
        """Return how many steps there are, and how many of them are of warm-up."""
        return planned_steps(
            settings.epochs,
            settings.warmup_epochs,
            n=len(self.entries),
            batch_size=settings.batch_size // settings.augmentation.repeated,
            least=settings.least_steps,
        )

    @property
    def sha256(self) -> str:
        """Changes with the clips' ids and targets."""
        digest = hashlib.sha256("\n".join(ids_of(self.entries)).encode())
        digest.update(np.ascontiguousarray(self.targets.values).tobytes())
        return digest.hexdigest()


@dataclass
class Learner:
    """All that changes while a network is fine-tuned, and where."""

    network: Classifier
    optimiser: torch.optim.Optimizer
    average: ModelEmaV3 | None
    device: torch.device
    precision: Precision
    done: int = 0

    def resume(self, checkpoints: Checkpoints) -> None:
        """Become what the newest checkpoint says, and warn where all further steps will be slow."""
        if slow := self.precision.warning("finetune.precision"):
            checkpoints.say(slow)
        body = checkpoints.latest()
        if body is not None:
            self.network.load_state_dict(body["network"])
            self.optimiser.load_state_dict(body["optimiser"])
            if self.average is not None:
                self.average.module.load_state_dict(body["average"])
            self.done = body["step"]

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint."""
        body: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        if self.average is not None:
            body["average"] = self.average.module.state_dict()
        checkpoints.save(self.done, body)

    @property
    def result(self) -> Classifier:
        """The network that is scored: the averaged one where there is one."""
        chosen: Classifier = self.network if self.average is None else self.average.module
        return chosen.eval()


def fit(
    weights: Path,
    train: TrainingSet,
    settings: Finetune,
    resumption: Resumption,
    options: ExecutionOptions,
) -> Classifier:
    """Fine-tune the encoder in `weights`; return the classifier in evaluation mode.

    Args:
        weights: a run's `model.safetensors`.
        train: clips and targets.
        resumption: where the checkpoints are, in which an interrupted call goes on (the caller
            removes them); what else they depend on, such as the code's hash.
        options: how fast; the batch size is that of the settings.

    Raises:
        UserError: where the loss is not finite, a clip is not decoded, or a step not deterministic.
        ResumeLater: after SIGTERM or SIGUSR1, once the step is done and saved.
    """
    torch.set_num_threads(options.threads)
    checkpoints = _checkpoints(weights, train, settings, resumption)
    learner = begin(weights, train.clip, train.targets.outputs, settings, choose_device())
    learner.resume(checkpoints)
    steps, warmup = train.steps(settings)
    rates = learning_rates(settings, steps, warmup=warmup)
    waiting = batches(
        train.entries,
        train.clip,
        settings,
        range(learner.done, steps),
        LoaderOptions(options.workers, options.cache_mib, device=learner.device),
    )
    with (
        deterministic(settings.deterministic, f"{resumption.label}: finetune.deterministic"),
        fast_fp32(learner.device, learner.network.encoder.grid.count),
        StopRequest() as stop,
        Progress(resumption.label, steps, "steps", done=learner.done) as progress,
    ):
        for batch in stop.until(waiting):
            loss = _step(learner, batch, train.targets, settings, float(rates[batch.step]))
            _refuse_infinite(loss, batch.step, resumption.label)
            learner.done = batch.step + 1
            if learner.done % settings.checkpoint_every == 0 or learner.done == steps:
                learner.save(checkpoints)
            progress.advance(loss=f"{loss:.3f}")
    if learner.done < steps:
        learner.save(checkpoints)
        raise ResumeLater(str(stop.signal), f"after step {learner.done:,} of {steps:,}")
    return learner.result


def _checkpoints(
    weights: Path, train: TrainingSet, settings: Finetune, resumption: Resumption
) -> Checkpoints:
    return resumption.checkpoints(
        finetune=settings.model_dump(mode="json", exclude=NEUTRAL),
        clip=train.clip.model_dump(mode="json"),
        weights=sha256_file(weights),
        train=train.sha256,
    )


def _refuse_infinite(loss: float, step: int, label: str) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} in step {step + 1:,}",
            place=label,
            remedy="lower evaluation.finetune.base_lr, or set clip_grad or precision=fp32",
        )


def begin(
    weights: Path, clip: Clip, outputs: int, settings: Finetune, device: torch.device
) -> Learner:
    """Build the network with the pretrained encoder, its optimiser and its average."""
    run, _ = hub.read_config(weights)
    drop_path = 0.0 if settings.frozen else settings.drop_path
    model = run.model.model_copy(update={"drop_path": drop_path})
    with seeded(settings.seed):
        norm: Literal["layer", "batch"] = "batch" if settings.batch_norm else "layer"
        network = Classifier(
            model,
            clip,
            outputs,
            head_scale=settings.head_scale,
            norm=norm,
            drop_tubes=settings.drop_tubes,
        )
    hub.load_pretrained_encoder(network.encoder, hub.read_state(weights), place=str(weights))
    network.to(device).train()
    if settings.frozen:
        network.encoder.requires_grad_(False)
    groups = parameter_groups(
        network, settings.weight_decay, layer_decay=settings.layer_decay, depth=model.depth
    )
    average = None
    if settings.ema is not None:
        from timm.utils.model_ema import ModelEmaV3  # timm takes seconds

        # A warm-up of the decay, or a short training would be averaged with its beginning.
        average = ModelEmaV3(network, decay=settings.ema, use_warmup=True)
    optimiser = solver(settings.solver, groups, settings.betas)
    number_format = choose(settings.precision, device, place="finetune.precision", scales=False)
    return Learner(network, optimiser, average, device, number_format)


def learning_rates(settings: Finetune, steps: int, *, warmup: int) -> NDArray[np.float64]:
    """The rate of each step before layer decay: warm-up and cosine, per 256 clips of a batch."""
    size = settings.batch_size
    return schedule(
        scaled_rate(settings.base_lr, size),
        scaled_rate(settings.final_lr, size),
        epochs=steps,
        steps_per_epoch=1,
        warmup_epochs=warmup,
        start=scaled_rate(settings.warmup_lr, size),
    )


def _step(
    learner: Learner, batch: TrainingBatch, targets: Targets, settings: Finetune, rate: float
) -> float:
    """Do one step; return the mean loss of its batch."""
    network, device, parts = learner.network, learner.device, settings.accumulation
    values = torch.from_numpy(np.asarray(targets.values))
    network.train()
    if settings.frozen:
        network.encoder.eval()
    for group in learner.optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]
    learner.optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    with seeded(_seed(settings.seed, batch.step), device):
        for videos, indices in zip(
            batch.videos.chunk(parts), batch.indices.chunk(parts), strict=True
        ):
            pixels = normalise(videos)
            target = to_device(values[indices], device)
            pixels, target = mixed(pixels, target, targets, settings)
            with learner.precision.autocast():
                loss = loss_of(network(pixels), target, targets.kind, settings)
            (loss / parts).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / parts
    if settings.clip_grad is not None:
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_grad)
    value = float(total)  # one wait for the device
    if not math.isfinite(value):
        return value  # before it could spoil the weights
    learner.optimiser.step()
    if learner.average is not None:
        learner.average.update(network, step=batch.step + 1)
    return value


def _seed(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"finetune/{seed}/{step}".encode()).digest()[:7], "big")
