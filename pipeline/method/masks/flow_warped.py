"""A visible map that moves along with the optical flow (MGMAE, Huang et al. 2023).

Some places of one frame are drawn. A map of Gaussians around them is carried from frame to frame
along the flow, and at each time the tubes where most of it arrives are visible.

Shapes: T frames, H and W pixels, N tubes of one time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Gt

from pipeline.method import motion
from pipeline.method.masks.base import (
    BoolArray,
    Grid,
    Mask,
    Ratio,
    hide_all_but,
    least,
    visible_count,
)

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FlowMask(Mask):
    """int((1 - ratio) h w) tubes of each of the t are visible: where the warped map is largest.

    The flow is this project's own estimate (`motion.flow`), not RAFT's, which MGMAE uses.
    """

    ratio: Ratio  # of the tubes that are masked
    # grey levels: slopes well below it are too flat to tell motion
    contrast: Annotated[float, Gt(0)]
    base: Literal["middle", "first"] = "middle"  # the frame whose places are drawn
    # what is visible where the map came out of the frame: the base frame's map, or nothing
    holes: Literal["base", "empty"] = "base"
    kind: Literal["flow"] = "flow"

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> BoolArray:
        if frames is None:
            raise ValueError("a mask that follows motion needs the clip's frames")
        import torch

        _, height, width = grid
        n = height * width
        count = n - int(self.ratio * n)
        places = least(rng.random(n), count)
        size = frames.shape[1:3]
        centres = np.stack(np.divmod(places, width), axis=1)
        initial = gaussian_map(centres, size, size[0] // height)
        flows = torch.from_numpy(motion.flow(frames, grid, self.contrast).astype(np.float32))
        base = len(frames) // 2 if self.base == "middle" else 0
        warped = warp(torch.from_numpy(initial), flows, base, fill=self.holes == "base")
        visible = least(-tube_sums(warped, grid).numpy(), visible_count(n, self.ratio, grid))
        return hide_all_but(visible, n).ravel()


def gaussian_map(centres: npt.NDArray[np.int64], size: tuple[int, int], patch: int) -> FloatArray:
    """Return the largest of the Gaussians around tubes `centres` (g,2: row, column), (H,W).

    Each is exp(-(d / patch)^2) at d pixels from the middle of its tube. The largest value is 1.
    """
    middles = centres * patch + (patch - 1) / 2
    rows, columns = ((np.arange(n)[:, None] - m) ** 2 for n, m in zip(size, middles.T, strict=True))
    distances = rows[:, None] + columns[None]  # H,W,g
    values = np.exp(-distances / patch**2).max(axis=-1)
    scaled: FloatArray = (values / values.max()).astype(np.float32)
    return scaled


def warp(initial: Tensor, flows: Tensor, base: int, *, fill: bool) -> Tensor:
    """Carry the map `initial` (H,W) of frame `base` to all frames along flows (T-1,2,H,W): T,H,W.

    `flows[i]` is in pixels (x, y), from frame i + 1 to frame i: the map of frame i + 1 at a place x
    is that of frame i at x + flow. To frames before the base it is carried along the same flow,
    though that goes the other way: MGMAE's own code does, by a slip. Outside of a map is 0; `fill`
    puts the initial map where a frame's is 0, before it is carried on.
    """
    import torch

    def carried(source: Tensor, flow: Tensor) -> Tensor:
        warped = _sample(source, flow)
        return torch.where(warped == 0, initial, warped) if fill else warped

    maps = [initial] * (len(flows) + 1)
    for i in range(base, len(flows)):
        maps[i + 1] = carried(maps[i], flows[i])
    for i in reversed(range(base)):
        maps[i] = carried(maps[i + 1], flows[i])
    return torch.stack(maps)


def _sample(source: Tensor, flow: Tensor) -> Tensor:
    """Return `source` (H,W), bilinear, at each place moved by `flow` (2,H,W) in pixels.

    A flow of f pixels moves by f (W - 1) / W, as in MGMAE's own code.
    """
    import torch
    from torch.nn import functional

    height, width = source.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    places = torch.stack((x + flow[0] / (width / 2), y + flow[1] / (height / 2)), dim=-1)
    sampled = functional.grid_sample(source[None, None], places[None], align_corners=True)
    return sampled[0, 0]


def tube_sums(maps: Tensor, grid: Grid) -> Tensor:
    """Sum maps (T,H,W) over the pixels of each tube: (t,h w)."""
    length, height, width = grid
    frames, tall, wide = (n // g for n, g in zip(maps.shape, grid, strict=True))
    return maps.reshape(length, frames, height, tall, width, wide).sum((1, 3, 5)).flatten(1)
