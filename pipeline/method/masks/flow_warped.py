"""A visible map that moves along with the optical flow (MGMAE, Huang et al. 2023).

Some places of one frame are drawn. A map of Gaussians around them is carried from frame to frame
along the flow, and at each time the tubes where most of it arrives are visible.

Shapes: B clips, T frames, H and W pixels, N tubes of a clip, t times of h w tubes, g drawn places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Gt

from pipeline.method import motion
from pipeline.method.masks.base import (
    Grid,
    Mask,
    MaskArray,
    Ratio,
    hide_all_but,
    least,
    visible_count,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.method.optical_flow import OpticalFlow
    from pipeline.method.tubes import TubeSplit


@dataclass(frozen=True)
class FlowMask(Mask):
    """int((1 - ratio) h w) tubes of each of the t are visible: where the warped map is largest.

    With `weights` the flow is RAFT's, which MGMAE uses: the model decides, on its device. Else it
    is this project's own estimate (`motion.flow`), and the loader does.
    """

    ratio: Ratio  # of the tubes that are masked
    # grey levels: slopes well below it are too flat to tell motion; of the own estimate alone
    contrast: Annotated[float, Gt(0)]
    base: Literal["middle", "first"] = "middle"  # the frame whose places are drawn
    # what is visible where the map came out of the frame: the base frame's map, or nothing
    holes: Literal["base", "empty"] = "base"
    # of torchvision's `raft_small`, a local file: safetensors, or a state dict; null: no network,
    # the flow is this project's own estimate
    weights: str | None = None
    sha256: str | None = None  # of that file; checked where given
    kind: Literal["flow"] = "flow"

    def __post_init__(self) -> None:
        """Raise ValueError where a file is to be checked and none is named."""
        if self.sha256 is not None and self.weights is None:
            raise ValueError("mask 'flow' has a sha256 of its weights, and no weights")

    @property
    def in_model(self) -> bool:
        return self.weights is not None

    @property
    def by_flow(self) -> bool:
        return self.weights is not None

    def flow_network(self, *, load: bool) -> OpticalFlow | None:
        if self.weights is None:
            return None
        from pipeline.method.optical_flow import raft

        return raft(self.weights, self.sha256, load=load)

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> MaskArray:
        """Return the mask; where the model decides the drawn places, float32 (g,)."""
        _, height, width = grid
        n = height * width
        count = visible_count(n, self.ratio, grid)  # refuses ratios of none or all
        places = least(rng.random(n), n - int(self.ratio * n))
        if self.in_model:
            return places.astype(np.float32)
        if frames is None:
            raise ValueError("a mask that follows motion needs the clip's frames")
        import torch

        flows = torch.from_numpy(motion.flow(frames, grid, self.contrast).astype(np.float32))
        order = self._order(flows[None], torch.from_numpy(places)[None], grid)
        return hide_all_but(order[0, :, :count].numpy(), n).ravel()

    def select(self, flows: Tensor, noise: Tensor, grid: Grid) -> TubeSplit:
        """Split tubes by the flow B,T-1,2,H,W and the drawn places B,g."""
        import torch

        from pipeline.method.tubes import TubeSplit

        n = grid[1] * grid[2]
        visible = visible_count(n, self.ratio, grid)
        parts = self._order(flows, noise.long(), grid).tensor_split((visible,), dim=2)
        first = torch.arange(grid[0], device=noise.device)[:, None] * n
        return TubeSplit(*((part.sort(2).values + first).flatten(1) for part in parts))

    def _order(self, flows: Tensor, places: Tensor, grid: Grid) -> Tensor:
        """Return the numbers of each time's tubes, B,t,h w, those with most of the map first.

        `flows` are B,T-1,2,H,W (`warp`), `places` B,g numbers of tubes of the base frame.
        """
        import torch

        size = flows.shape[-2], flows.shape[-1]
        centres = torch.stack((places // grid[2], places % grid[2]), dim=-1)
        base = (flows.shape[1] + 1) // 2 if self.base == "middle" else 0
        initial = gaussian_map(centres, size, size[0] // grid[1])
        sums = tube_sums(warp(initial, flows, base, fill=self.holes == "base"), grid)
        return sums.argsort(dim=2, descending=True, stable=True)


def gaussian_map(centres: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """Return the largest of the Gaussians around tubes `centres` (B,g,2: row, column), (B,H,W).

    Each is exp(-(d / patch)^2) at d pixels from the middle of its tube. The largest value is 1.
    """
    import torch

    middles = centres * patch + (patch - 1) / 2
    rows, columns = (
        (torch.arange(side, device=centres.device) - middles[..., axis, None]).square()
        for axis, side in enumerate(size)
    )  # B,g,H and B,g,W
    distances = torch.full((len(centres), *size), torch.inf, device=centres.device)
    for down, across in zip(rows.unbind(1), columns.unbind(1), strict=True):  # B,g,H,W is large
        distances = torch.minimum(distances, down[:, :, None] + across[:, None])
    values = torch.exp(-distances / patch**2)
    return values / values.amax((1, 2), keepdim=True)


def warp(initial: Tensor, flows: Tensor, base: int, *, fill: bool) -> Tensor:
    """Carry maps `initial` (B,H,W) of frame `base` to all frames, flows B,T-1,2,H,W: B,T,H,W.

    `flows[:, i]` is in pixels (x, y), from frame i + 1 to frame i: the map of frame i + 1 at a
    place x is that of frame i at x + flow. To frames before the base it is carried along the same
    flow, though that goes the other way: MGMAE's own code does, by a slip. Outside of a map is 0;
    `fill` puts the initial map where a frame's is 0, before it is carried on.
    """
    import torch

    def carried(source: Tensor, flow: Tensor) -> Tensor:
        warped = _sample(source, flow)
        return torch.where(warped == 0, initial, warped) if fill else warped

    steps = flows.unbind(1)
    maps = [initial] * (len(steps) + 1)
    for i in range(base, len(steps)):
        maps[i + 1] = carried(maps[i], steps[i])
    for i in reversed(range(base)):
        maps[i] = carried(maps[i + 1], steps[i])
    return torch.stack(maps, dim=1)


def _sample(source: Tensor, flow: Tensor) -> Tensor:
    """Return `source` (B,H,W), bilinear, at each place moved by `flow` (B,2,H,W) in pixels.

    A flow of f pixels moves by f (W - 1) / W, as in MGMAE's own code.
    """
    import torch
    from torch.nn import functional

    height, width = source.shape[-2:]
    sides = (torch.linspace(-1, 1, side, device=source.device) for side in (height, width))
    y, x = torch.meshgrid(*sides, indexing="ij")
    places = torch.stack((x + flow[:, 0] / (width / 2), y + flow[:, 1] / (height / 2)), dim=-1)
    return functional.grid_sample(source[:, None], places, align_corners=True)[:, 0]


def tube_sums(maps: Tensor, grid: Grid) -> Tensor:
    """Sum maps (B,T,H,W) over the pixels of each tube: (B,t,h w)."""
    length, height, width = grid
    frames, tall, wide = (n // g for n, g in zip(maps.shape[1:], grid, strict=True))
    parts = maps.reshape(-1, length, frames, height, tall, width, wide)
    return parts.sum((2, 4, 6)).flatten(2)
