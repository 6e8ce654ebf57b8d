"""What the training loop asks of an engine, and the engine of one process, which does just that.

An engine holds the model and its optimiser, spread over the processes in its own way. The loop
calls

    engine.begin_step()                        # once: prototypes to length one, no gradient left
    loss = ... engine.model(videos, mask) ...  # once for each micro-batch
    engine.backward(loss, last=...)            # in every process equally often
    norm = engine.step(values)                 # once

after which the weights are those that one process would have, had it computed the mean of the
processes' losses by itself. `full_state` is the same for all engines and numbers of processes:
whole tensors by name. So whatever one has saved, any other can load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.configuration.schema import Trainer
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets.averaged import AveragedEncoder
from pipeline.runtime.optimisers import StepValues, adamw, set_values
from pipeline.runtime.precision import Precision
from pipeline.runtime.ranks import Ranks
from pipeline.training.ema import Ema

Tensors = dict[str, Tensor]
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW, for each parameter


class Engine:
    """One process, one model, one optimiser; the others override what they do differently."""

    def __init__(
        self, model: SigmaModel, trainer: Trainer, ranks: Ranks, precision: Precision
    ) -> None:
        self.core = model  # on its device already
        self.trainer, self.ranks, self.precision = trainer, ranks, precision
        self.device = model.positions.device
        if trainer.compile:
            compile_blocks(model)
        self.model: nn.Module = self.wrap()
        self.optimiser: Any = self.build_optimiser(trainer)
        self.ema = Ema(trainer.ema) if trainer.ema is not None else None
        if self.ema is not None:
            self.ema.reset(self.shards())
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=precision.name == "fp16" and self.scales_losses
        )

    scales_losses = True  # by itself, under fp16

    # What differs between engines ---------------------------------------------------------------

    def wrap(self) -> nn.Module:
        """Prepare `core` for several processes; return what to call in its place."""
        return self.core

    def build_optimiser(self, trainer: Trainer) -> Any:
        """Build the optimiser, over the parameters as `wrap` has left them."""
        return adamw(self.core, trainer.optimiser)

    def normalise_prototypes(self) -> None:
        """Bring the prototypes to length one, wherever they are kept."""
        self.core.normalise_prototypes()

    def shards(self) -> Tensors:
        """What this process keeps of each trainable parameter, by name; not copies."""
        return {name: p.detach() for name, p in self._trainable()}

    def gather_full(self, name: str, shard: Tensor) -> Tensor:
        """The whole of a tensor that is spread as the parameter `name` is."""
        del name
        return shard

    def scatter_full(self, name: str, shard: Tensor, whole: Tensor) -> None:
        """Copy this process's part of a whole tensor into its shard. Undoes `gather_full`."""
        del name
        shard.copy_(whole)

    # A step -------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Forget the gradient of the step before, and bring the prototypes to length one."""
        self.core.zero_grad(set_to_none=True)
        self.normalise_prototypes()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this micro-batch's loss; after the `last`, of all processes."""
        del last
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, values: StepValues) -> Tensor:
        """Clip the gradient and take the step; return the gradient's length before (a scalar).

        Under fp16 a step whose gradient is not finite is left out, and the next loss scaled less.
        """
        set_values(self.optimiser, values)
        self.scaler.unscale_(self.optimiser)
        with_gradient = [p for p in self.core.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
        norm = full_tensor(norm)
        limit = self.trainer.optimiser.clip_grad
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(with_gradient, limit, norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.update_averages(values)
        return norm

    @torch.no_grad()
    def update_averages(self, values: StepValues) -> None:
        """Let moving averages follow the weights: that which is written, and the target's."""
        averages = self.target_weights()
        shards = self.shards() if averages or self.ema is not None else {}
        if self.ema is not None:
            self.ema.update(shards)
        for name, average in averages.items():
            average.lerp_(self.gather_full(name, shards[name]), 1 - values.momentum)

    def target_weights(self) -> Tensors:
        """The averaged encoder of an objective that has one: whole, in every process."""
        target = self.core.target
        return target.weights if isinstance(target, AveragedEncoder) else {}

    @property
    def skips_overflow(self) -> bool:
        """Whether a gradient that is not finite is but a reason to scale the next loss less."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    # The state ----------------------------------------------------------------------------------

    def full_state(self) -> dict[str, Any] | None:
        """All that the engine has learned, on the CPU; on ranks other than the first None.

        `model`: parameters by name; `moments`: of AdamW by name and kind; `adamw_steps`: how many;
        `average`: the moving average of the weights, or nothing; `target`: that of the encoder,
        where it is the target, or nothing; `scaler`: of fp16, or nothing.
        """
        shards = self.shards()
        state: dict[str, Any] = {
            "model": self._gather(shards),
            "moments": {key: self.gather_moments(key) for key in MOMENTS},
            "adamw_steps": self.step_count(),
            "average": self._gather(self.ema.shadows) if self.ema else {},
            "target": {name: w.to("cpu", copy=True) for name, w in self.target_weights().items()},
            "scaler": self.scaler.state_dict(),
        }
        return state if self.ranks.is_first else None

    def load_full_state(self, state: Mapping[str, Any] | None) -> None:
        """Become what `full_state` of any engine returned; given on rank 0 alone.

        Without a saved average, where one is kept now, it begins at the weights.
        """
        plain = self.ranks.on_rank_zero(
            lambda: (
                {k: state[k] for k in ("adamw_steps", "scaler")} | {"has": bool(state["average"])}
                if state
                else {}
            )
        )
        given: Mapping[str, Any] = state or {"moments": {}}
        shards = self.shards()
        self._scatter(shards, given.get("model"))
        self.after_loading_weights()
        self.init_moments(plain["adamw_steps"])
        if plain["adamw_steps"]:
            for key in MOMENTS:
                self.scatter_moments(key, given["moments"].get(key))
        if self.ema is not None:
            self._scatter(self.ema.shadows, given.get("average" if plain["has"] else "model"))
            self.ema.steps = plain["adamw_steps"]
        for name, average in self.target_weights().items():
            if self.ranks.is_first:
                average.copy_(given["target"][name])
            self.ranks.broadcast(average)
        if plain["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(plain["scaler"])

    def full_weights(self, *, averaged: bool) -> Tensors | None:
        """The weights by name, on the CPU of rank 0; None on other ranks.

        With `averaged`, averages take their place where they are kept. An averaged target is what
        V-JEPA's authors evaluate, too.
        """
        chosen = self.ema.shadows if averaged and self.ema else self.shards()
        gathered = self._gather(chosen)
        if averaged and not self.ema:
            gathered |= {name: w.cpu() for name, w in self.target_weights().items()}
        return gathered if self.ranks.is_first else None

    def moments(self, key: str) -> Tensors:
        """What this process keeps of a moment of each parameter; not copies."""
        state = self.adamw.state
        return {name: state[p][key] for name, p in self._trainable() if p in state}

    def gather_moments(self, key: str) -> Tensors:
        """A moment of every parameter, whole, on the CPU of rank 0."""
        return self._gather(self.moments(key))

    def scatter_moments(self, key: str, whole: Mapping[str, Tensor] | None) -> None:
        """Fill a moment of every parameter from whole tensors, given on rank 0."""
        self._scatter(self.moments(key), whole)

    @property
    def adamw(self) -> torch.optim.Optimizer:
        """The optimiser of torch that takes the steps."""
        return self.optimiser  # type: ignore[no-any-return]

    def step_count(self) -> int:
        """How often AdamW has stepped: its bias correction depends on it."""
        states = [s for s in self.adamw.state.values() if "step" in s]
        return int(states[0]["step"]) if states else 0

    def init_moments(self, steps: int) -> None:
        """Make room for the moments after so many steps."""
        self.adamw.state.clear()
        for parameter in self.optimizer_params() if steps else ():
            self.adamw.state[parameter] = {
                "step": torch.tensor(float(steps), device=self.device),
                **{key: torch.zeros_like(parameter) for key in MOMENTS},
            }

    def optimizer_params(self) -> list[Tensor]:
        """What AdamW takes its steps on."""
        return [p for group in self.adamw.param_groups for p in group["params"]]

    def after_loading_weights(self) -> None:
        """Copy what `shards` now hold to wherever else the engine keeps weights."""

    def _trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.core.named_parameters() if p.requires_grad]

    def _gather(self, shards: Tensors) -> Tensors:
        """Whole tensors on the CPU of rank 0, one after the other; nothing on other ranks."""
        gathered = {}
        for name, shard in shards.items():
            tensor = self.gather_full(name, shard)
            if self.ranks.is_first:
                gathered[name] = tensor.detach().to("cpu", copy=True)
        return gathered

    def _scatter(self, shards: Tensors, whole: Mapping[str, Tensor] | None) -> None:
        """Fill shards from the whole tensors of rank 0, one after the other."""
        for name, shard in shards.items():
            shape = self.shape(name)
            tensor = (
                whole[name].to(self.device, torch.float32)
                if self.ranks.is_first and whole is not None
                else torch.empty(shape, device=self.device)
            )
            self.scatter_full(name, shard, self.ranks.broadcast(tensor.contiguous()))

    def shape(self, name: str) -> torch.Size:
        """The shape of a whole parameter."""
        return self.core.get_parameter(name).shape


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that torch keeps in parts, whole; any other as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def compile_blocks(model: SigmaModel) -> None:
    """Compile every transformer block: the time goes there, and as they are alike it is quick."""
    for stack in model.stacks:
        for block in stack:
            block.compile()
