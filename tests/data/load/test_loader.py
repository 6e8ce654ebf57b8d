"""Batches: the same for any workers, caches, processes and resumptions; exact frames."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from pipeline.configuration.schema import Clip, Paste, Views
from pipeline.data.load import decoders, order, prefetch
from pipeline.data.load.evaluation_clips import evaluation_batches
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.load.loader import (
    Batch,
    PretrainingClips,
    PretrainingSteps,
    pretraining_batches,
)
from pipeline.data.load.options import LoaderOptions
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import read_bytes
from pipeline.errors import UserError
from pipeline.method.masks import BlockMask, Mask, MotionMask, TrajectoryMask, TubeMask
from pipeline.method.masks.base import BoolArray, Grid, hide_all_but, least
from pipeline.method.masks.blocks import Blocks
from pipeline.method.motion import Frames

PROJECT = Path(__file__).parents[3]
CLIP = Clip(frames=4, stride=2, size=16, scales=(1.0, 0.75, 0.5), flip=True)
MASK = TubeMask(ratio=0.5)
TUBE = (2, 8, 8)
RESIZED = Clip.model_validate(
    CLIP.model_dump() | {"crop": {"area": (0.3, 1.0), "aspect": (0.75, 1.35)}}
)


def load(
    entries: list[ClipEntry],
    mask: Mask = MASK,
    *,
    batch_size: int = 4,
    masks: int = 1,
    paste: Paste | None = None,
    steps: range = range(5),
    rank: int = 0,
    world: int = 1,
    **options: Any,
) -> list[Batch]:
    clips = PretrainingClips(entries, CLIP, mask, TUBE, 3, batch_size, masks, paste)
    batches = pretraining_batches(clips, steps, LoaderOptions(**options), rank=rank, world=world)
    return list(batches)


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert [(b.step, b.epoch, b.ids) for b in left] == [(b.step, b.epoch, b.ids) for b in right]
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.videos, other.videos)
        assert torch.equal(one.masks, other.masks)


def test_shapes(entries: list[ClipEntry]) -> None:
    """Catches a swapped axis or another type than the contract's."""
    for step, batch in enumerate(load(entries)):
        assert batch.step == step
        assert batch.videos.shape == (4, 4, 16, 16, 3)
        assert batch.videos.dtype == torch.uint8
        assert batch.masks.shape == (4, 2 * 2 * 2)
        assert batch.masks.dtype == torch.bool
        assert batch.masks.sum(1).tolist() == [4, 4, 4, 4]
        assert set(batch.ids) <= {entry.id for entry in entries}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(entries: list[ClipEntry], workers: int) -> None:
    """Catches a sample that depends on the process that made it, or batches out of order."""
    assert_same(load(entries), load(entries, workers=workers))


@dataclass(frozen=True)
class Brightest(Mask):
    """Hides the tubes that are brightest: of the frames alone."""

    kind: Literal["brightest"] = "brightest"

    def draw(self, grid: Grid, rng: Any, frames: Frames | None = None) -> BoolArray:
        assert frames is not None
        t, h, w = grid
        tubes = frames.reshape(t, TUBE[0], h, TUBE[1], w, TUBE[2], 3).mean(axis=(1, 3, 5, 6))
        return hide_all_but(least(tubes.ravel(), t * h * w // 2), t * h * w)


def test_workers_that_are_not_forked_change_nothing(entries: list[ClipEntry]) -> None:
    """Catches a data set that cannot be given to a new process: macOS, or GPUs that decode."""
    clips, steps = PretrainingClips(entries, CLIP, MASK, TUBE, 3, 4), range(3)
    dataset = PretrainingSteps(clips, FrameSource(), rank=0, world=1)
    made = load_in_order(dataset, steps, 1, accelerator=torch.device("cpu"))
    assert_same(list(made), load(entries, steps=steps))


def test_masks_follow_random_crops(entries: list[ClipEntry]) -> None:
    """Catches masks of frames, with objects on them, that are cropped or mirrored otherwise than
    those that the model sees, and crops that depend on the worker or the steps before."""
    paste = Paste(source="digits")
    clips = PretrainingClips(entries, RESIZED, Brightest(), TUBE, 3, 4, paste=paste)
    batches = list(pretraining_batches(clips, range(3)))
    for batch in batches:
        for video, mask in zip(batch.videos.numpy(), batch.masks.numpy(), strict=True):
            assert np.array_equal(Brightest().draw(clips.grid, None, video), mask)
    assert_same(batches, list(pretraining_batches(clips, range(3), LoaderOptions(workers=2))))
    assert_same(batches[1:], list(pretraining_batches(clips, range(1, 3))))


@pytest.mark.parametrize("cache_mib", [1, 64])
def test_cache_changes_nothing(entries: list[ClipEntry], cache_mib: int) -> None:
    """Catches decoding of the whole clip and of single frames that differ."""
    assert_same(load(entries), load(entries, cache_mib=cache_mib))


def test_resumed_in_mid_epoch_is_uninterrupted(entries: list[ClipEntry]) -> None:
    """Catches any state that is carried from batch to batch."""
    whole = load(entries, steps=range(6))
    for first in range(6):
        assert_same(whole[first:], load(entries, steps=range(first, 6)))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_global_batch(entries: list[ClipEntry], world: int) -> None:
    """Catches ranks that overlap, leave clips out, or see other crops than one process would."""
    parts = [load(entries, rank=rank, world=world) for rank in range(world)]
    for step, whole in enumerate(load(entries)):
        ids = [clip_id for part in parts for clip_id in part[step].ids]
        assert ids == whole.ids
        assert torch.equal(torch.cat([part[step].videos for part in parts]), whole.videos)
        assert torch.equal(torch.cat([part[step].masks for part in parts]), whole.masks)


def test_batch_larger_than_the_data_set_goes_round(entries: list[ClipEntry]) -> None:
    """Catches a short batch, or an epoch that skips clips at its seam."""
    (batch,) = load(entries, batch_size=14, steps=range(1))
    names = [entry.id for entry in entries]
    assert sorted(batch.ids[:7]) == names
    assert sorted(batch.ids[7:]) == names


def test_frames_are_those_asked_for(entries: list[ClipEntry]) -> None:
    """Catches seeking that lands on a neighbouring frame: each frame's grey says its number."""
    for k, entry in enumerate(entries):
        video = read_bytes(entry)
        for wanted in ([entry.frames - 1], [3, 0, 3], list(range(entry.frames))):
            decoded = decoders.read(video, wanted, (entry.frames, entry.height, entry.width))
            expected = 20 + 3 * k + 12 * np.array(wanted)
            assert decoded.shape == (len(wanted), entry.height, entry.width, 3)
            assert np.abs(decoded.mean(axis=(1, 2, 3)) - expected).max() < 3


def test_a_clip_may_have_several_masks(entries: list[ClipEntry]) -> None:
    """Catches masks that are all alike, that change the clip, or that a worker changes."""
    several = load(entries, masks=3)
    assert_same(several, load(entries, masks=3, workers=2))
    for one, batch in zip(load(entries), several, strict=True):
        assert torch.equal(batch.videos, one.videos)
        assert batch.masks.shape == (4, 3, 8)
        assert torch.equal(batch.masks[:, 0], one.masks)
    masks = torch.cat([batch.masks for batch in several])
    assert not torch.equal(masks[:, 0], masks[:, 1])
    kinds = BlockMask((Blocks(1, area=(0.5, 0.5)), Blocks(1, area=(0.25, 0.25))))
    assert load(entries, kinds, masks=3)[0].masks.shape == (4, 6, 8)


def test_masks_hide_pasted_objects(entries: list[ClipEntry]) -> None:
    """Catches objects or masks that a worker, a resumption or another process changes, crops that
    change with the objects, and a second mask around the first one's objects."""
    mask, options = TrajectoryMask(0.5), {"masks": 2, "paste": Paste(source="digits")}
    batches = load(entries, mask, **options)
    assert_same(batches, load(entries, mask, workers=2, **options))
    assert_same(batches[3:], load(entries, mask, steps=range(3, 5), **options))
    halves = [load(entries, mask, rank=rank, world=2, **options) for rank in range(2)]
    for plain, batch, *parts in zip(load(entries), batches, *halves, strict=True):
        assert torch.equal(torch.cat([part.videos for part in parts]), batch.videos)
        assert torch.equal(torch.cat([part.masks for part in parts]), batch.masks)
        changed = (plain.videos != batch.videos).any(-1).float().mean(dim=(1, 2, 3))
        assert (changed > 0).all()
        assert changed.mean() < 0.9
    masks = torch.cat([batch.masks for batch in batches])
    assert (masks.sum(-1) == 4).all()
    assert not torch.equal(masks[:, 0], masks[:, 1])


def test_motion_masks_see_what_the_model_sees(entries: list[ClipEntry]) -> None:
    """Catches masks drawn from other frames than the crop's, and ones that a worker changes."""
    mask = MotionMask(ratio=0.5, share=0.9, contrast=8.0)
    batches = load(entries, mask)
    assert_same(batches, load(entries, mask, workers=2))
    for plain, batch in zip(load(entries), batches, strict=True):
        assert torch.equal(plain.videos, batch.videos)
        assert batch.masks.reshape(4, 2, 4).sum(2).tolist() == [[2, 2]] * 4


def test_order_is_the_pure_function(entries: list[ClipEntry]) -> None:
    """Catches a loader with an order of its own."""
    ids = [clip_id for batch in load(entries) for clip_id in batch.ids]
    stream = [order.permutation(3, epoch, 7) for epoch in range(3)]
    assert ids == [entries[index].id for index in np.concatenate(stream)[:20]]


def test_global_random_state_is_left_alone(entries: list[ClipEntry]) -> None:
    """Catches loading that shifts the random numbers of the training itself (drop path)."""
    torch.manual_seed(0)
    np.random.seed(0)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    load(entries, steps=range(2))
    load(entries, steps=range(2), workers=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)


def test_evaluation_views(entries: list[ClipEntry]) -> None:
    """Catches views in another order, clips left out of the last batch, and random views."""
    views = Views(segments=2, crops=3)
    batches = list(evaluation_batches(entries, CLIP, views, batch_size=3))
    assert [len(batch.ids) for batch in batches] == [3, 3, 1]
    assert [i for batch in batches for i in batch.ids] == [entry.id for entry in entries]
    videos = torch.cat([batch.videos for batch in batches])
    assert videos.shape == (7, 6, 4, 16, 16, 3)
    again = evaluation_batches(entries, CLIP, views, batch_size=7, options=LoaderOptions(workers=1))
    assert torch.equal(torch.cat([batch.videos for batch in again]), videos)
    # The last clip has 17 frames: 11 starts fit, the middles of their halves are 2 and 8.
    grey = videos[6].float().mean(dim=(2, 3, 4))  # V,T
    expected = 38 + 12 * (torch.tensor([[2], [8]]) + torch.tensor([0, 2, 4, 6]))
    assert (grey - expected.repeat_interleave(3, dim=0)).abs().max() < 3


def test_evaluations_decode_on_the_cpu(entries: list[ClipEntry]) -> None:
    """Catches scores that depend on what decodes pretraining's clips, or that want its GPU."""
    views = Views(segments=1, crops=1, sampling="dense")
    first, second = (
        list(evaluation_batches(entries, CLIP, views, 4, LoaderOptions(decoder=decoder)))
        for decoder in ("auto", "nvdec")
    )
    assert [batch.ids for batch in first] == [batch.ids for batch in second]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.videos, other.videos)


def test_one_view_is_the_centre(entries: list[ClipEntry]) -> None:
    """Catches a centre view that is at the clip's beginning."""
    (batch,) = evaluation_batches(entries[6:], CLIP, Views(segments=1, crops=1), batch_size=2)
    grey = batch.videos[0, 0].float().mean(dim=(1, 2, 3))
    assert (grey - (38 + 12 * (5 + torch.tensor([0, 2, 4, 6])))).abs().max() < 3


def test_more_workers_than_shards(entries: list[ClipEntry]) -> None:
    """Catches a message without the numbers, or one that comes only with the first batch."""
    shards = len({entry.shard for entry in entries})
    clips = PretrainingClips(entries, CLIP, MASK, TUBE, seed=0, batch_size=1)
    with pytest.raises(UserError, match=rf"\({shards + 1}\).*\({shards}\)") as caught:
        pretraining_batches(clips, range(1), LoaderOptions(workers=shards + 1))
    assert "trainer.workers" in caught.value.remedy
    assert "data.chunks" in caught.value.remedy


def test_no_clips(entries: list[ClipEntry]) -> None:
    """Catches a division by zero where a message belongs."""
    with pytest.raises(UserError, match="no clip"):
        load([])


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_clip_is_named(entries: list[ClipEntry], workers: int, tmp_path: Path) -> None:
    """Catches a substitute for a clip that fails, a hang, and an error without the clip's id."""
    shard = tmp_path / "train-00000-000.tar"
    shard.write_bytes(b"\0" * 4096)
    broken = dataclasses.replace(entries[2], shard=shard, offset=0, size=4096)
    some = [*entries[:2], broken]
    with pytest.raises(UserError, match="1 of 3 clips cannot be read, more than") as caught:
        load(some, workers=workers)
    assert "clip 'clip.2': train-00000-000.tar: " in caught.value.place
    options = LoaderOptions(workers=workers)
    with pytest.raises(UserError, match=r"clip 'clip\.2'"):
        list(evaluation_batches(some, CLIP, Views(segments=1, crops=1), 4, options))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_in_memory_that_is_reused(
    entries: list[ClipEntry], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches memory that workers fill again before its batch is copied to an accelerator, and
    batches that clips are missing from."""
    monkeypatch.setattr(prefetch, "SideStream", Copies)
    broken = dataclasses.replace(entries[2], frames=entries[2].frames + 1)
    some = [*entries[:2], broken, *entries[3:]]
    options: dict[str, Any] = {"max_failed_share": 0.5, "steps": range(7, 40), "batch_size": 3}
    expected = load(some, **options)
    assert_same(load(some, workers=workers, device=torch.device("cuda"), **options), expected)
    assert {len(batch.ids) for batch in expected} == {1, 2, 3}


class Copies:
    """Stands in for the copies to an accelerator: what is sent late is seen if it has changed."""

    def __init__(self, device: torch.device) -> None:
        pass

    def send(self, videos: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)  # long enough for a worker to make the batch that comes next
        return videos.clone()

    def receive(self, sent: torch.Tensor) -> torch.Tensor:
        return sent


def test_wrong_number_of_frames_is_named(entries: list[ClipEntry]) -> None:
    """Catches sampling beyond the end of a clip that has fewer frames than its record says."""
    wrong = dataclasses.replace(entries[0], frames=entries[0].frames + 1)
    with pytest.raises(UserError, match="1 of 1 clips") as caught:
        load([wrong])
    assert "5 frames where there should be 6" in caught.value.place


def test_batches_do_not_depend_on_the_interpreter(entries: list[ClipEntry]) -> None:
    """Catches order or draws that follow Python's hash seed."""
    program = (
        "import sys; from pipeline.data.load import order; "
        "print(order.batch(5, 2, n=9, batch_size=4), order.sample_rng(5, 1, 2).random())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
