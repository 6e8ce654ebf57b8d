"""Where a run stands, in numbers that a checkpoint keeps to be checked against.

Neither the order of clips nor random numbers need to be saved: both are pure functions of seed and
step (`pipeline.data.load.order`, `step_seed`), on any number of processes, and the learning rate is
one of the step. But other versions of numpy or PyTorch may compute another function. So a
checkpoint holds the values that come next, and a resumption compares them with its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pipeline.configuration.schema import Trainer
from pipeline.data.load import order
from pipeline.data.load.mixture import ClipMixture

Position = dict[str, Any]  # of JSON values

MEANINGS = {
    "clips": "the order of the clips",
    "frames": "the random numbers of the samples",
    "dropped": "the random numbers of drop path",
    "lr": "the learning rate",
}


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """Return the seed of torch's generators in one part of a step's global batch.

    Drop path is all that uses them. Parts count over all processes: two processes with two parts
    each drop what one process with four parts drops.
    """
    name = f"{seed}/{step}/{part}" if part else f"{seed}/{step}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def position(
    step: int,
    trainer: Trainer,
    *,
    clips: int,
    rates: Sequence[float],
    mixture: ClipMixture | None = None,
) -> Position:
    """What step `step` (counted from 0) begins with, in a run over so many `clips`.

    `clips`: (epoch, index) of the first few of the global batch; `frames`, `dropped`: numbers that
    the generators of the first sample and of the step give; `lr`: null after the last step.
    """
    seed = trainer.seed
    batch = order.batch(seed, step, n=clips, batch_size=trainer.batch_size, mixture=mixture)[:8]
    generator = torch.Generator().manual_seed(step_seed(seed, step))
    return {
        "step": step,
        "clips": [list(sample) for sample in batch],
        "frames": order.sample_rng(seed, *batch[0]).random(4).tolist(),
        "dropped": torch.rand(4, generator=generator).tolist(),
        "lr": rates[step] if step < len(rates) else None,
    }


def deviations(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name in words what is not as it was when the checkpoint was written."""
    return [words for key, words in MEANINGS.items() if saved.get(key) != now.get(key)]
