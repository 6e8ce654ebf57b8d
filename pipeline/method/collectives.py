"""What an objective needs from the other processes, as a function that is passed in."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor
from torch import distributed as dist


class AllReduce(Protocol):
    """Combine a tensor of the same shape from every process, elementwise."""

    def __call__(self, values: Tensor, operation: Literal["sum", "max"], /) -> Tensor: ...


def alone(values: Tensor, _operation: Literal["sum", "max"]) -> Tensor:
    """The `AllReduce` of a single process."""
    return values


def over(group: dist.ProcessGroup | None) -> AllReduce:
    """The `AllReduce` over a process group; that of a single process where `group` is None."""
    if group is None or dist.get_world_size(group) == 1:
        return alone
    operations = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}

    def all_reduce(values: Tensor, operation: Literal["sum", "max"]) -> Tensor:
        total = values.clone()
        dist.all_reduce(total, op=operations[operation], group=group)
        return total

    return all_reduce
