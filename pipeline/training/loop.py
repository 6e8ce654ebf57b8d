"""The training loop, from settings to a trained model, in one process or in one of many.

A run is a pure function of its settings and data: `clips.order` decides the batch of each step, and
torch's generators are seeded anew for each part of it. So a checkpoint needs no random state, fits
any device, engine and number of processes, and a resumed run equals an uninterrupted one (on one
CPU bit for bit, elsewhere within the rounding of sums).

Letters: B clips of a process's batch, b of one of its parts (micro-batches), N tubes of a clip,
T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Run, Trainer
from pipeline.data.load.failures import FailedClips
from pipeline.data.load.loader import Batch, pretraining_batches
from pipeline.data.load.order import steps_of
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.method.losses import SinkhornLoss
from pipeline.method.masked_video import assign_parts, masked_video_loss
from pipeline.method.pixels import normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.swapped_assignment import Assignments
from pipeline.runtime import precision
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.devices import fast_fp32
from pipeline.runtime.interruption import GoOnLater, StopRequest
from pipeline.runtime.optimisation import scaled_rate, schedule
from pipeline.runtime.ranks import Ranks
from pipeline.training import engines, flops, messages
from pipeline.training.engines import Engine
from pipeline.training.logs import MetricsLog, SpeedLog
from pipeline.training.messages import Taken
from pipeline.training.position import position, step_seed
from pipeline.training.record import recording
from pipeline.training.state import Session, TrainingState
from pipeline.training.tracking import Tracked


def train(
    run: Run,
    clip: Clip,
    entries: Sequence[ClipEntry],
    checkpoints: Checkpoints,
    log: MetricsLog,
    speed: SpeedLog,
    session: Session,
    tracked: Tracked,
    ranks: Ranks,
    device: torch.device,
) -> TrainingState:
    """Train `run` on `entries`, from its newest checkpoint or from the start, to its end.

    `session` is what shall be remembered of this process (`runtime.provenance`). All `ranks` call
    this together; rank 0 alone reads and writes checkpoints and logs.

    Raises:
        UserError: where the loss or a gradient is not finite, or a checkpoint cannot be written.
        GoOnLater: after SIGTERM or SIGUSR1 in any process, once the step is done and saved.
    """
    trainer = run.trainer
    torch.set_num_threads(trainer.threads)
    keep_freed_memory()
    format_ = precision.choose(trainer.precision, device)
    model = initial_model(run, clip).to(device).train()
    operations = flops.per_clip(model, run.objective)
    rates = learning_rates(trainer, log.steps, clips=len(entries))
    state = TrainingState(
        engines.build(model, trainer, ranks, format_),
        log,
        lambda step: position(step, trainer, clips=len(entries), rates=rates),
    )
    state.resume(checkpoints)
    session |= {
        "engine": trainer.engine,
        "processes": ranks.world,
        "precision": format_.name,
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }

    batches = _batches(run, clip, entries, state, log.steps)
    failed = FailedClips(len(entries), trainer.max_failed_share, known=state.failed_clips)
    session["failed_clips"] = failed.reasons  # grows while training
    messages.say_plan(run, len(entries), state, checkpoints, session)
    with (
        fast_fp32(device, model.grid.count),
        StopRequest() as stop,
        recording(run, state, speed, tracked, checkpoints, operations) as record,
    ):
        for batch, clips in together(record.timed(batches), ranks, failed):
            taken = take_step(state.engine, batch, clips, run, rates[batch.step], stop)
            if not is_sound(taken, state.engine):
                raise messages.not_finite(taken, batch, checkpoints, ranks)

            state.count(session, seconds=record.seconds)
            line = {"lr": rates[batch.step], "grad_norm": taken.norm}
            record.step(state.done, batch.epoch, taken.loss, line, taken.diagnostics, clips=clips)
            is_last = state.done == log.steps
            if taken.stop or is_last or state.done % trainer.checkpoint_every == 0:
                path = state.save(checkpoints)
            if taken.stop and not is_last:
                name = next(name for name in ranks.everyones(stop.signal) if name)
                raise GoOnLater(name, f"{name}: after step {state.done:,}, saved as {path}")
    return state


def initial_model(run: Run, clip: Clip) -> SigmaModel:
    """Build the model as every run with this `trainer.seed` and `model` begins.

    The encoder is built first, so it starts equal under different objectives too.
    """
    torch.manual_seed(run.trainer.seed)
    return sigma_model(run.model, run.objective, clip)


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


def together(
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
        clips, failures, missing = ranks.sums(mine).tolist()
        if failures:
            errors = ranks.everyones(error)
            raise next(each for each in errors if each is not None)
        assert batch is not None  # noqa: S101 - for mypy
        if missing:
            failed.add(each for some in ranks.everyones(lost) for each in some or [])
        yield batch, clips


def take_step(
    engine: Engine, batch: Batch, clips: int, run: Run, rate: float, stop: StopRequest
) -> Taken:
    """Take one optimiser step on the mean loss over `clips` clips, of which `batch` has a part.

    Sinkhorn assigns all tubes of the global batch at once, however many processes and parts share
    it (docs/training.md says why): where a batch comes in parts, their features are computed
    first, without gradients, and then each part's loss with its share of the assignments.
    """
    minimised, ranks, parts = run.objective.loss, engine.ranks, run.trainer.accumulation
    assignments: list[Assignments | None] = [None] * parts
    diagnostics: dict[str, Tensor] = {}
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
            loss, found = masked_video_loss(
                engine.model,
                pixels,
                masks,
                minimised,
                ranks.group,
                assignments=assignments[number],
                normalise=False,
            )
        # Engines average over processes, so the mean over all clips is a sum of such shares.
        engine.backward(loss * (count * ranks.world / clips), last=number == parts - 1)
        losses.append(loss.detach())
        shares.append(count / clips)
        diagnostics = diagnostics or found
    norm = engine.step(rate)

    each = torch.stack(losses)
    total = (each * each.new_tensor(shares)).sum()
    asked = torch.full_like(total, stop.signal is not None)
    total, asked = ranks.sums(torch.stack((total, asked)))
    numbers = torch.stack((total, norm, asked, *losses)).tolist()  # one wait for the device
    return Taken(numbers[0], numbers[1], numbers[3:], diagnostics, bool(numbers[2]))


def is_sound(taken: Taken, engine: Engine) -> bool:
    """Whether training can go on after this step."""
    return math.isfinite(taken.loss) and (math.isfinite(taken.norm) or engine.skips_overflow)


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
        pixels = normalise(videos.to(device, non_blocking=True))
        yield pixels, masks, count  # masks are counted on the CPU, and sent on from there


def _batches(
    run: Run, clip: Clip, entries: Sequence[ClipEntry], state: TrainingState, steps: int
) -> Iterator[Batch]:
    trainer, ranks = run.trainer, state.engine.ranks
    return pretraining_batches(
        entries,
        clip,
        run.objective.mask,
        run.model.tube,
        seed=trainer.seed,
        batch_size=trainer.batch_size,
        first_step=state.done,
        steps=steps - state.done,
        workers=trainer.workers,
        cache_mib=trainer.cache_mib,
        rank=ranks.rank,
        world=ranks.world,
        decoder=trainer.decoder,
        max_failed_share=trainer.max_failed_share,
        device=state.engine.device,
    )
