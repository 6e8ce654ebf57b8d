"""Small networks trained on what a frozen encoder gives: one head per learning rate, all at once.

All heads see the same batches, so that the inputs, which may cost a pass through the encoder, are
made once. `val` chooses one of them; without a `val` split a part of `train` does, and the chosen
rate then learns from the whole of `train`. Test clips are answered once, by the chosen head.

Letters: n clips, b of a batch, V views, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.configuration.schema import Training
from pipeline.data.load.order import batch as clips_of_step
from pipeline.data.load.order import total_steps
from pipeline.evaluation.metrics import Names, average, rank, top_k
from pipeline.evaluation.recognition.linear import held_out
from pipeline.evaluation.recognition.task import Labelled, Prediction, Task, predicted
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.optimisers import scaled_rate, schedule
from pipeline.runtime.progress import Progress

SAVE_EVERY_S = 300.0
SHOWN_EVERY_S = 20.0


class Inputs(Protocol):
    """What the heads get of clips, found by the clips' ids."""

    def batches(self, ids: Sequence[str], batch_size: int) -> Iterator[Tensor]:
        """Yield float32 (b, V, ...) of these clips, in this order, `batch_size` at a time."""


@dataclass(frozen=True)
class Arrays:
    """Inputs that lie in arrays (n, V, ...), in memory or memory-mapped, by their clips' ids."""

    rows: dict[str, tuple[int, int]]  # id -> array, row
    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, *parts: tuple[Sequence[str], NDArray[Any]]) -> Arrays:
        """Take the rows of several arrays, each with the ids of its clips."""
        rows = {
            str(clip): (number, row)
            for number, (ids, _) in enumerate(parts)
            for row, clip in enumerate(ids)
        }
        return cls(rows, tuple(values for _, values in parts))

    def batches(self, ids: Sequence[str], batch_size: int) -> Iterator[Tensor]:
        for first in range(0, len(ids), batch_size):
            places = [self.rows[str(clip)] for clip in ids[first : first + batch_size]]
            rows = np.stack([self.arrays[number][row] for number, row in places])
            yield torch.from_numpy(rows).float()


@dataclass(frozen=True)
class Resumption:
    """Where and under which settings a training is kept, so that it can go on."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    label: str = "head"


def predict(
    task: Task,
    settings: Training,
    build: Callable[[int], nn.Module],
    inputs: Inputs,
    resumption: Resumption,
) -> Prediction:
    """Train heads, choose one, and score the classes of the test clips with it.

    `build` makes a head for C classes: (b, ...) to logits (b, C).
    """
    rates, found = list(settings.rates), dict[str, object]()
    fitted = "train"
    heads: list[nn.Module] | None = None
    if len(rates) > 1:
        judge, by, fit = task.val, "val", task.train
        if judge is None:
            held = held_out(task.train)
            judge, by, fit = task.train.take(held), "held-out train clips", task.train.take(~held)
        if len(judge.ids):
            heads = train(fit, task.classes, rates, settings, build, inputs, resumption, "choice")
            shares = [_top1(head, judge, task.classes, inputs, settings) for head in heads]
            best = int(np.argmax(shares))
            found = {
                "chosen_on": by,
                "tried": [[rate, share] for rate, share in zip(rates, shares, strict=True)],
            }
            heads = [heads[best]] if fit is task.train else None
            rates = [rates[best]]
        else:
            rates, found = rates[:1], {"chosen_on": "nothing"}
    if heads is None:
        heads = train(task.train, task.classes, rates, settings, build, inputs, resumption, "final")
    chosen: dict[str, object] = {"rate": rates[0], "fitted_on": fitted, **found}
    head = heads[0]
    return predicted(
        task, lambda clips: _scores(head, clips, inputs, settings), task.classes, chosen
    )


def train(
    clips: Labelled,
    classes: Names,
    rates: Sequence[float],
    settings: Training,
    build: Callable[[int], nn.Module],
    inputs: Inputs,
    resumption: Resumption,
    purpose: str,
) -> list[nn.Module]:
    """Return a trained head per rate, in evaluation mode; goes on where it was interrupted."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    n, size = len(clips.ids), min(settings.batch_size, len(clips.ids))
    steps = total_steps(settings.epochs, n=n, batch_size=size)
    warmup = total_steps(settings.warmup_epochs, n=n, batch_size=size)
    truth = torch.from_numpy(np.searchsorted(classes, clips.truth))
    heads = _fresh(build, len(classes), len(rates), settings.seed).to(device).train()
    optimisers = [_optimiser(head, settings) for head in heads]
    curve = schedule(1.0, 0.0, epochs=steps, steps_per_epoch=1, warmup_epochs=min(warmup, steps))
    state = {"settings": resumption.settings, "purpose": purpose, "rates": list(rates)}
    checkpoints = Checkpoints(resumption.folder / purpose, state, 1, resumption.label)
    done = _resume(checkpoints, heads, optimisers)
    drawn = [clips_of_step(settings.seed, k, n=n, batch_size=size) for k in range(done, steps)]
    ids = [str(clips.ids[place]) for step in drawn for _, place in step]
    saved = time.monotonic()
    with Progress(resumption.label, steps, "steps", done=done, interval=SHOWN_EVERY_S) as progress:
        for step, rows in zip(drawn, inputs.batches(ids, size), strict=True):
            epochs, places = zip(*step, strict=True)
            view = torch.tensor(epochs) % rows.shape[1]  # each epoch another one
            seen = rows[torch.arange(size), view].to(device)
            target = truth[list(places)].to(device)
            for head, optimiser, rate in zip(heads, optimisers, rates, strict=True):
                for group in optimiser.param_groups:
                    group["lr"] = scaled_rate(rate, size) * float(curve[done])
                optimiser.zero_grad(set_to_none=True)
                functional.cross_entropy(head(seen), target).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            done += 1
            if time.monotonic() - saved > SAVE_EVERY_S:
                _save(checkpoints, done, heads, optimisers)
                saved = time.monotonic()
            progress.advance()
    return [head.eval() for head in heads]


def _fresh(build: Callable[[int], nn.Module], classes: int, count: int, seed: int) -> nn.ModuleList:
    """Return `count` equal heads; nobody else's random numbers are touched."""
    heads = nn.ModuleList()
    for _ in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads.append(build(classes))
    return heads


def _optimiser(head: nn.Module, settings: Training) -> torch.optim.Optimizer:
    decayed = [p for p in head.parameters() if p.ndim > 1]
    others = [p for p in head.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.solver == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


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


@torch.inference_mode()
def _scores(
    head: nn.Module, clips: Labelled, inputs: Inputs, settings: Training
) -> NDArray[np.float32]:
    device = next(head.parameters()).device
    found = []
    for rows in inputs.batches([str(clip) for clip in clips.ids], settings.batch_size):
        logits = head(rows.to(device).flatten(0, 1)).unflatten(0, rows.shape[:2])
        found.append(average(logits.cpu().numpy()))
    return np.concatenate(found)


def _top1(
    head: nn.Module, clips: Labelled, classes: Names, inputs: Inputs, settings: Training
) -> float:
    return top_k(rank(_scores(head, clips, inputs, settings), classes), clips.truth, 1)


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
