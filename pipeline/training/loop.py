"""The training loop, from settings to a trained model, in one process or in one of many.

A run is a pure function of its settings and data: `clips.order` decides the batch of each step, and
torch's generators are seeded anew for each part of it. So a checkpoint needs no random state, fits
any device, engine and number of processes, and a resumed run equals an uninterrupted one (on one
CPU bit for bit, elsewhere within the rounding of sums).

Shapes: B clips of a process's batch, b of one of its parts (micro-batches), N tubes of a clip,
T frames, H height, W width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Run
from pipeline.data.load.failed_clips import FailedClips
from pipeline.data.load.loader import Batch, PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.errors import UserError
from pipeline.method.losses import SinkhornLoss
from pipeline.method.masked_video import assign_parts, masked_video_loss
from pipeline.method.masks import Mask
from pipeline.method.pixels import normalise, to_device
from pipeline.method.sigma import SigmaModel
from pipeline.method.swapped_assignment import Assignments
from pipeline.method.tubes import cut, least_counts, loss_weight
from pipeline.runtime import accelerators, precision
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.devices import fast_fp32
from pipeline.runtime.interruption import ResumeLater, StopRequest
from pipeline.runtime.optimisers import StepValues
from pipeline.runtime.ranks import Ranks
from pipeline.training import clustering, engines, flops, messages
from pipeline.training.context import RunContext
from pipeline.training.engines import Engine
from pipeline.training.inheritance import weights_of
from pipeline.training.messages import StepResult
from pipeline.training.position import position, step_seed
from pipeline.training.record import recording
from pipeline.training.schedules import step_values
from pipeline.training.state import TrainingState
from pipeline.weights import teachers


def train(context: RunContext) -> TrainingState:
    """Train a run from its newest checkpoint or from the start, to its end.

    All processes call this together; rank 0 alone reads and writes checkpoints and logs.

    Raises:
        UserError: where the loss or a gradient is not finite, or a checkpoint cannot be written.
        ResumeLater: after SIGTERM or SIGUSR1 in any process, once the step is done and saved.
    """
    run, trainer, ranks = context.run, context.run.trainer, context.ranks
    torch.set_num_threads(trainer.threads)
    keep_freed_memory()
    model = initial_model(run, context.clip)
    if context.initial is not None:
        context.initial.load(model)
    weights_of_run = functools.partial(weights_of, context.tracked.experiment)
    teachers.hand_over(model, run.objective.all_targets, weights_of_run)
    # Copies the model: not on an accelerator. A network of another library hides no tubes.
    operations = flops.per_clip(model, run.objective) if run.trainer.epochs else 0
    model = model.to(context.device).train()
    clustering.hand_over(model, context)
    values = step_values(run, len(context.entries))
    state = resumed_state(context, model, [each.rate for each in values])
    known = state.failed_clips
    failed = FailedClips(len(context.entries), trainer.max_failed_share, known=known)
    context.session["failed_clips"] = failed.reasons  # grows while training
    messages.say_plan(context, state)
    with (
        fast_fp32(context.device, model.grid.count),
        StopRequest() as stop,
        recording(context, state, operations) as record,
    ):
        batches = record.timed(_batches(context, state))
        for batch, clips in synchronised_batches(batches, ranks, failed):
            batch = with_equal_counts(batch, run.objective.mask, ranks)
            result = train_step(state.engine, batch, clips, run, values[batch.step], stop)
            if not is_finite(result, state.engine):
                raise messages.not_finite(result, batch, context.checkpoints, ranks)

            state.count(context.session, seconds=record.seconds)
            rate = values[batch.step].rate
            record.step(state.done, batch.epoch, rate, result, clips=clips)
            is_last = state.done == context.log.steps
            if result.stop or is_last or state.done % trainer.checkpoint_every == 0:
                path = state.save(context.checkpoints)
            if result.stop and not is_last:
                name = next(name for name in ranks.all_gather(stop.signal) if name)
                raise ResumeLater(name, f"{name}: after step {state.done:,}, saved as {path}")
    return state


def resumed_state(context: RunContext, model: SigmaModel, rates: Sequence[float]) -> TrainingState:
    """Put a model into its engine, at the newest checkpoint or at the beginning."""
    trainer, ranks, device = context.run.trainer, context.ranks, context.device
    clips, mixture = len(context.entries), context.mixture
    number_format = precision.choose(trainer.precision, device)
    state = TrainingState(
        engines.build(model, trainer, ranks, number_format),
        context.log,
        lambda step: position(step, trainer, clips=clips, rates=rates, mixture=mixture),
    )
    state.resume(context.checkpoints)
    context.session.update(
        engine=trainer.engine,
        processes=ranks.world,
        precision=number_format.name,
        accelerator=accelerators.name_of(device),
    )
    return state


def initial_model(run: Run, clip: Clip) -> SigmaModel:
    """Build the model as every run with this `trainer.seed` and `model` begins.

    The encoder is built first, so it starts equal under different objectives too.
    """
    torch.manual_seed(run.trainer.seed)
    return sigma_model(run.model, run.objective, clip)


def with_equal_counts(batch: Batch, mask: Mask, ranks: Ranks) -> Batch:
    """Give all clips of a step equally many visible and predicted tubes, whoever holds them.

    Masks whose counts vary are cut to the least of the step (`tubes.cut`).
    """
    if mask.equal_counts:
        return batch
    counts = ranks.all_reduce(least_counts(batch.masks), "min")
    return replace(batch, masks=cut(batch.masks, counts))


def synchronised_batches(
    batches: Iterator[Batch], ranks: Ranks, failed: FailedClips
) -> Iterator[tuple[Batch, int]]:
    """Yield each batch of this process, and how many clips it and those of the others hold.

    `failed` takes note of the clips that no process could read.

    Raises the UserError of whichever process's loader raised one, in all of them; and one in all of
    them where all processes together have lost more clips than they may.
    """
    while True:
        batch: Batch | None = None
        error: UserError | None = None
        try:
            batch = next(batches)
        except StopIteration:
            return  # all have equally many
        except UserError as caught:
            error = caught
        lost = list(batch.failed) if batch else []
        mine = torch.tensor([len(batch.ids) if batch else 0, error is not None, len(lost)])
        clips, failures, missing = ranks.all_reduce(mine).tolist()
        if failures:
            errors = ranks.all_gather(error)
            raise next(each for each in errors if each is not None)
        assert batch is not None  # noqa: S101 - for mypy
        if missing:
            failed.add(each for some in ranks.all_gather(lost) for each in some or [])
        yield batch, clips


def train_step(
    engine: Engine, batch: Batch, clips: int, run: Run, values: StepValues, stop: StopRequest
) -> StepResult:
    """Take one optimiser step on the mean loss over `clips` clips, of which `batch` has a part.

    Where clips have unequally many tubes in the loss, it is the mean over all those tubes.

    Sinkhorn assigns all tubes of the global batch at once, however many processes and parts share
    it (docs/training.md says why): where a batch comes in parts, their features are computed
    first, without gradients, and then each part's loss with its share of the assignments.
    """
    minimised, ranks, parts = run.objective.loss, engine.ranks, run.trainer.accumulation
    assignments: list[Assignments | None] = [None] * parts
    diagnostics: dict[str, Tensor] = {}
    total_weight = _total_weight(batch, clips, ranks)
    engine.begin_step()
    if parts > 1 and isinstance(minimised, SinkhornLoss):
        with engine.precision.autocast():
            assignments[:], diagnostics = assign_parts(
                engine.model,
                _parts(batch, run, engine),
                minimised,
                ranks.group,
            )
    losses, shares = [], []
    for number, (pixels, masks, count) in enumerate(_parts(batch, run, engine)):
        with engine.precision.autocast():
            loss, part_diagnostics = masked_video_loss(
                engine.model,
                pixels,
                masks,
                minimised,
                ranks.group,
                assignments=assignments[number],
                normalise=False,
            )
        # Engines average over processes, so the mean over all clips is a sum of such shares.
        weight = loss_weight(masks) if count else 0
        engine.backward(loss * (weight * ranks.world / total_weight), last=number == parts - 1)
        losses.append(loss.detach())
        shares.append(weight / total_weight)
        diagnostics = diagnostics or part_diagnostics
    norm = engine.step(values)

    total = torch.stack([loss * share for loss, share in zip(losses, shares, strict=True)]).sum()
    asked = torch.full_like(total, stop.signal is not None)
    total, asked = ranks.all_reduce(torch.stack((total, asked)))
    numbers = torch.stack((total, norm, asked, *losses)).tolist()  # one wait for the device
    return StepResult(numbers[0], numbers[1], numbers[3:], diagnostics, bool(numbers[2]))


def _total_weight(batch: Batch, clips: int, ranks: Ranks) -> int:
    """Return the sum of `loss_weight` over the parts of all processes."""
    if batch.masks.dtype != torch.uint8:
        return clips
    return int(ranks.all_reduce(torch.tensor(loss_weight(batch.masks))))


def is_finite(result: StepResult, engine: Engine) -> bool:
    """Whether training can go on after this step."""
    return math.isfinite(result.loss) and (math.isfinite(result.grad_norm) or engine.skips_overflow)


def _parts(batch: Batch, run: Run, engine: Engine) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield the parts of a batch, as equal as can be, each with its own random numbers.

    Each is videos, normalised, b,3,T,H,W; masks b,N; and how many of its clips count: all, but
    where clips have failed and there are fewer than parts, one that another part has stands in.
    """
    parts, device = run.trainer.accumulation, engine.device
    split = zip(batch.videos.tensor_split(parts), batch.masks.tensor_split(parts), strict=True)
    for number, (videos, masks) in enumerate(split):
        count = len(videos)
        if not count:
            videos, masks = batch.videos[:1], batch.masks[:1]
        part = engine.ranks.rank * parts + number
        torch.manual_seed(step_seed(run.trainer.seed, batch.step, part))
        # Masks are counted on the CPU, and sent on from there.
        yield normalise(to_device(videos, device)), masks, count


def _batches(context: RunContext, state: TrainingState) -> Iterator[Batch]:
    """Load this process's part of the batches that are left."""
    run, trainer, ranks = context.run, context.run.trainer, context.ranks
    clips = PretrainingClips(
        context.entries,
        context.clip,
        run.objective.mask,
        run.model.tube,
        seed=trainer.seed,
        batch_size=trainer.batch_size,
        masks_per_clip=run.objective.masks_per_clip,
        paste=run.objective.paste,
        mixture=context.mixture,
    )
    options = LoaderOptions(
        workers=trainer.workers,
        cache_mib=trainer.cache_mib,
        decoder=trainer.decoder,
        max_failed_share=trainer.max_failed_share,
        device=context.device,
    )
    steps = range(state.done, context.log.steps)
    return pretraining_batches(clips, steps, options, rank=ranks.rank, world=ranks.world)
