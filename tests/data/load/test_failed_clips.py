"""Clips that cannot be read: left out, named, counted; never replaced."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pipeline.configuration.schema import Clip, ClipAugmentation, Views
from pipeline.data.load.evaluation_clips import centred_view, evaluation_batches
from pipeline.data.load.failed_clips import SHOWN, ClipError, FailedClip, FailedClips, scored
from pipeline.data.load.loader import Batch, PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.method.masks import TubeMask
from pipeline.method.pixels import normalise
from pipeline.report import strips
from pipeline.use.exporting import real_input
from pipeline.weights.video_clips import ClipRequest, decoding, usable_clips

from .conftest import levels_video, write_h264

CLIP = Clip(frames=4, stride=2, size=16, scales=(1.0, 0.75), flip=True)


def load(
    entries: list[ClipEntry],
    clip: Clip = CLIP,
    *,
    batch_size: int = 4,
    steps: range = range(5),
    rank: int = 0,
    world: int = 1,
    **changes: Any,
) -> list[Batch]:
    clips = PretrainingClips(entries, clip, TubeMask(ratio=0.5), (2, 8, 8), 3, batch_size)
    options = LoaderOptions(**({"max_failed_share": 0.5} | changes))
    return list(pretraining_batches(clips, steps, options, rank=rank, world=world))


@pytest.fixture
def damaged(entries: list[ClipEntry], tmp_path: Path) -> list[ClipEntry]:
    """The clips, of which the third and the sixth lie in a shard that a disk has spoilt."""
    spoilt = tmp_path / "spoilt.tar"
    spoilt.write_bytes(b"\0" * 4096)
    return [
        dataclasses.replace(entry, shard=spoilt, offset=0, size=9 ** (k + 1) % 4096)
        if k in (2, 5)
        else entry
        for k, entry in enumerate(entries)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_others_are_as_they_were(
    entries: list[ClipEntry],
    damaged: list[ClipEntry],
    workers: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Catches a substitute, a change of the clips that are there, and a loss without a word."""
    lost = {damaged[2].id, damaged[5].id}
    for whole, part in zip(load(entries), load(damaged, workers=workers), strict=True):
        kept = [k for k, clip_id in enumerate(whole.ids) if clip_id not in lost]
        assert part.ids == [whole.ids[k] for k in kept]
        assert part.samples == tuple(whole.samples[k] for k in kept)
        assert torch.equal(part.videos, whole.videos[kept])
        assert torch.equal(part.masks, whole.masks[kept])
        failed = [each.id for each in part.failed]
        assert failed == [clip_id for clip_id in whole.ids if clip_id in lost]
        assert (part.step, part.epoch, whole.failed) == (whole.step, whole.epoch, ())
        assert all(each.reason.startswith("spoilt.tar: ") for each in part.failed)
    said = capfd.readouterr().err
    for clip_id in lost:
        assert said.count(f"clip '{clip_id}' is left out of step ") == 1


def test_every_rank_leaves_out_its_own(damaged: list[ClipEntry]) -> None:
    """Catches a failed clip that one rank counts and another does not miss."""
    parts = [load(damaged, rank=rank, world=2) for rank in range(2)]
    for whole, *both in zip(load(damaged), *parts, strict=True):
        assert [i for part in both for i in part.ids] == whole.ids
        assert sum((part.failed for part in both), ()) == whole.failed


def test_above_the_share(damaged: list[ClipEntry]) -> None:
    """Catches a run that goes on with whatever is left; 2 of 7 clips are above 0.28."""
    assert len(load(damaged, max_failed_share=2 / 7)) == 5
    with pytest.raises(UserError, match=r"2 of 7 clips .*trainer\.max_failed_share = 0\.28") as e:
        load(damaged, max_failed_share=0.28)
    assert {line.split("'")[1] for line in e.value.place.splitlines()} == {"clip.2", "clip.5"}
    assert "shards verify" in e.value.remedy


def test_nothing_left_of_a_batch(damaged: list[ClipEntry]) -> None:
    """Catches a batch without clips, whose loss would be a mean of nothing."""
    with pytest.raises(UserError, match=r"1 of 1 clips .*none is left of this process's part of"):
        load([damaged[2]], max_failed_share=1)


def test_the_list_fits_on_a_screen() -> None:
    """Catches a message with a line for each of a million clips, and one that hides how many."""
    failures = FailedClips(clips=1000, max_share=0.05)
    failures.add([FailedClip(f"a{k}", "no") for k in range(50)], step=0)
    failures.add([FailedClip("a0", "no")], step=9)  # the same again is no further clip
    with pytest.raises(UserError, match="51 of 1000") as caught:
        failures.add([FailedClip("b", "no")], step=10)
    assert len(str(caught.value).splitlines()) < SHOWN + 6
    assert f"and {51 - SHOWN} more" in caught.value.place


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_stops_or_reports(
    entries: list[ClipEntry], damaged: list[ClipEntry], workers: int
) -> None:
    """Catches scores of fewer clips than the table says, and clips under another's id."""
    views = Views(segments=2, crops=1)
    options = LoaderOptions(workers=workers)
    with pytest.raises(UserError, match=r"clip 'clip\.2' cannot be decoded: "):
        list(evaluation_batches(damaged, CLIP, views, 1, options))
    batches = list(evaluation_batches(damaged, CLIP, views, 1, options, on_failure="report"))
    whole = list(evaluation_batches(entries, CLIP, views, 1))
    assert [len(batch.ids) for batch in batches] == [1, 1, 0, 1, 1, 0, 1]
    assert batches[2].videos.shape == (0, *whole[2].videos.shape[1:])
    for batch, before in zip(batches, whole, strict=True):
        assert batch.ids + [each.id for each in batch.failed] == before.ids
        assert torch.equal(batch.videos, before.videos[: len(batch.ids)])
    failed = [each for batch in batches for each in batch.failed]
    assert scored(7, failed) == "scored 5/7, missing: clip.2, clip.5"
    assert scored(7, []) == "scored 7/7"


def test_error_travels_between_processes() -> None:
    """Catches an error that a worker cannot hand over."""
    error = ClipError("clip 'a' is bad", failed=FailedClip("a", "bad"), place="x.tar")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.failed) == (str(error), error.failed)


def test_augmentation_follows_the_sample(damaged: list[ClipEntry]) -> None:
    """Catches clips augmented by their place in the batch, which a failed clip shifts."""
    settings = ClipAugmentation(erasing=1.0)
    clip = CLIP.model_copy(update={"augmentation": settings})
    plain, whole = load(damaged), load(damaged, clip)
    halves = [load(damaged, clip, rank=rank, world=2) for rank in range(2)]
    for k, batch in enumerate(whole):
        both = torch.cat([half[k].videos for half in halves])
        assert torch.equal(batch.videos, both)
        assert torch.equal(batch.masks, plain[k].masks)
        assert (batch.videos != plain[k].videos).flatten(1).any(1).all()


def test_one_frame_per_segment(entries: list[ClipEntry]) -> None:
    """Catches a setting that is read nowhere: frames of the whole clip, in training and in
    evaluation; each frame's grey says its number."""
    spread = CLIP.model_copy(update={"sampling": "per_segment"})
    entry = entries[6]  # 17 frames
    grey = torch.cat([batch.videos for batch in load([entry], spread)]).float().mean((2, 3, 4))
    numbers = ((grey - 38) / 12).round()
    segments = torch.tensor(np.arange(5) * 17 / 4)
    assert ((numbers >= segments[:-1].floor()) & (numbers <= segments[1:])).all()
    assert len(numbers.unique(dim=0)) > 1
    views = Views(segments=2, crops=1, sampling="per_segment")
    (batch,) = evaluation_batches([entry], CLIP, views, 1)
    numbers = ((batch.videos[0].float().mean((2, 3, 4)) - 38) / 12).round()
    assert numbers.tolist() == [[1, 5, 9, 13], [3, 7, 11, 15]]


@pytest.mark.parametrize(
    ("kind", "expected"), [("dense", [5, 7, 9, 11]), ("per_segment", [2, 6, 10, 14])]
)
def test_whatever_shows_one_view_samples_it_as_training_does(
    entries: list[ClipEntry], tmp_path: Path, kind: Any, expected: list[int]
) -> None:
    """Catches a picture of the report, a check of an export, or an embedding, that sees half a
    second of a video where training sees frames of all of it; greys are frames' numbers."""
    clip, entry = CLIP.model_copy(update={"sampling": kind}), entries[6]  # 17 frames
    file = tmp_path / "video.mp4"
    write_h264(file, levels_video(17, 32, 32, 38))
    index = SimpleNamespace(splits={"test": 1}, clips=lambda _: [entry], name="levels")
    seen = {
        "view": next(evaluation_batches([entry], clip, centred_view(clip), 1)).videos[0, 0].numpy(),
        "strips": strips.read_videos([entry], clip)[0],
        "video": usable_clips(file, ClipRequest(clip, decoding(clip))).videos[0],
    }
    numbers = {name: ((video.mean((1, 2, 3)) - 38) / 12).round() for name, video in seen.items()}
    assert {name: each.tolist() for name, each in numbers.items()} == dict.fromkeys(seen, expected)
    exported, _ = real_input.clips([], clip, cast("Any", index))
    assert torch.equal(exported[0], normalise(torch.from_numpy(seen["view"])[None])[0])
