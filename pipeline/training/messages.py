"""What a run says at its start, and when it has to stop because of its numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.data.load.loader import Batch
from pipeline.errors import UserError
from pipeline.runtime import accelerators
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.ranks import Ranks
from pipeline.training.context import RunContext
from pipeline.training.state import TrainingState

SHOWN = 64  # clips in one error message


class StepResult(NamedTuple):
    """The outcome of one step. All but `losses` and `diagnostics` are equal in all processes."""

    loss: float  # mean over the clips of all processes
    grad_norm: float  # length of all gradients together, before clipping
    losses: list[float]  # mean of each part of this process's batch
    diagnostics: dict[str, Tensor]  # scalars on the device
    stop: bool  # whether any process was asked to stop


def not_finite(
    result: StepResult, batch: Batch, checkpoints: Checkpoints, ranks: Ranks
) -> UserError:
    """The error of a step: it names the first process whose loss was not finite, and its clips.

    Those are the clips of the first such part; where only the gradient is not finite, all of
    rank 0. All processes call this; rank 0 alone looks at the checkpoints.
    """
    parts = torch.arange(len(batch.ids)).tensor_split(len(result.losses))
    bad = next((n for n, loss in enumerate(result.losses) if not math.isfinite(loss)), None)
    mine = None if bad is None else [batch.ids[i] for i in parts[bad].tolist()]
    by_rank = ranks.all_gather(mine)
    rank = next((rank for rank, clips in enumerate(by_rank) if clips is not None), 0)
    if not ranks.is_first:
        return UserError("the loss or the gradient is not finite")  # rank 0 says more
    named = by_rank[rank] or batch.ids
    what = f"the loss is {result.loss}"
    if math.isfinite(result.loss):
        what = f"the length of the gradient is {result.grad_norm}"
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return UserError(
        f"{what} in step {batch.step + 1:,}: stopped before it could spoil the weights",
        place=f"{checkpoints.label}, rank {rank} of {ranks.world}, clips "
        f"{', '.join(named[:SHOWN])}{more}",
        remedy="lower trainer.optimiser.base_lr, set trainer.optimiser.clip_grad or use "
        f"trainer.precision=fp32; {checkpoints.last_good()}",
    )


def say_plan(context: RunContext, state: TrainingState) -> None:
    """Print, on rank 0, what is trained on, by whom, and from where on."""
    trainer, engine, steps = context.run.trainer, state.engine, state.log.steps
    checkpoints, clips, weights = context.checkpoints, len(context.entries), context.run.weights
    if not engine.ranks.is_first:
        return
    if not steps:
        begins = f"its encoder is taken from {weights}" if weights else "it is untrained"
        checkpoints.say(f"no epochs: {begins}")
        return
    process, device = engine.ranks.process, engine.device
    micro = trainer.batch_size // (process.world * trainer.accumulation)
    zero = f" (ZeRO {trainer.zero_stage})" if trainer.engine == "deepspeed" else ""
    where = accelerators.name_of(device) or f"{trainer.threads} CPU thread(s) each"
    checkpoints.say(
        f"{clips:,} clips, {context.epochs} epochs = {steps:,} steps of {trainer.batch_size} clips"
    )
    if context.mixture is not None:
        checkpoints.say(context.mixture.described(steps * trainer.batch_size))
    if context.initial is not None and not state.done:
        checkpoints.say(f"begins with the weights of {context.initial.path}")
    started = f", started by {process.launcher}" if process.launcher else ""
    checkpoints.say(
        f"{process.world} process(es) = {process.nodes} node(s) x {process.local_world} device(s)"
        f"{started}; engine {trainer.engine}{zero}, {engine.precision.name}, {where}; "
        f"{trainer.batch_size} = {process.world} x {trainer.accumulation} part(s) x {micro}"
    )
    if slow := engine.precision.warning("trainer.precision"):
        checkpoints.say(slow)
    if state.done:
        other = state.sessions[-1]["code"] != context.session["code"]
        anew = f" (which other code made; delete {checkpoints.folder} to begin anew)"
        checkpoints.say(f"going on after step {state.done:,}{anew if other else ''}")
