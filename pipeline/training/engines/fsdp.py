"""Weights, gradients and moments spread over the processes (torch's FSDP2, `fully_shard`).

Each transformer block is gathered when its turn comes, and let go of again; the rest of the model
is small and is gathered once in a pass. Under bf16 and fp16 blocks travel in that format, which
is what autocast would round them to; the rest stays in float32, above all the prototypes: epsilon
divides the rounding errors of their scores. Gradients are added up in float32.

Gradients are spread after every micro-batch, not after the last alone: otherwise each process
would hold all of them between micro-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional

from pipeline.training.engines.engine import Engine, Tensors


class FsdpEngine(Engine):
    """`fully_shard`: parameters are DTensors, of which each process keeps its rows."""

    def wrap(self) -> nn.Module:
        mesh = init_device_mesh(self.device.type, (self.ranks.world,))
        dtype = self.precision.dtype if self.precision.is_mixed else None
        blocks = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for stack in self.core.stacks:
            for block in stack:
                fully_shard(block, mesh=mesh, mp_policy=blocks)
        fully_shard(self.core, mesh=mesh)
        return self.core

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        if self.core.prototypes is not None:
            rows = _local(self.core.prototypes)  # each process has whole rows
            rows.copy_(functional.normalize(rows, dim=1))

    def shards(self) -> Tensors:
        return {name: _local(p).detach() for name, p in self._trainable()}

    def moments(self, key: str) -> Tensors:
        return {name: _local(moment) for name, moment in super().moments(key).items()}

    def gather_full(self, name: str, shard: Tensor) -> Tensor:
        like = self._sharded_parameter(name)
        return DTensor.from_local(
            shard, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
        ).full_tensor()

    def scatter_full(self, name: str, shard: Tensor, whole: Tensor) -> None:
        like = self._sharded_parameter(name)
        shard.copy_(_local(distribute_tensor(whole, like.device_mesh, like.placements)))

    def _sharded_parameter(self, name: str) -> DTensor:
        parameter = self.core.get_parameter(name)
        assert isinstance(parameter, DTensor)  # noqa: S101 - for mypy
        return parameter


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
