"""Training steps of the same size and on the same batch: ours, and those it is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.configuration.schema import Clip, Run
from pipeline.data.load.loader import Batch
from pipeline.method.pixels import normalise
from pipeline.method.sigma import SigmaModel
from pipeline.runtime import precision
from pipeline.runtime.devices import fast_fp32
from pipeline.runtime.interruption import StopRequest
from pipeline.runtime.optimisers import StepValues, parameter_groups
from pipeline.runtime.ranks import Ranks
from pipeline.training import engines
from pipeline.training.loop import train_step
from pipeline.training.schedules import learning_rates
from pipeline.weights import hugging_face


class Contender(Protocol):
    """A model with its optimiser, which takes training steps."""

    name: str

    def kernels(self) -> contextlib.AbstractContextManager[Any]:
        """Be open around each step, outside of what is timed."""

    def step(self, batch: Batch) -> float:
        """Take one optimiser step; return its loss."""


class Ours:
    """What `pipeline.training.loop` does in every step, but for the loader, the logs and saving."""

    def __init__(self, name: str, model: SigmaModel, run: Run, device: torch.device) -> None:
        self.name, self.run, self.device, self.model = name, run, device, model.train()
        chosen = precision.choose(run.trainer.precision, device)
        self.engine = engines.build(model, run.trainer, Ranks(), chosen)
        self.rate = rate_of(run)

    def kernels(self) -> contextlib.AbstractContextManager[Any]:
        """As in training: float32 products by oneDNN on a CPU."""
        return fast_fp32(self.device, self.model.grid.count)

    def step(self, batch: Batch) -> float:
        """Take a step of the training loop."""
        size, values = len(batch.ids), StepValues(self.rate)
        return train_step(self.engine, batch, size, self.run, values, StopRequest()).loss


class Other:
    """Any module that returns its loss, with AdamW, under PyTorch's own settings."""

    def __init__(self, name: str, model: nn.Module, run: Run, device: torch.device) -> None:
        self.name, self.device, self.model = name, device, model.to(device).train()
        chosen = precision.choose(run.trainer.precision, device)
        self.autocast = chosen.autocast()
        settings = run.trainer.optimiser
        self.optimiser = torch.optim.AdamW(
            [dict(group) for group in parameter_groups(self.model, settings.weight_decay)],
            lr=rate_of(run),
            betas=settings.betas,
            eps=settings.eps,
            fused=True if name == "hugging_face" else None,  # as their Trainer's default
        )

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """As PyTorch chooses them."""
        yield

    def step(self, batch: Batch) -> float:
        """Take a plain training step."""
        pixels = normalise(batch.videos.to(self.device)).contiguous()
        mask = batch.masks.to(self.device)
        self.optimiser.zero_grad()
        with self.autocast:
            loss: Tensor = self.model(pixels, mask)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.item()


class HuggingFaceLoss(nn.Module):
    """Transformers' VideoMAE for pretraining with the weights of a model of ours."""

    def __init__(self, model: SigmaModel, run: Run, clip: Clip) -> None:
        super().__init__()
        from transformers import VideoMAEConfig, VideoMAEForPreTraining

        settings = hugging_face.config(run.model, clip)
        # Copies, or both would train the same weights; loaded as from a file, since they rename
        # what the file format calls by older names.
        weights = {name: t.detach().clone() for name, t in hugging_face.tensors(model).items()}
        self.theirs = VideoMAEForPreTraining.from_pretrained(
            None, config=VideoMAEConfig(**settings), state_dict=weights
        )

    def forward(self, videos: Tensor, mask: Tensor) -> Tensor:
        """The mean squared error of videos B,3,T,H,W and a mask B,N."""
        # Their patches are cut by a convolution: contiguous channels suit it.
        output = self.theirs(pixel_values=videos.transpose(1, 2), bool_masked_pos=mask)
        loss: Tensor = output.loss
        return loss


def rate_of(run: Run) -> float:
    """A learning rate from the middle of a run."""
    rates = learning_rates(run.trainer, clips=10 * run.trainer.batch_size)
    return rates[len(rates) // 2]
