"""RAFT with random weights: there are no others that need no network."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_small


def network(seed: int = 0) -> torch.nn.Module:
    """RAFT-small that is not trained, frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built: torch.nn.Module = raft_small()
    return built.eval().requires_grad_(False)


def write(path: Path, seed: int = 0) -> Path:
    """Write its weights as safetensors, or as a state dict where the name ends otherwise."""
    state = network(seed).state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path
