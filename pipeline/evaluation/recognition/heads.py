"""Small networks trained on what a frozen encoder gives: one head per learning rate, all at once.

All heads see the same batches, so that the inputs, which may cost a pass through the encoder, are
made once. `val` chooses one of them; without a `val` split a part of `train` does, and the chosen
rate then learns from the whole of `train`. Test clips are answered once, by the chosen head.

Shapes: n clips, b of a batch, V views, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.configuration.schema import Training
from pipeline.data.load.order import batch as clips_of_step
from pipeline.data.load.order import planned_steps
from pipeline.evaluation.metrics import Names, average, rank, top_k
from pipeline.evaluation.recognition.task import Labelled, Prediction, Task, predicted
from pipeline.method.pixels import to_device
from pipeline.runtime.checkpoints import Checkpoints, Resumption
from pipeline.runtime.devices import choose_device
from pipeline.runtime.optimisers import parameter_groups, scaled_rate, schedule, solver
from pipeline.runtime.progress import Progress

SAVE_EVERY_S = 300.0
SHOWN_EVERY_S = 20.0


class Inputs(Protocol):
    """What the heads get of clips, found by the clips' ids."""

    def batches(self, ids: Sequence[str], batch_size: int) -> Iterator[Tensor]:
        """Yield float32 (b, V, ...) of these clips, in this order, `batch_size` at a time."""


@dataclass(frozen=True)
class Arrays:
    """Inputs that lie in memory or on disk: `row_of` gives a clip's, (V, ...), by its id."""

    row_of: Callable[[str], NDArray[Any]]

    @classmethod
    def of(cls, *parts: tuple[Sequence[str], NDArray[Any]]) -> Arrays:
        """Take the rows of several arrays (n, V, ...), each with the ids of its clips."""
        rows = {
            str(clip): row for ids, values in parts for clip, row in zip(ids, values, strict=True)
        }
        return cls(rows.__getitem__)

    def batches(self, ids: Sequence[str], batch_size: int) -> Iterator[Tensor]:
        for first in range(0, len(ids), batch_size):
            rows = np.stack([self.row_of(str(clip)) for clip in ids[first : first + batch_size]])
            yield torch.from_numpy(rows).float()


@dataclass(frozen=True)
class HeadTrainer:
    """A kind of head, and how it is trained on which inputs."""

    settings: Training
    build: Callable[[int], nn.Module]  # a head for C classes: (b, ...) to logits (b, C)
    inputs: Inputs
    resumption: Resumption

    def predict(self, task: Task) -> Prediction:
        """Train heads, choose one, and score the classes of the test clips with it."""
        rates, notes = list(self.settings.rates), dict[str, object]()
        heads: list[nn.Module] = []
        if len(rates) > 1:
            fit, judge, by = task.selection
            if len(judge.ids):
                heads = self.train(fit, task.classes, rates, "choice")
                shares = [
                    top_k(rank(self.scores(head, judge), task.classes), judge.truth, 1)
                    for head in heads
                ]
                best = int(np.argmax(shares))
                tried = [[rate, share] for rate, share in zip(rates, shares, strict=True)]
                notes = {"chosen_on": by, "tried": tried}
                heads = [heads[best]] if fit is task.train else []
                rates = [rates[best]]
            else:
                rates, notes = rates[:1], {"chosen_on": "nothing"}
        head = heads[0] if heads else self.train(task.train, task.classes, rates, "final")[0]
        chosen: dict[str, object] = {"rate": rates[0], "fitted_on": "train", **notes}
        return predicted(task, lambda clips: self.scores(head, clips), task.classes, chosen)

    def train(
        self, clips: Labelled, classes: Names, rates: Sequence[float], purpose: str
    ) -> list[nn.Module]:
        """Return a head per rate, trained to tell the classes of clips."""
        truth = torch.from_numpy(np.searchsorted(classes, clips.truth))
        ids = [*map(str, clips.ids)]
        return self.fit(ids, truth, len(classes), rates, purpose, functional.cross_entropy)

    def fit(
        self,
        ids: Sequence[str],
        truth: Tensor,
        outputs: int,
        rates: Sequence[float],
        purpose: str,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> list[nn.Module]:
        """Return a trained head per rate, in evaluation mode; goes on where it was interrupted.

        `truth` (n, ...) is what the loss compares a head's `outputs` with.
        """
        settings, resumption = self.settings, self.resumption
        device = choose_device()
        n, size = len(ids), min(settings.batch_size, len(ids))
        steps, warmup = planned_steps(settings.epochs, settings.warmup_epochs, n=n, batch_size=size)
        heads = _fresh(self.build, outputs, len(rates), settings.seed).to(device).train()
        optimisers = [
            solver(settings.solver, parameter_groups(head, settings.weight_decay)) for head in heads
        ]
        curve = schedule(1.0, 0.0, epochs=steps, steps_per_epoch=1, warmup_epochs=warmup)
        checkpoints = resumption.checkpoints(purpose, rates=list(rates))
        done = _resume(checkpoints, heads, optimisers)
        drawn = [clips_of_step(settings.seed, k, n=n, batch_size=size) for k in range(done, steps)]
        shown = [ids[place] for step in drawn for _, place in step]
        saved = time.monotonic()
        label = resumption.label
        with Progress(label, steps, "steps", done=done, interval=SHOWN_EVERY_S) as progress:
            for step, rows in zip(drawn, self.inputs.batches(shown, size), strict=True):
                epochs, places = zip(*step, strict=True)
                view = torch.tensor(epochs) % rows.shape[1]  # each epoch another one
                seen = to_device(rows[torch.arange(size), view], device)
                target = to_device(truth[list(places)], device)
                for head, optimiser, rate in zip(heads, optimisers, rates, strict=True):
                    for group in optimiser.param_groups:
                        group["lr"] = scaled_rate(rate, size) * float(curve[done])
                    optimiser.zero_grad(set_to_none=True)
                    loss(head(seen), target).backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                done += 1
                if time.monotonic() - saved > SAVE_EVERY_S:
                    _save(checkpoints, done, heads, optimisers)
                    saved = time.monotonic()
                progress.advance()
        return [head.eval() for head in heads]

    def scores(self, head: nn.Module, clips: Labelled) -> NDArray[np.float32]:
        """Return the logarithms (n, C) of the classes' probabilities, averaged over views."""
        parts = self.outputs(head, [*map(str, clips.ids)])
        return np.concatenate([average(logits) for logits in parts])

    @torch.inference_mode()
    def outputs(self, head: nn.Module, ids: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return a head's outputs (b, V, C), batch by batch."""
        device = next(head.parameters()).device
        parts = []
        for rows in self.inputs.batches(ids, self.settings.batch_size):
            outputs = head(to_device(rows, device).flatten(0, 1)).unflatten(0, rows.shape[:2])
            parts.append(outputs.cpu().numpy())
        return parts


def _fresh(build: Callable[[int], nn.Module], classes: int, count: int, seed: int) -> nn.ModuleList:
    """Return `count` equal heads; nobody else's random numbers are touched."""
    heads = nn.ModuleList()
    for _ in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads.append(build(classes))
    return heads


def _resume(
    checkpoints: Checkpoints, heads: nn.ModuleList, optimisers: Sequence[torch.optim.Optimizer]
) -> int:
    body = checkpoints.latest()
    if body is None:
        return 0
    heads.load_state_dict(body["heads"])
    for optimiser, state in zip(optimisers, body["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    done: int = body["step"]
    return done


def _save(
    checkpoints: Checkpoints,
    step: int,
    heads: nn.ModuleList,
    optimisers: Sequence[torch.optim.Optimizer],
) -> None:
    states = [optimiser.state_dict() for optimiser in optimisers]
    checkpoints.save(step, {"heads": heads.state_dict(), "optimisers": states})


class LinearHead(nn.Module):
    """A linear layer on features (b, D), normalised over the batch first where asked."""

    def __init__(self, width: int, classes: int, batch_norm: bool) -> None:
        super().__init__()
        # Without scale and shift, as in the linear probe of He et al. 2022, appendix A.1.
        self.norm = nn.BatchNorm1d(width, affine=False) if batch_norm else nn.Identity()
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(features))
        return logits
