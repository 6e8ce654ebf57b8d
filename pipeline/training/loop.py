"""The training loop of one process, from settings to a trained model.

A run is a pure function of its settings and data: `clips.order` decides the batch of each step,
and torch's generators are seeded anew for each step. So a checkpoint needs no random state, fits
any device and number of processes, and a resumed run equals an uninterrupted one (on CPU bit for
bit).

Letters: B clips of a batch, b of a micro-batch, N tubes of a clip, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.clips.loader import Batch, pretraining_batches
from pipeline.clips.order import steps_of
from pipeline.clips.pixels import normalise
from pipeline.configuration.schema import Clip, Optimiser, Run, Trainer
from pipeline.errors import UserError
from pipeline.models.sigma import SigmaModel
from pipeline.objectives.masked_video import masked_video_loss
from pipeline.progress import Progress
from pipeline.shards.format import ClipEntry
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.devices import choose_device, fast_fp32
from pipeline.training.interruption import GoOnLater, StopRequest
from pipeline.training.logs import MetricsLog, SpeedLog
from pipeline.training.optimisation import parameter_groups, scaled_rate, schedule
from pipeline.training.state import Session, TrainingState

SHOWN = 64  # clips in one error message


class Gradients(NamedTuple):
    """What the forward and backward passes of one step found."""

    loss: float  # mean over the micro-batches
    losses: list[float]  # of each micro-batch
    norm: float  # length of all gradients together, before clipping
    diagnostics: dict[str, Tensor]  # scalars on the device, of the last micro-batch


def train(
    run: Run,
    clip: Clip,
    entries: Sequence[ClipEntry],
    checkpoints: Checkpoints,
    log: MetricsLog,
    speed: SpeedLog,
    session: Session,
) -> TrainingState:
    """Train `run` on `entries`, from its newest checkpoint or from the start, to its end.

    `session` is what shall be remembered of this process (`pipeline.provenance`).

    Raises:
        UserError: where the loss or a gradient is not finite, or a checkpoint cannot be written.
        GoOnLater: after SIGTERM or SIGUSR1, once the step is done and saved.
    """
    trainer = run.trainer
    torch.set_num_threads(trainer.threads)
    device = choose_device()
    model = initial_model(run, clip).to(device).train()
    state = TrainingState(model, adamw(model, trainer.optimiser), log)
    state.resume(checkpoints)
    speed.rewind(state.done)

    rates = learning_rates(trainer, log.steps, clips=len(entries))
    batches = _batches(run, clip, entries, state.done, log.steps)
    _say_plan(run, len(entries), state, checkpoints, device, session)
    with (
        fast_fp32(device, model.grid.count),
        StopRequest() as stop,
        _progress(checkpoints.label, state, trainer) as progress,
    ):
        for batch in speed.timed(stop.until(batches)):
            for group in state.optimiser.param_groups:
                group["lr"] = rates[batch.step] * group["lr_scale"]
            torch.manual_seed(step_seed(trainer.seed, batch.step))
            found = gradients(model, batch, run, device)
            if not (math.isfinite(found.loss) and math.isfinite(found.norm)):
                raise _not_finite(found, batch, checkpoints)
            state.optimiser.step()

            speed.clips += trainer.batch_size
            state.count(session, seconds=speed.seconds)
            log.add(found.loss)
            if log.is_due(state.done):
                diagnostics = {name: value.item() for name, value in found.diagnostics.items()}
                line = {"lr": rates[batch.step], "grad_norm": found.norm, **diagnostics}
                log.write(state.done, batch.epoch, line)
                speed.write(state.done)
                progress.fields.update(_shown(log.last, trainer.epochs))
            if state.done % trainer.checkpoint_every == 0 or state.done == log.steps:
                state.save(checkpoints)
            progress.advance()

    if state.done < log.steps:
        path = state.save(checkpoints)
        raise GoOnLater(f"{stop.signal}: stopped after step {state.done:,}, saved as {path}")
    return state


def initial_model(run: Run, clip: Clip) -> SigmaModel:
    """Build the model as every run with this `trainer.seed` and `model` begins.

    The encoder is built first, so it starts equal under different objectives too.
    """
    torch.manual_seed(run.trainer.seed)
    return SigmaModel(run.model, run.objective, clip)


def adamw(model: SigmaModel, settings: Optimiser) -> torch.optim.AdamW:
    """AdamW over the model's parameter groups, one kernel for all tensors of a group."""
    return torch.optim.AdamW(
        [dict(group) for group in parameter_groups(model, settings.weight_decay)],
        lr=0.0,  # each step sets its own
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def learning_rates(trainer: Trainer, steps: int, *, clips: int) -> list[float]:
    """The rate of each step: warm-up and cosine, scaled by the global batch.

    Steps stand in for epochs, since a batch may reach into the next epoch.
    """
    warmup = min(steps, steps_of(trainer.warmup_epochs, n=clips, batch_size=trainer.batch_size))
    base, final, start = (
        scaled_rate(rate, trainer.batch_size)
        for rate in (
            trainer.optimiser.base_lr,
            trainer.optimiser.final_lr,
            trainer.optimiser.warmup_lr,
        )
    )
    rates = schedule(
        base, final, epochs=steps, steps_per_epoch=1, warmup_epochs=warmup, start=start
    )
    return [float(rate) for rate in rates]


def step_seed(seed: int, step: int) -> int:
    """Return the seed of torch's generators in one step (drop path is all that uses them)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:7], "big")


def gradients(model: SigmaModel, batch: Batch, run: Run, device: torch.device) -> Gradients:
    """Leave the gradient of the mean loss of `batch` in the parameters, clipped where set.

    With accumulation Sinkhorn assigns each micro-batch by itself: prototypes then share fewer
    tubes than the global batch has.
    """
    trainer = run.trainer
    model.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    losses: list[Tensor] = []
    diagnostics: dict[str, Tensor] = {}
    for videos, masks in _micro_batches(batch, trainer.accumulation):
        pixels = normalise(videos.to(device, non_blocking=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=trainer.precision == "bf16"):
            loss, diagnostics = masked_video_loss(
                model, pixels, masks.to(device, non_blocking=True), run.objective
            )
        (loss / trainer.accumulation).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() / trainer.accumulation
        losses.append(loss.detach())
    with_gradient = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    if trainer.optimiser.clip_grad is not None:
        torch.nn.utils.clip_grads_with_norm_(with_gradient, trainer.optimiser.clip_grad, norm)
    loss, length, *each = torch.stack((total, norm, *losses)).tolist()  # one wait for the device
    return Gradients(loss, each, length, diagnostics)


def _batches(
    run: Run, clip: Clip, entries: Sequence[ClipEntry], first: int, steps: int
) -> Iterator[Batch]:
    trainer = run.trainer
    return pretraining_batches(
        entries,
        clip,
        run.objective.mask,
        run.model.tube,
        seed=trainer.seed,
        batch_size=trainer.batch_size,
        first_step=first,
        steps=steps - first,
        workers=trainer.workers,
        cache_mib=trainer.cache_mib,
    )


def _micro_batches(batch: Batch, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield equal parts of a batch: videos uint8 b,T,H,W,3 and masks bool b,N."""
    yield from zip(batch.videos.chunk(parts), batch.masks.chunk(parts), strict=True)


def _not_finite(found: Gradients, batch: Batch, checkpoints: Checkpoints) -> UserError:
    """The error of a step: it names the clips of the first micro-batch with such a loss, or all."""
    what = f"the loss is {found.loss}"
    if math.isfinite(found.loss):
        what = f"the length of the gradient is {found.norm}"
    ids = list(batch.ids)
    size = len(ids) // len(found.losses)
    bad = next((i for i, loss in enumerate(found.losses) if not math.isfinite(loss)), None)
    if bad is not None:
        ids = ids[bad * size : (bad + 1) * size]
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return UserError(
        f"{what} in step {batch.step + 1:,}: stopped before it could spoil the weights",
        place=f"{checkpoints.label}, rank 0 of 1, clips {', '.join(ids[:SHOWN])}{more}",
        remedy="lower trainer.optimiser.base_lr, set trainer.optimiser.clip_grad or use "
        f"trainer.precision=fp32; {checkpoints.last_good()}",
    )


def _say_plan(
    run: Run,
    clips: int,
    state: TrainingState,
    checkpoints: Checkpoints,
    device: torch.device,
    session: Session,
) -> None:
    trainer = run.trainer
    if not state.log.steps:
        checkpoints.say("no epochs: the model stays as it was initialised")
        return
    parts = f"{trainer.accumulation} x {trainer.batch_size // trainer.accumulation} clips"
    where = f"{trainer.threads} CPU thread(s)" if device.type == "cpu" else f"{device}"
    checkpoints.say(
        f"{clips:,} clips, {trainer.epochs} epochs = {state.log.steps:,} steps of {parts}, "
        f"{trainer.precision} on {where}"
    )
    if state.done:
        other = state.sessions[-1]["code"] != session["code"]
        anew = f" (which other code made; delete {checkpoints.folder} to begin anew)"
        checkpoints.say(f"going on after step {state.done:,}{anew if other else ''}")


def _progress(label: str, state: TrainingState, trainer: Trainer) -> Progress:
    rate = ("clips", trainer.batch_size)
    return Progress(label, state.log.steps, "steps", done=state.done, rate=rate)


def _shown(line: dict[str, Any], epochs: int) -> dict[str, str]:
    fields = {
        "epoch": f"{line['epoch'] + 1}/{epochs}",
        "loss": f"{line['loss']:.3f}",
        "lr": f"{line['lr']:.2e}",
    }
    if "prototypes_used" in line:
        fields["prototypes"] = f"{line['prototypes_used']:.0%}"
    return fields
