"""Synthetic clips as files: ordinary videos that show what was drawn, with exact masks."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from decord import VideoReader

from pipeline.configuration.composition import CONF
from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import masks_path, render, rows, write_videos
from pipeline.runtime.files import sha256_file


@pytest.fixture(scope="module")
def settings() -> Synthetic:
    text = (CONF / "data" / "synthetic.yaml").read_text(encoding="utf-8")
    return Synthetic(**yaml.safe_load(text)["synthetic"])


@pytest.fixture(scope="module")
def written(settings, tmp_path_factory):
    """Six clips as files: `(row, path)` of each."""
    listed = rows(settings)[:6]
    folder = tmp_path_factory.mktemp("videos")
    paths = dict(write_videos(settings, listed, folder))
    return [(row, paths[row["id"]]) for row in listed]


def test_each_row_becomes_a_video_and_masks_and_nothing_else(written):
    """Files under other names than the next stage looks for, or temporary ones left behind."""
    folder = written[0][1].parent
    expected = {f"{row['id']}{end}" for row, _ in written for end in (".mp4", ".masks.npz")}
    assert {path.name for path in folder.iterdir()} == expected
    assert all(path.name == f"{row['id']}.mp4" for row, path in written)


def test_another_decoder_sees_the_frames_that_were_drawn(settings, written):
    """Frames lost, in another order or another colour range, or textures lost to compression."""
    for row, path in written:
        video = VideoReader(str(path))
        drawn = render(settings, *map_spec(row["synthetic"])).frames
        shown = video[:].asnumpy()
        assert shown.shape == drawn.shape
        assert video.get_avg_fps() == settings.fps
        difference = shown.mean(axis=3) - drawn.mean(axis=3)
        assert np.abs(difference).mean() < 0.15 * drawn.mean(axis=3).std()
        assert abs(difference.mean()) < 1


def map_spec(spec: str) -> tuple[str, int]:
    """Read `train:3` without the code under test."""
    split, index = spec.split(":")
    return split, int(index)


def test_masks_beside_a_video_are_those_that_were_drawn(settings, written):
    """Masks of another clip, or a file that can be read only by unpickling."""
    for row, path in written:
        with np.load(masks_path(path), allow_pickle=False) as stored:
            np.testing.assert_array_equal(
                stored["masks"], render(settings, *map_spec(row["synthetic"])).masks
            )


def test_the_same_rows_give_the_same_files(settings, written, tmp_path):
    """Times or batch neighbours inside the files, which would make every hash differ."""
    row, path = written[2]
    ((_, again),) = write_videos(settings, [row], tmp_path)
    assert sha256_file(again) == sha256_file(path)
    assert sha256_file(masks_path(again)) == sha256_file(masks_path(path))


def test_an_interrupted_writer_leaves_whole_clips_only(settings, tmp_path):
    """A loop that is stopped after two clips: both are there, and no third."""
    videos = write_videos(settings, rows(settings)[:4], tmp_path)
    done = [next(videos)[1], next(videos)[1]]
    videos.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        name for path in done for name in (path.name, masks_path(path).name)
    }
