"""Clips whose frames stand in another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params, Views
from pipeline.data.shards.index import DatasetIndex
from pipeline.evaluation import features
from pipeline.evaluation.altered import ORDERS, AlteredClips, Order, Reordered
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Pooled
from pipeline.weights import hub

from .conftest import RUN

names = st.text(max_size=8)


def numbered(frames: int, views: int = 2) -> torch.Tensor:
    """A clip whose frames say which they are: (V,T,1,1,3)."""
    numbers = torch.arange(frames, dtype=torch.uint8)
    return numbers.reshape(1, -1, 1, 1, 1).expand(views, -1, 1, 1, 3)


@given(names, st.integers(1, 12), st.integers(0, 5))
def test_frames_stand_where_they_should(clip: str, frames: int, seed: int) -> None:
    """Catches frames that are lost, views in different orders, a shuffle that changes nothing, and
    random numbers that depend on what was drawn before."""
    seen = {order: Reordered(order, seed)(clip, numbered(frames)) for order in ORDERS}
    for video in seen.values():
        assert video.shape == (2, frames, 1, 1, 3)
        assert (video[0] == video[1]).all()
    places = {order: video[0, :, 0, 0, 0].tolist() for order, video in seen.items()}
    own = list(range(frames))
    assert places["reversed"] == own[::-1]
    assert places["still"] == [frames // 2] * frames
    assert sorted(places["shuffled"]) == own
    assert places["shuffled"] != own or frames == 1
    again = Reordered("shuffled", seed)(clip, numbered(frames, views=1))
    assert again[0, :, 0, 0, 0].tolist() == places["shuffled"]


def test_clips_have_orders_of_their_own() -> None:
    """Catches one random order for all clips, which a probe could learn, and a seed that is not
    used."""
    orders = {tuple(Reordered("shuffled", 0).places(f"clip {k}", 16).tolist()) for k in range(50)}
    assert len(orders) == 50
    other = tuple(Reordered("shuffled", 1).places("clip 0", 16).tolist())
    assert other not in orders


@pytest.mark.parametrize("order", ORDERS)
def test_the_encoder_sees_the_altered_clips(
    workplace: Path, params: Params, order: Order, tmp_path: Path
) -> None:
    """Catches an alteration that never reaches the encoder, that other processes or batches do
    otherwise, and clips in another order."""
    encoder = hub.load(RunLayout(params.name, RUN).weights).encoder
    index = DatasetIndex.load(DataLayout(params.data.name).shards)
    plain = VideoClips(index.clips(["test"]), params.data.clip, Views(segments=2, crops=1))
    altered = AlteredClips(plain, Reordered(order, 0))
    (first,) = plain.batches([3], 2, 0)
    (changed,) = altered.batches([3], 2, 0)
    places = Reordered(order, 0).places(first.ids[0], first.videos.shape[2])
    assert changed.ids == first.ids == [plain.ids[3]]
    assert (changed.videos == first.videos[:, :, places]).all()
    assert (changed.videos != first.videos).any()

    def extract(clips: VideoClips | AlteredClips, name: str, **options: int) -> np.ndarray:
        execution = ExecutionOptions(**{"batch_size": 7, **options})
        path = tmp_path / f"{name}.npz"
        (part,) = features.extract(
            Pooled(encoder), {"test": clips}, path=path, key={"of": name}, options=execution
        ).values()
        assert part.ids == tuple(plain.ids)
        return part.values

    once = extract(altered, "once")
    assert np.abs(once - extract(plain, "plain")).max() > 1e-4
    others = [extract(altered, "small", batch_size=1), extract(altered, "two", processes=2)]
    for other in others:
        np.testing.assert_allclose(other, once, atol=1e-5)
