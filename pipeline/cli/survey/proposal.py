"""Frames, stride, size and tubes that suit videos, and what training on such clips costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.cli.doctor import estimates
from pipeline.configuration import composition
from pipeline.configuration.build import tube_grid
from pipeline.configuration.schema import Params

FRAMES = 16  # of a clip, as nearly all video transformers have it; less of shorter videos
LONGEST_S = 4.0  # that a clip covers of longer videos
SIZES = (224, 192, 160, 128, 112, 96, 64, 48, 32)  # pixels, all multiples of every tube's side
TUBE_SIDES = (16, 8, 4)  # pixels
FEWEST_ROWS = 7  # of tubes in a frame: with fewer, a mask has too little to choose from
MARGIN = 8 / 7  # stored side by the clip's, which is cropped from it: 256 by 224
EQUAL_RATES = 1.05  # greatest by least, of rates that count as one
LOW, HIGH = 0.1, 0.9  # quantiles: a tenth of the videos may be shorter, or smaller


@dataclass(frozen=True)
class Geometry:
    """The proposed clip, and how its videos are stored."""

    frames: int
    stride: int
    size: int  # pixels
    tube: tuple[int, int, int]
    short_side: int  # pixels, stored
    rate: float | None  # frames a second, stored; None: each video's own
    seconds: float  # that a clip covers

    def overrides(self) -> list[str]:
        """Return the same for `compose`."""
        rate = "null" if self.rate is None else f"{self.rate:g}"
        return [
            f"data.clip.frames={self.frames}",
            f"data.clip.stride={self.stride}",
            f"data.clip.size={self.size}",
            f"model.tube=[{','.join(map(str, self.tube))}]",
            f"data.decode.short_side={self.short_side}",
            f"data.decode.fps={rate}",
        ]


@dataclass(frozen=True)
class Cost:
    """What the proposal costs."""

    tokens: int  # tubes of a clip
    gflops: Mapping[str, float]  # of a step for one clip, by run that trains
    shard_bytes: float  # of all clips


def geometry(
    seconds: Sequence[float], rates: Sequence[float], short_sides: Sequence[int]
) -> Geometry:
    """Propose the clip that nine of ten videos are long and large enough for.

    Args:
        seconds: durations of the clips of the list.
        rates: frames a second of their files.
        short_sides: pixels of their files.
    """
    rate = float(np.median(rates))
    covered = min(float(np.quantile(seconds, LOW)), LONGEST_S)
    available = max(2, round(covered * rate))
    frames = min(FRAMES, available - available % 2)
    stride = max(1, (available - 1) // (frames - 1))
    side = float(np.quantile(short_sides, LOW))
    size = next((each for each in SIZES if each <= side), SIZES[-1])
    tube = next((each for each in TUBE_SIDES if size // each >= FEWEST_ROWS), TUBE_SIDES[-1])
    slowest, fastest = np.quantile(rates, (LOW, HIGH))
    is_constant = fastest <= EQUAL_RATES * slowest
    return Geometry(
        frames=frames,
        stride=stride,
        size=size,
        tube=(2, tube, tube),
        short_side=2 * round(max(size, min(size * MARGIN, side)) / 2),
        rate=None if is_constant else rate,
        seconds=((frames - 1) * stride + 1) / rate,
    )


def composed(overrides: Sequence[str]) -> Params:
    """Return the parameters that `compose` would write for these overrides."""
    text = composition.compose(overrides)
    return composition.parse(text, place="survey")


def cost(params: Params, footage: estimates.Footage) -> Cost:
    """Count tokens and operations of the runs that train; a frozen teacher is not counted."""
    clip = params.data.clip
    trained = {name: run for name, run in params.runs.items() if run.trainer.epochs}
    model = next(iter(params.runs.values())).model
    return Cost(
        tokens=tube_grid(model, clip).count,
        gflops={n: estimates.operations_per_clip(run, clip) / 1e9 for n, run in trained.items()},
        shard_bytes=estimates.room(footage, params.data, is_fetched=False).shards,
    )
