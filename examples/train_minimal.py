"""SIGMA on one screen: pretrain a small video transformer with `pipeline.method` alone.

    python -m examples.train_minimal                       # on squares that move, drawn here
    python -m examples.train_minimal --videos my_videos/   # on the videos of a folder

No shards, no resuming, one process: what `python -m pipeline pretrain` adds to these lines.
Shapes: B clips, T frames, N tubes of a clip.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.method.losses import Loss, SinkhornLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import TubeMask
from pipeline.method.pixels import normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import MlpTarget
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import TransformerSize

FRAMES, SIZE, BATCH = 8, 32, 16
GRID = TubeGrid.from_size(FRAMES, SIZE, SIZE, (2, 8, 8))
MASK = TubeMask(ratio=0.75)
LOSS = SinkhornLoss(prototypes=64, epsilon=0.005, iterations=10, temperature=0.1)
RATE, WARMUP = 1e-3, 0.1  # the highest learning rate; share of the steps until it is reached


def build(seed: int = 0) -> SigmaModel:
    """The model with fresh weights."""
    torch.manual_seed(seed)
    return SigmaModel(
        GRID,
        encoder=TransformerSize(width=96, depth=3, heads=3),
        decoder=TransformerSize(width=48, depth=1, heads=3),
        target=MlpTarget(hidden=(128,), width=32),
        prototypes=LOSS.prototypes,
    )


def train(
    model: SigmaModel,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],  # clips uint8 B,T,H,W,3 and masks bool B,N
    rates: Iterable[float],
) -> Iterator[float]:
    """Take one step of AdamW for each batch; yield its loss."""
    plain = [p for name, p in model.named_parameters() if p.ndim < 2 or name == "mask_token"]
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and name != "mask_token"]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for (clips, masks), rate in zip(batches, rates, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = rate
        value, _ = masked_video_loss(model, normalise(clips), masks, loss)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        yield value.item()


def learning_rates(steps: int) -> list[float]:
    """A linear warm-up, then half a cosine."""
    warmup = max(1, round(WARMUP * steps))
    rise = [RATE * step / warmup for step in range(warmup)]
    rest = max(1, steps - warmup)
    return rise + [RATE * (1 + math.cos(math.pi * step / rest)) / 2 for step in range(rest)]


def drawn_clip(rng: np.random.Generator) -> np.ndarray:
    """A bright square that moves over noise: uint8 T,H,W,3."""
    clip = rng.integers(0, 64, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    place, speed = rng.uniform(0, SIZE - 8, 2), rng.uniform(-2, 2, 2)
    colour = rng.integers(128, 256, 3)
    for number, frame in enumerate(clip):
        row, column = np.clip(place + number * speed, 0, SIZE - 8).astype(int)
        frame[row : row + 8, column : column + 8] = colour
    return clip


def clip_of(video: Path, rng: np.random.Generator) -> np.ndarray:
    """Frames in a row from a random place of a video: uint8 T,H,W,3."""
    from decord import VideoReader

    reader = VideoReader(str(video), width=SIZE, height=SIZE, num_threads=1)
    start = rng.integers(max(1, len(reader) - FRAMES))
    indices = np.minimum(start + np.arange(FRAMES), len(reader) - 1)
    return reader.get_batch(list(indices)).asnumpy()


def batches_of(videos: list[Path], rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches for ever: of random videos, or drawn where there is none."""
    while True:
        chosen = [videos[i] for i in rng.integers(len(videos), size=BATCH)] if videos else []
        clips = [clip_of(path, rng) for path in chosen] or [drawn_clip(rng) for _ in range(BATCH)]
        masks = [MASK.draw(GRID.shape, rng, clip) for clip in clips]
        yield torch.from_numpy(np.stack(clips)), torch.from_numpy(np.stack(masks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, help="a folder of videos")
    parser.add_argument("--steps", type=int, default=100, help="default: %(default)s")
    options = parser.parse_args()
    files = sorted(path for path in options.videos.iterdir()) if options.videos else []
    batches = batches_of(files, np.random.default_rng(0))
    for step, value in enumerate(train(build(), LOSS, batches, learning_rates(options.steps))):
        print(f"step {step + 1:4d}  loss {value:.4f}", flush=True)
