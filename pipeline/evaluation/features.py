"""Frozen features: one vector per clip, computed once per checkpoint and shared by all probes.

Letters: B clips of a batch, V views, T frames, H height, W width, N tubes, D width of the encoder.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.clips.loader import evaluation_batches
from pipeline.clips.pixels import normalise
from pipeline.configuration.schema import Clip, Views
from pipeline.files import atomic_path
from pipeline.models.sigma import SigmaModel
from pipeline.progress import Progress
from pipeline.shards.format import ClipEntry

SAVE_EVERY_S = 30.0  # what an interruption may cost
SAVE_SHARE = 0.05  # of the time may go into saving, however large the features


@dataclass(frozen=True)
class SplitFeatures:
    """Features of one split: `ids` (n,) and `values` (n, D) in the order of the index."""

    ids: tuple[str, ...]
    values: NDArray[np.float32]


def pooled(encoder: Callable[[Tensor], Tensor], videos: Tensor, device: torch.device) -> Tensor:
    """Return the mean over tubes, then over views, of uint8 videos (B, V, T, H, W, 3): (B, D).

    One view at a time, so that memory does not grow with their number.
    """
    views = [encoder(normalise(view.to(device))).float().mean(dim=1) for view in videos.unbind(1)]
    return torch.stack(views).mean(dim=0)


def extract(
    model: SigmaModel,
    entries: Sequence[ClipEntry],
    clip: Clip,
    views: Views,
    *,
    path: Path,
    key: Mapping[str, Any],
    batch_size: int,
    workers: int = 0,
    device: torch.device | None = None,
    label: str = "features",
) -> dict[str, SplitFeatures]:
    """Compute the features of these clips, or read them where they have been computed before.

    Args:
        model: its encoder is put into evaluation mode and takes no gradients.
        entries: clips of all splits.
        path: an npz file with `SPLIT_ids`, `SPLIT_features` (float32) and `key`, written whole at
            the end. Until then what is done is kept beside it, and an interrupted call goes on.
        key: what the features depend on (hashes, settings); others' files are not reused.
        label: the beginning of progress lines.

    Returns:
        The features by split, for the splits that occur.
    """
    finished = _read(path, key)
    if finished is not None:
        print(f"[{label}] reusing {path}")
        return finished
    partial = path.with_name(f"{path.stem}.partial.npz")
    done = _read_done(partial, key, entries)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = model.encoder.to(device).eval()
    batches = evaluation_batches(entries[len(done) :], clip, views, batch_size, workers=workers)
    rows = list(done)
    saved, pause = time.monotonic(), SAVE_EVERY_S
    with torch.inference_mode(), Progress(label, len(entries), "clips", done=len(rows)) as progress:
        for batch in batches:
            due = [entry.id for entry in entries[len(rows) : len(rows) + len(batch.ids)]]
            if list(batch.ids) != due:
                raise RuntimeError(f"the loader gave clips {list(batch.ids)} instead of {due}")
            rows.extend(pooled(encoder, batch.videos, device).cpu().numpy())
            progress.advance(len(batch.ids))
            if time.monotonic() - saved > pause:
                began = time.monotonic()
                _write(partial, key, {"rows": np.stack(rows)})
                saved = time.monotonic()
                pause = max(SAVE_EVERY_S, (saved - began) / SAVE_SHARE)
    features = _by_split(entries, rows)
    arrays: dict[str, NDArray[Any]] = {}
    for split, part in features.items():
        arrays[f"{split}_ids"] = np.array(part.ids, dtype=np.str_)
        arrays[f"{split}_features"] = part.values
    _write(path, key, arrays)
    partial.unlink(missing_ok=True)
    return features


def _by_split(
    entries: Sequence[ClipEntry], rows: Sequence[NDArray[np.float32]]
) -> dict[str, SplitFeatures]:
    features = {}
    for split in sorted({entry.split for entry in entries}):
        places = [place for place, entry in enumerate(entries) if entry.split == split]
        ids = tuple(entries[place].id for place in places)
        features[split] = SplitFeatures(ids, np.stack([rows[place] for place in places]))
    return features


def _write(path: Path, key: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    with atomic_path(path) as temporary:
        described = {"key": np.array(json.dumps(key, sort_keys=True)), **arrays}
        np.savez(temporary, allow_pickle=False, **described)


def _arrays(path: Path, key: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a file of this key; None where it is absent, damaged or another's."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != json.dumps(key, sort_keys=True):
                return None
            return {name: file[name] for name in file.files if name != "key"}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not ours, or cut short: it is computed again


def _read(path: Path, key: Mapping[str, Any]) -> dict[str, SplitFeatures] | None:
    arrays = _arrays(path, key)
    if arrays is None:
        return None
    splits = [name.removesuffix("_ids") for name in arrays if name.endswith("_ids")]
    return {
        split: SplitFeatures(tuple(arrays[f"{split}_ids"].tolist()), arrays[f"{split}_features"])
        for split in splits
    }


def _read_done(
    path: Path, key: Mapping[str, Any], entries: Sequence[ClipEntry]
) -> list[NDArray[np.float32]]:
    """Return the rows that an interrupted call has saved: those of the first entries."""
    arrays = _arrays(path, key)
    return [] if arrays is None else list(arrays["rows"])[: len(entries)]
