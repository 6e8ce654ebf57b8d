"""Where and how fast clips are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.data.load import decoders
from pipeline.data.shards.clip_table import counts
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError


@dataclass(frozen=True)
class LoaderOptions:
    """Where and how fast clips are loaded, and how many may fail; no pixel depends on it."""

    workers: int = 0  # processes; 0: this one
    cache_mib: int = 0  # of decoded clips, in each worker
    decoder: decoders.Decoder = "decord"
    max_failed_share: float = 0.0  # of the clips, in pretraining
    device: torch.device | None = None  # where clips go; None: the CPU


IN_THIS_PROCESS = LoaderOptions()


def present(decoder: decoders.Decoder, entries: Sequence[ClipEntry]) -> decoders.Decoder:
    """Return the decoder that will be used; UserError where one is needed that is not there."""
    if "h264" in counts(entries, "codec"):
        return decoders.chosen(decoder)
    return decoders.of_exact_pixels(decoder)  # which is not used, and starts nothing on a GPU


def check_workers(workers: int, shards: int) -> None:
    """Refuse more workers than there are shards: each reads some of its own."""
    if workers > shards:
        raise UserError(
            f"there are more loader workers ({workers}) than shards to read ({shards})",
            place="trainer.workers, data.chunks",
            remedy=f"set trainer.workers to {shards} or less, or data.chunks to {workers} or more",
        )
