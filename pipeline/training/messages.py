"""What a run says at its start, and when it has to stop because of its numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.configuration.schema import Run
from pipeline.data.load.loader import Batch
from pipeline.errors import UserError
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.ranks import Ranks
from pipeline.training.state import Session, TrainingState

SHOWN = 64  # clips in one error message


class Taken(NamedTuple):
    """What one step found. All but `losses` and `diagnostics` are equal in all processes."""

    loss: float  # mean over the clips of all processes
    norm: float  # length of all gradients together, before clipping
    losses: list[float]  # mean of each part of this process's batch
    diagnostics: dict[str, Tensor]  # scalars on the device
    stop: bool  # whether any process was asked to stop


def not_finite(taken: Taken, batch: Batch, checkpoints: Checkpoints, ranks: Ranks) -> UserError:
    """The error of a step: it names the first process whose loss was not finite, and its clips.

    Those are the clips of the first such part; where only the gradient is not finite, all of
    rank 0. All processes call this; rank 0 alone looks at the checkpoints.
    """
    parts = torch.arange(len(batch.ids)).tensor_split(len(taken.losses))
    bad = next((n for n, loss in enumerate(taken.losses) if not math.isfinite(loss)), None)
    mine = None if bad is None else [batch.ids[i] for i in parts[bad].tolist()]
    everyones = ranks.everyones(mine)
    rank = next((rank for rank, clips in enumerate(everyones) if clips is not None), 0)
    if not ranks.is_first:
        return UserError("the loss or the gradient is not finite")  # rank 0 says more
    named = everyones[rank] or batch.ids
    what = f"the loss is {taken.loss}"
    if math.isfinite(taken.loss):
        what = f"the length of the gradient is {taken.norm}"
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return UserError(
        f"{what} in step {batch.step + 1:,}: stopped before it could spoil the weights",
        place=f"{checkpoints.label}, rank {rank} of {ranks.world}, clips "
        f"{', '.join(named[:SHOWN])}{more}",
        remedy="lower trainer.optimiser.base_lr, set trainer.optimiser.clip_grad or use "
        f"trainer.precision=fp32; {checkpoints.last_good()}",
    )


def say_plan(
    run: Run, clips: int, state: TrainingState, checkpoints: Checkpoints, session: Session
) -> None:
    """Print, on rank 0, what is trained on, by whom, and from where on."""
    trainer, engine, steps = run.trainer, state.engine, state.log.steps
    if not engine.ranks.is_first:
        return
    if not steps:
        begins = f"its encoder is taken from {run.weights}" if run.weights else "it is untrained"
        checkpoints.say(f"no epochs: {begins}")
        return
    place, device = engine.ranks.place, engine.device
    micro = trainer.batch_size // (place.world * trainer.accumulation)
    zero = f" (ZeRO {trainer.zero_stage})" if trainer.engine == "deepspeed" else ""
    where = f"{trainer.threads} CPU thread(s) each"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    checkpoints.say(
        f"{clips:,} clips, {trainer.epochs} epochs = {steps:,} steps of {trainer.batch_size} clips"
    )
    started = f", started by {place.launcher}" if place.launcher else ""
    checkpoints.say(
        f"{place.world} process(es) = {place.nodes} node(s) x {place.local_world} device(s)"
        f"{started}; engine {trainer.engine}{zero}, {engine.precision.name}, {where}; "
        f"{trainer.batch_size} = {place.world} x {trainer.accumulation} part(s) x {micro}"
    )
    if state.done:
        other = state.sessions[-1]["code"] != session["code"]
        anew = f" (which other code made; delete {checkpoints.folder} to begin anew)"
        checkpoints.say(f"going on after step {state.done:,}{anew if other else ''}")
