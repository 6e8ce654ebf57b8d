"""DeepSpeed's ZeRO: what the processes keep only parts of depends on `trainer.zero_stage`.

Stage 1 spreads the moments, stage 2 gradients, too, stage 3 also the weights (Rajbhandari et al.
2020). Weights stay in float32 under mixed precision, as with the other engines: DeepSpeed's own
autocast is used, not its half-size weights.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from pipeline.configuration.schema import Trainer
from pipeline.errors import UserError, how_to_install
from pipeline.runtime.optimisers import StepValues, adamw, set_values
from pipeline.training.engines.engine import Engine, Tensors


class DeepSpeedEngine(Engine):
    """`deepspeed.initialize` around the model and torch's AdamW."""

    scales_losses = False

    def wrap(self) -> nn.Module:
        deepspeed = import_deepspeed(self.device)
        if self.precision.name == "fp16":
            raise UserError(
                "float16 with scaled losses is not offered with DeepSpeed",
                place="trainer.precision, trainer.engine",
                remedy="use engine ddp or fsdp, or precision bf16 or fp32",
            )
        # It wants to be told, which srun and a process that is alone do not.
        os.environ.setdefault("LOCAL_RANK", str(self.ranks.process.local_rank))
        engine, *_ = deepspeed.initialize(
            model=self.core,
            optimizer=adamw(self.core, self.trainer.optimiser),
            config=self.configuration(),
            dist_init_required=False,
        )
        engine.optimizer.optimizer.state.clear()  # stage 3 has taken a step, to make room
        return engine  # type: ignore[no-any-return]

    def configuration(self) -> dict[str, Any]:
        """DeepSpeed's settings. It only checks the product of the three sizes, and uses none."""
        parts = self.trainer.accumulation
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": parts,
            "train_batch_size": parts * self.ranks.world,
            "gradient_clipping": self.trainer.optimiser.clip_grad or 0.0,
            "zero_optimization": {
                "stage": self.trainer.zero_stage,
            },
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {
                "enabled": self.precision.is_mixed,
                "dtype": str(self.precision.dtype).removeprefix("torch."),
                "lower_precision_safe_modules": [],  # gradients travel in float32
            },
            "steps_per_print": 10**12,
            "wall_clock_breakdown": False,
        }

    def build_optimiser(self, trainer: Trainer) -> Any:
        del trainer
        return self.model.optimizer

    # A step -------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        self.normalise_prototypes()  # gradients were let go of by DeepSpeed's own step

    def backward(self, loss: Tensor, *, last: bool) -> None:
        engine: Any = self.model
        engine.set_gradient_accumulation_boundary(last)
        engine.backward(loss, scale_wrt_gas=False)

    def step(self, values: StepValues) -> Tensor:
        set_values(self.optimiser, values)
        engine: Any = self.model
        engine.step()
        self.update_averages(values)
        norm = engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=self.device).detach()

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        """DeepSpeed steps on copies of the weights, so the copy is normalised, and what is used."""
        if self.core.prototypes is not None:
            whole = self._fragments.safe_get_full_fp32_param(self.core.prototypes)
            self._set(self.core.prototypes, functional.normalize(whole, dim=1))

    # The state ----------------------------------------------------------------------------------

    def shards(self) -> Tensors:
        if not self.is_stage3:  # weights are whole in every process
            return super().shards()
        local = self._fragments.safe_get_local_fp32_param
        return {name: local(parameter).detach() for name, parameter in self._trainable()}

    def gather_full(self, name: str, shard: Tensor) -> Tensor:
        if not self.is_stage3:
            return shard
        parts = [torch.empty_like(shard) for _ in range(self.ranks.world)]
        dist.all_gather(parts, shard.contiguous(), group=self.ranks.group)
        shape = self.shape(name)
        return torch.cat(parts)[: shape.numel()].reshape(shape)  # the last part is padded

    def scatter_full(self, name: str, shard: Tensor, whole: Tensor) -> None:
        del name
        if not self.is_stage3:
            shard.copy_(whole)
            return
        padding = shard.numel() * self.ranks.world - whole.numel()
        padded = functional.pad(whole.flatten(), (0, padding))
        shard.copy_(padded.view(self.ranks.world, -1)[self.ranks.rank])

    def shape(self, name: str) -> torch.Size:
        parameter: Any = self.core.get_parameter(name)
        return torch.Size(parameter.ds_shape) if self.is_stage3 else parameter.shape

    def after_loading_weights(self) -> None:
        shards = self.shards()
        for name, parameter in self._trainable():
            self._set(parameter, self.gather_full(name, shards[name]))

    def gather_moments(self, key: str) -> Tensors:
        moments = {}
        self._link_moments()
        for name, parameter in self._trainable() if self.step_count() else ():
            whole = self._fragments.safe_get_full_optimizer_state(parameter, key)
            if self.ranks.is_first:
                moments[name] = whole.to("cpu", copy=True)
        return moments

    def scatter_moments(self, key: str, whole: Mapping[str, Tensor] | None) -> None:
        for name, parameter in self._trainable():
            tensor = torch.empty(self.shape(name), device=self.device)
            if whole is not None:
                tensor.copy_(whole[name])
            self.ranks.broadcast(tensor)
            self._fragments.safe_set_full_optimizer_state(parameter, tensor, key)

    @property
    def adamw(self) -> torch.optim.Optimizer:
        return self.optimiser.optimizer  # type: ignore[no-any-return]

    def optimizer_params(self) -> list[Tensor]:
        if self.is_stage3:
            return list(self.optimiser.fp32_partitioned_groups_flat)
        return list(self.optimiser.single_partition_of_fp32_groups)

    def init_moments(self, steps: int) -> None:
        super().init_moments(steps)
        self._link_moments()

    def _link_moments(self) -> None:
        """Tell the parameters where their moments are; DeepSpeed does so for one group of several.

        (Seen with 0.19.8: it links all groups after it has taken the first group's first step.)
        """
        if not self.is_stage3 and self.step_count():
            self.optimiser._hp_optimizer_states_linked = False
            self.optimiser._lazy_init_hp_params_optimizer_state()

    def _set(self, parameter: Any, whole: Tensor) -> None:
        """Set a parameter: the copy that DeepSpeed steps on, and what the model computes with."""
        self._fragments.safe_set_full_fp32_param(parameter, whole)
        if not self.is_stage3:
            parameter.data.copy_(whole)
            return
        local = self._fragments.safe_get_local_fp32_param(parameter)
        parameter.ds_tensor.data.copy_(local)
        if parameter.data.numel() == whole.numel():  # small ones are kept whole, too
            parameter.data.copy_(whole)

    @property
    def is_stage3(self) -> bool:
        """Whether weights are spread, too."""
        return self.trainer.zero_stage == 3

    @property
    def _fragments(self) -> Any:
        return importlib.import_module("deepspeed.utils.tensor_fragment")


def import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed, for this device, saying nothing but warnings.

    Raises:
        UserError: where it is not installed.
    """
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or it would look for others, and warn
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    try:
        module = importlib.import_module("deepspeed")
    except ImportError as error:
        raise UserError(
            f"DeepSpeed cannot be imported: {error}",
            place="trainer.engine",
            remedy=how_to_install("deepspeed") + ", or use engine ddp or fsdp",
        ) from error
    importlib.import_module("deepspeed.utils").logger.setLevel(logging.WARNING)
    if device.type == "cpu":  # it would compile an all-reduce of its own; gloo's will do
        module.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return module
