"""Optical flow by RAFT (Teed and Deng 2020), torchvision's small network, on the clips' device.

Shapes: B clips, T frames, H and W pixels.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.method.frozen_network import Holding, check_digest, tensors_digest
from pipeline.method.pixels import denormalise

ITERATIONS = 6  # of RAFT's updates: MGMAE's authors take as many
SMALLEST, MULTIPLE = 128, 8  # pixels: RAFT takes frames of no smaller side, and of such multiples
PAIRS = 64  # of frames at once, which bounds the memory
PLACE = "objective.mask"


class OpticalFlow(Holding):
    """Maps clips to the flow from each of their frames to the one before.

    `digest` is the `tensors_digest` of the network's weights. Without a network (`use` not called)
    the model has its shape and can be used but not trained.
    """

    digest = ""

    def use(self, network: nn.Module) -> None:
        """Take a network of torchvision's optical flow; it becomes frozen."""
        self._held = [network.eval().requires_grad_(False)]

    @torch.no_grad()
    def forward(self, videos: Tensor) -> Tensor:
        """Flow, float32 B,T-1,2,H,W, of normalised videos B,3,T,H,W.

        In pixels (x, y): what is at a place in frame i + 1 is at that place + flow[i] in frame i.
        Frames are enlarged, bilinearly, to sides of 128 pixels or more that are multiples of 8; the
        flow is brought back to the clip's pixels.
        """
        batch, _, length, height, width = videos.shape
        shape = (batch, length - 1, 2, height, width)
        if length < 2 or (videos.is_meta and not self._held):
            return videos.new_empty(shape, dtype=torch.float32)
        frames = (2 * denormalise(videos) - 1).transpose(1, 2)  # B,T,3,H,W from -1 to 1
        pairs = (frames[:, later].flatten(0, 1) for later in (slice(1, None), slice(-1)))
        each = zip(*(torch.split(part, PAIRS) for part in pairs), strict=True)
        return torch.cat([self._flow(*pair) for pair in each]).view(shape)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow P,2,H,W from each of P frames P,3,H,W to another."""
        sides = first.shape[-2:]
        size = tuple(max(SMALLEST, -(-side // MULTIPLE) * MULTIPLE) for side in sides)
        if size != sides:
            first, second = (
                functional.interpolate(each, size, mode="bilinear") for each in (first, second)
            )
        flow: Tensor = self._network(first, second, num_flow_updates=ITERATIONS)[-1].float()
        if size == sides:
            return flow
        flow = functional.interpolate(flow, sides, mode="bilinear")
        factors = [side / enlarged for side, enlarged in zip(sides, size, strict=True)]
        return torch.stack((flow[:, 0] * factors[1], flow[:, 1] * factors[0]), dim=1)

    @property
    def _network(self) -> Any:
        if not self._held:
            raise RuntimeError("this model was built without the network of its optical flow")
        return self._held[0]


def raft(weights: str, sha256: str | None = None, *, load: bool = True) -> OpticalFlow:
    """RAFT-small with the weights of a file: safetensors, or a state dict as torchvision has it.

    `load=False` leaves out the network, its weights and the file. Raises `UserError` where there is
    no such file, where it has another SHA-256, or not the tensors of this network.
    """
    flow = OpticalFlow()
    if not load:
        return flow
    path = Path(weights)
    if not path.is_file():
        raise UserError(
            f"no such file: {path}",
            place=f"{PLACE}.weights",
            remedy="fetch the weights of torchvision's raft_small, or set it to null: the flow is "
            "then this project's own estimate",
        )
    check_digest(path, sha256, PLACE)
    from torchvision.models.optical_flow import raft_small  # takes a second, which few need

    with torch.random.fork_rng(devices=[]):  # the model's own weights do not depend on this
        network: nn.Module = raft_small()
    try:
        network.load_state_dict(_tensors(path))
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, TypeError) as error:
        problem = f"{path} does not fit torchvision's raft_small: {error}"
        raise UserError(problem, place=f"{PLACE}.weights") from error
    flow.digest = tensors_digest(network.state_dict())
    flow.use(network)
    return flow


def _tensors(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
