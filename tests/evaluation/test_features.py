"""Frozen features of a real encoder on real clips: exact, reused, resumed, by any processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params, Views
from pipeline.data.load.evaluation_clips import evaluation_batches
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import features
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pixels import normalise
from pipeline.method.pooling import Pooled
from pipeline.method.vit import Encoder
from pipeline.weights import hub

from .conftest import RUN, SIZES


@pytest.fixture
def encoder(workplace: Path, params: Params) -> Encoder:
    return hub.load(RunLayout(params.name, RUN).weights).encoder


@pytest.fixture
def entries(workplace: Path, params: Params) -> list[ClipEntry]:
    return DatasetIndex.load(DataLayout(params.data.name).shards).clips(sorted(SIZES))


@contextmanager
def watched(encoder: Encoder, stop: float) -> Iterator[list[int]]:
    """Note how many views the encoder sees at a time; interrupt it after `stop` of them."""
    seen: list[int] = []

    def note(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        assert not module.training
        assert not torch.is_grad_enabled()
        seen.append(len(inputs[0]))
        if sum(seen) > stop:
            raise KeyboardInterrupt

    handle = encoder.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def extract(
    encoder: Encoder,
    entries: list[ClipEntry],
    params: Params,
    name: str = "features",
    *,
    views: Views | None = None,
    key: dict[str, str] | None = None,
    stop: float = float("inf"),
    on_failure: Any = "stop",
    cache: ViewCache | None = None,
    **execution: Any,
) -> tuple[dict[str, SplitFeatures], list[int]]:
    """Return the features, and how many views the encoder saw each time for them."""
    splits = {
        split: VideoClips(
            [entry for entry in entries if entry.split == split],
            params.data.clip,
            views or params.evaluation.views,
            on_failure,
            cache=cache,
        )
        for split in sorted({entry.split for entry in entries})
    }
    options = ExecutionOptions(**{"batch_size": 7, "device": torch.device("cpu")} | execution)
    processes = execution.get("processes", 1)  # what watches does not reach other ones
    with watched(encoder, stop) if processes == 1 else nullcontext([]) as seen:
        path = Path(f"{name}.npz")
        found = features.extract(
            Pooled(encoder), splits, path=path, key=key or {"weights": "w"}, options=options
        )
    return found, seen


def assert_same(left: dict[str, SplitFeatures], right: dict[str, SplitFeatures]) -> None:
    assert left.keys() == right.keys()
    for split, part in left.items():
        assert part.ids == right[split].ids
        assert part.values.dtype == right[split].values.dtype == np.float32
        assert part.values.tobytes() == right[split].values.tobytes()


def test_every_clip_has_its_own_feature(
    encoder: Encoder, entries: list[ClipEntry], params: Params
) -> None:
    """Catches clips that get each other's features, and pooling over another axis: every clip
    goes through the encoder alone here, and is averaged in float64."""
    found, _ = extract(encoder, entries, params)
    assert {split: len(part.ids) for split, part in found.items()} == SIZES
    for entry in entries:
        (batch,) = evaluation_batches([entry], params.data.clip, params.evaluation.views, 1)
        with torch.no_grad():
            tubes = encoder(normalise(batch.videos[:, 0]))
        part = found[entry.split]
        (ours,) = part.values[part.ids.index(entry.id)]
        np.testing.assert_allclose(ours, tubes[0].double().mean(0), atol=2e-6)


@pytest.mark.parametrize(
    "execution",
    [
        {"batch_size": 1},
        {"batch_size": 45},
        {"workers": 1},
        pytest.param({"processes": 2}, marks=pytest.mark.system),
    ],
)
def test_how_it_is_computed_changes_nothing(
    encoder: Encoder, entries: list[ClipEntry], params: Params, execution: dict[str, int]
) -> None:
    """Catches a feature that depends on the batch, worker or process it was computed in, and a
    lost last batch."""
    first, _ = extract(encoder, entries, params)
    second, _ = extract(encoder, entries, params, "other", **execution)
    for split in SIZES:
        assert first[split].ids == second[split].ids
        np.testing.assert_allclose(first[split].values, second[split].values, atol=2e-6)


def test_where_it_begins_changes_not_a_bit(
    encoder: Encoder, entries: list[ClipEntry], params: Params
) -> None:
    """Catches batches of other clips where an encoder that shares views begins elsewhere, and views
    of another clip out of the cache (`rows.Job.turns`)."""
    first, seen = extract(encoder, entries, params)
    cache = ViewCache.of(Path("views"), params.data.clip, params.evaluation.views, "code")
    for label in ("evaluate sigma", "evaluate pixel", "evaluate random"):
        again, other = extract(encoder, entries, params, label, cache=cache, label=label)
        assert_same(first, again)
        assert sorted(other) == sorted(seen)


def test_every_view_has_its_own_feature(
    encoder: Encoder, entries: list[ClipEntry], params: Params
) -> None:
    """Catches a view that is left out, counted twice or in another's place, and more views at once
    than were asked for."""
    views = Views(segments=2, crops=3)
    found, seen = extract(encoder, entries[:5], params, views=views)
    assert sum(seen) == 5 * 6
    assert max(seen) <= 7
    (batch,) = evaluation_batches(entries[:5], params.data.clip, views, 5)
    with torch.no_grad():
        tokens = encoder(normalise(batch.videos.flatten(0, 1)))
    expected = tokens.double().mean(1).unflatten(0, (5, 6)).numpy()
    ours = np.concatenate([found[split].values for split in sorted(found)])
    order = [k for split in sorted(found) for k in range(5) if entries[k].split == split]
    np.testing.assert_allclose(ours, expected[order], atol=2e-6)
    assert np.ptp(batch.videos.numpy().astype(int), axis=1).max() > 0, "the views are equal"


def test_computed_once_per_key(encoder: Encoder, entries: list[ClipEntry], params: Params) -> None:
    """Catches features of another checkpoint, data set or clip being reused, and none at all."""
    first, seen = extract(encoder, entries, params)
    assert sum(seen) == len(entries)
    second, seen = extract(encoder, entries, params)
    assert seen == []
    assert_same(first, second)
    third, seen = extract(encoder, entries, params, key={"weights": "other"})
    assert sum(seen) == len(entries)
    assert_same(first, third)


def test_a_damaged_file_is_computed_again(
    encoder: Encoder, entries: list[ClipEntry], params: Params
) -> None:
    """Catches a crash, or half the features, after a file was cut short or is something else."""
    first, _ = extract(encoder, entries, params)
    path = Path("features.npz")
    whole = path.read_bytes()
    for damaged in (b"", b"not an archive", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        again, seen = extract(encoder, entries, params)
        assert sum(seen) == len(entries)
        assert_same(first, again)
        assert path.read_bytes() == whole


def test_an_interrupted_extraction_goes_on(
    encoder: Encoder, entries: list[ClipEntry], params: Params
) -> None:
    """Catches work that is lost by an interruption, or done twice, or put in the wrong rows; a rest
    of another checkpoint being taken up; and a row that was half written being believed."""
    whole, _ = extract(encoder, entries, params, "uninterrupted")
    with pytest.raises(KeyboardInterrupt):
        extract(encoder, entries, params, stop=21)  # test 12 in batches of 7, then train
    assert not Path("features.npz").exists()
    left = [path.name for path in Path().glob("features.partial-*")]
    for name in left:
        shutil.copytree(name, name.replace("features", "x"))
    other, seen = extract(encoder, entries, params, "x", key={"weights": "other"})
    assert sum(seen) == len(entries)
    rows = np.memmap("features.partial-train/0.bin", np.float32, "r+")
    assert rows[2 * encoder.width]
    rows[2 * encoder.width] += 1  # as a power cut may leave it
    rows.flush()
    resumed, seen = extract(encoder, entries, params)
    assert sum(seen) == len(entries) - 12 - 7 + 1
    assert_same(whole, resumed)
    assert_same(whole, other)
    ends = {"features.npz", "uninterrupted.npz", "x.npz"}
    assert {path.name for path in Path().iterdir() if path.is_file()} >= ends
    assert not list(Path().glob("*.partial-*"))
    assert Path("features.npz").read_bytes() == Path("uninterrupted.npz").read_bytes()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.system)])
def test_clips_that_cannot_be_read(
    encoder: Encoder, entries: list[ClipEntry], params: Params, processes: int
) -> None:
    """Catches features of another clip in the place of one that fails, a failure that nobody hears
    of, and an error that does not reach the parent of several processes."""
    bad = next(k for k, entry in enumerate(entries) if entry.split == "train")
    spoilt = [*entries]
    spoilt[bad] = type(entries[bad])(
        **{name: getattr(entries[bad], name) for name in entries[bad].__dataclass_fields__}
        | {"offset": entries[bad].offset + 300}
    )
    with pytest.raises(UserError, match=entries[bad].id):
        extract(encoder, spoilt, params, processes=processes)
    found, _ = extract(encoder, spoilt, params, on_failure="report", key={"k": "report"})
    whole, _ = extract(encoder, entries, params, "whole")
    assert found["train"].failed == (entries[bad].id,)
    assert found["train"].ids == whole["train"].ids[1:]
    np.testing.assert_allclose(found["train"].values, whole["train"].values[1:], atol=2e-6)
    assert found["test"].failed == ()
