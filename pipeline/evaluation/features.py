"""Frozen features: computed once per checkpoint and shared by all probes.

Shapes: n clips, V views, N tubes, D width of the encoder.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.evaluation import rows
from pipeline.evaluation.clips import Clips
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Pooled
from pipeline.runtime.files import atomic_path
from pipeline.runtime.provenance import provenance
from pipeline.runtime.store import Store


@dataclass(frozen=True)
class SplitFeatures:
    """Features of one split: `ids` (n,) and `values` (n, V, D) in the order of the index.

    `failed` are the ids of clips that could not be decoded: they have no row.
    """

    ids: tuple[str, ...]
    values: NDArray[np.float32]
    failed: tuple[str, ...] = ()


def extract(
    network: Pooled,
    splits: Mapping[str, Clips],
    *,
    path: Path,
    key: Mapping[str, Any],
    options: ExecutionOptions,
) -> dict[str, SplitFeatures]:
    """Compute the pooled features of these clips, or read them where that has been done before.

    Args:
        network: the encoder of one checkpoint, and what of its tokens is pooled.
        splits: clips by split.
        path: an npz file with `SPLIT_ids`, `SPLIT_features` (float32), `SPLIT_failed`, `key` and
            `provenance`, written whole at the end. Until then what is done is kept beside it, and
            an interrupted call goes on.
        key: what the features depend on (hashes, settings); others' files are not reused.
        options: how fast.
    """
    return computed(
        network,
        network.width,
        splits,
        path=path,
        key=key,
        options=options,
        tokens=network.encoder.grid.count,
    )


def computed(
    network: nn.Module,
    width: int,
    splits: Mapping[str, Clips],
    *,
    path: Path,
    key: Mapping[str, Any],
    options: ExecutionOptions,
    tokens: int = 0,
) -> dict[str, SplitFeatures]:
    """Compute what a network (b, 3, T, H, W) -> (b, width) says of these clips, as `extract`."""
    finished = _finished(path, key)
    if finished is not None:
        print(f"[{options.label}] reusing {path}")
        return finished
    features, stores = {}, []
    for split, clips in sorted(splits.items()):
        store = Store(path.with_name(f"{path.stem}.partial-{split}"), key)
        part = rows.compute(network, clips, store, options, tokens)
        values = part.stacked(clips.views, width)
        features[split] = SplitFeatures(part.ids, values, part.failed)
        stores.append(store)
    _write(path, key, features)
    for store in stores:
        store.remove()
    return features


def _write(path: Path, key: Mapping[str, Any], features: Mapping[str, SplitFeatures]) -> None:
    arrays: dict[str, NDArray[Any]] = {"key": np.array(json.dumps(key, sort_keys=True))}
    arrays["provenance"] = np.array(json.dumps(provenance(), sort_keys=True))
    for split, part in features.items():
        arrays[f"{split}_ids"] = np.array(part.ids, dtype=np.str_)
        arrays[f"{split}_features"] = part.values
        arrays[f"{split}_failed"] = np.array(part.failed, dtype=np.str_)
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def read(path: Path) -> tuple[dict[str, SplitFeatures], str]:
    """Read features by split, and the key that `extract` was given, as JSON.

    Raises:
        OSError, ValueError, KeyError, EOFError, BadZipFile: where it is no such file.
    """
    with np.load(path, allow_pickle=False) as file:
        splits = [name.removesuffix("_ids") for name in file.files if name.endswith("_ids")]
        features = {
            split: SplitFeatures(
                tuple(file[f"{split}_ids"].tolist()),
                file[f"{split}_features"],
                tuple(file[f"{split}_failed"].tolist()),
            )
            for split in splits
        }
        return features, str(file["key"])


def _finished(path: Path, key: Mapping[str, Any]) -> dict[str, SplitFeatures] | None:
    """Return the features of this key; None where the file is absent, damaged or another's."""
    try:
        features, of = read(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not ours, or cut short: it is computed again
    return features if of == json.dumps(key, sort_keys=True) else None
