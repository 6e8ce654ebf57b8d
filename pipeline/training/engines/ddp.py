"""A copy of everything in every process; gradients are averaged (torch's DDP)."""

from __future__ import annotations

import contextlib
import warnings

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.engines.engine import Engine


class DdpEngine(Engine):
    """DistributedDataParallel: gradients travel while the backward pass goes on."""

    model: DistributedDataParallel

    def wrap(self) -> nn.Module:
        on_accelerator = self.device.type != "cpu"
        with warnings.catch_warnings():  # torch 2.15 has another name for it, which 2.11 has not
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            return DistributedDataParallel(
                self.core,
                device_ids=[self.device] if on_accelerator else None,
                broadcast_buffers=False,  # positions: equal everywhere, and never changed
                gradient_as_bucket_view=True,
            )

    def backward(self, loss: Tensor, *, last: bool) -> None:
        # DDP looks at this flag in the forward pass; it is `last` that decides there, too.
        with contextlib.nullcontext() if last else self.model.no_sync():
            super().backward(loss, last=last)
