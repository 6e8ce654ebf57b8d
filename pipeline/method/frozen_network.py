"""Frozen networks beside a model: held apart from what learns, told by a hash of their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.errors import UserError


class Holding(nn.Module):
    """A module with a network that is held outside of PyTorch's registry of modules.

    It has no part in parameters, state dicts, gradients, engines or `train()`, but it moves with
    the model from device to device.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: Sequence[Any] = ()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        for network in self._held:
            if isinstance(network, nn.Module):
                network._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def tensors_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_digest(path: Path, sha256: str | None, place: str = "objective.target") -> None:
    """Raise UserError where a file of weights has not the SHA-256 that it is to have.

    `place` is the section whose key `sha256` says it; None: any will do.
    """
    if sha256 is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256.lower():
        raise UserError(
            f"{path} is not the expected file: its SHA-256 is {digest}",
            place=f"{place}.sha256",
            remedy="fetch the file again, or correct the digest",
        )
