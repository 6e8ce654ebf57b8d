"""Frozen features of a real encoder on real clips: exact, reused, resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.clips.loader import evaluation_batches
from pipeline.clips.pixels import normalise
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params, Views
from pipeline.evaluation import features
from pipeline.evaluation.features import SplitFeatures
from pipeline.models import hub
from pipeline.models.sigma import SigmaModel
from pipeline.shards.format import ClipEntry
from pipeline.shards.index import DatasetIndex

from .conftest import RUN, SIZES

CPU = torch.device("cpu")


class Counting(torch.nn.Module):
    """An encoder that counts its clips and, at clip `stop`, is interrupted."""

    def __init__(self, encoder: torch.nn.Module, stop: float = float("inf")) -> None:
        super().__init__()
        self.encoder, self.stop, self.seen = encoder, stop, 0

    def forward(self, videos: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen += len(videos)
        if self.seen > self.stop:
            raise KeyboardInterrupt
        features: Tensor = self.encoder(videos)
        return features


@pytest.fixture
def model(workplace: Path, params: Params) -> SigmaModel:
    return hub.load(RunLayout(params.name, RUN).weights)


@pytest.fixture
def entries(workplace: Path, params: Params) -> list[ClipEntry]:
    return DatasetIndex.load(DataLayout(params.data.name).shards).clips(sorted(SIZES))


def extract(
    model: SigmaModel,
    entries: list[ClipEntry],
    params: Params,
    name: str = "features",
    **changes: Any,
) -> tuple[dict[str, SplitFeatures], int]:
    """Return the features and how many views the encoder has seen for them."""
    counting = Counting(model.encoder, changes.pop("stop", float("inf")))
    settings: dict[str, Any] = {
        "views": params.evaluation.views,
        "path": Path(f"{name}.npz"),
        "key": {"weights": "w"},
        "batch_size": 7,
        "device": CPU,
    }
    settings |= changes
    views = settings.pop("views")
    plain = model.encoder
    model.encoder = counting  # type: ignore[assignment]
    try:
        return features.extract(model, entries, params.data.clip, views, **settings), counting.seen
    finally:
        model.encoder = plain


def assert_same(left: dict[str, SplitFeatures], right: dict[str, SplitFeatures]) -> None:
    assert left.keys() == right.keys()
    for split, part in left.items():
        assert part.ids == right[split].ids
        assert part.values.dtype == right[split].values.dtype == np.float32
        assert part.values.tobytes() == right[split].values.tobytes()


def test_every_clip_has_its_own_feature(
    model: SigmaModel, entries: list[ClipEntry], params: Params
) -> None:
    """Catches clips that get each other's features, and pooling over another axis: every clip
    goes through the encoder alone here, and is averaged in float64."""
    found, _ = extract(model, entries, params)
    assert {split: len(part.ids) for split, part in found.items()} == SIZES
    for entry in entries:
        (batch,) = evaluation_batches([entry], params.data.clip, params.evaluation.views, 1)
        with torch.no_grad():
            tubes = model.encoder(normalise(batch.videos[:, 0]))
        part = found[entry.split]
        ours = part.values[part.ids.index(entry.id)]
        np.testing.assert_allclose(ours, tubes[0].double().mean(0), atol=2e-6)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (45, 0), (7, 1)])
def test_batch_size_and_workers_change_nothing(
    model: SigmaModel, entries: list[ClipEntry], params: Params, batch_size: int, workers: int
) -> None:
    """Catches a feature that depends on the batch it was computed in, and a lost last batch."""
    first, _ = extract(model, entries, params)
    second, _ = extract(model, entries, params, "other", batch_size=batch_size, workers=workers)
    for split in SIZES:
        assert first[split].ids == second[split].ids
        np.testing.assert_allclose(first[split].values, second[split].values, atol=2e-6)


def test_views_are_averaged(model: SigmaModel, entries: list[ClipEntry], params: Params) -> None:
    """Catches a view that is left out or counted twice."""
    views = Views(segments=2, crops=3)
    found, seen = extract(model, entries[:5], params, views=views)
    assert seen == 5 * 6
    (batch,) = evaluation_batches(entries[:5], params.data.clip, views, 5)
    with torch.no_grad():
        tokens = model.encoder(normalise(batch.videos.flatten(0, 1)))
    expected = tokens.double().mean(1).unflatten(0, (5, 6)).mean(1).numpy()
    ours = np.concatenate([found[split].values for split in sorted(found)])
    order = [k for split in sorted(found) for k in range(5) if entries[k].split == split]
    np.testing.assert_allclose(ours, expected[order], atol=2e-6)
    assert np.ptp(batch.videos.numpy().astype(int), axis=1).max() > 0, "the views are equal"


def test_computed_once_per_key(model: SigmaModel, entries: list[ClipEntry], params: Params) -> None:
    """Catches features of another checkpoint, data set or clip being reused, and none at all."""
    first, seen = extract(model, entries, params)
    assert seen == len(entries)
    second, seen = extract(model, entries, params)
    assert seen == 0
    assert_same(first, second)
    third, seen = extract(model, entries, params, key={"weights": "other"})
    assert seen == len(entries)
    assert_same(first, third)


def test_a_damaged_file_is_computed_again(
    model: SigmaModel, entries: list[ClipEntry], params: Params
) -> None:
    """Catches a crash, or half the features, after a file was cut short or is something else."""
    first, _ = extract(model, entries, params)
    path = Path("features.npz")
    whole = path.read_bytes()
    for damaged in (b"", b"not an archive", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        again, seen = extract(model, entries, params)
        assert seen == len(entries)
        assert_same(first, again)
        assert path.read_bytes() == whole


def test_an_interrupted_extraction_goes_on(
    model: SigmaModel, entries: list[ClipEntry], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches work that is lost by an interruption, or done twice, or put in the wrong rows; and
    a rest of another checkpoint being taken up."""
    whole, _ = extract(model, entries, params, "uninterrupted")
    monkeypatch.setattr(features, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(features, "SAVE_SHARE", 1e9)
    with pytest.raises(KeyboardInterrupt):
        extract(model, entries, params, stop=21)
    assert not Path("features.npz").exists()
    shutil.copy("features.partial.npz", "x.partial.npz")
    other, seen = extract(model, entries, params, "x", key={"weights": "other"})
    assert seen == len(entries)
    resumed, seen = extract(model, entries, params)
    assert seen == len(entries) - 21
    assert_same(whole, resumed)
    assert_same(whole, other)
    assert sorted(path.name for path in Path().glob("*.npz")) == [
        "features.npz",
        "uninterrupted.npz",
        "x.npz",
    ]
    assert Path("features.npz").read_bytes() == Path("uninterrupted.npz").read_bytes()
