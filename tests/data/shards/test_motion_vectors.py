"""The codec's motion vectors: what they say, how they are kept, and masks that follow them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.configuration import composition
from pipeline.configuration.schema import Clip, Shards
from pipeline.data.load import clip_reader, vector_speeds
from pipeline.data.load.crops import Window, cut, random_area
from pipeline.data.load.loader import PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import motion_vectors
from pipeline.data.shards.format import ClipEntry, clips_file
from pipeline.data.shards.motion_vectors import CELL
from pipeline.data.shards.shard_stage import pack
from pipeline.errors import UserError
from pipeline.method.masks import MotionMask

FRAMES, HEIGHT, WIDTH, GOP = 8, 96, 128, 4
RIGHT, DOWN = 3, -2  # pixels a frame


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> ClipRecord:
    """A texture that moves as a whole, encoded as the decode stage does it."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.random((192, 256)), 2, mode="wrap")
    texture = 255 * (texture - texture.min()) / np.ptp(texture)
    shown = [
        np.roll(texture, (DOWN * t, RIGHT * t), (0, 1))[:HEIGHT, :WIDTH] for t in range(FRAMES)
    ]
    frames = np.stack(shown)[..., None].repeat(3, -1).astype(np.uint8)
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-r", "8"]
    command += ["-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-i", "-", "-c:v", "libx264"]
    command += ["-preset", "veryfast", "-crf", "18", "-g", str(GOP), "-bf", "0", "-sc_threshold"]
    command += ["0", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    return ClipRecord(
        id="a",
        outcome=Outcome.OK,
        file=str(path),
        frames=FRAMES,
        fps=8,
        width=WIDTH,
        height=HEIGHT,
    )


def test_vectors_tell_the_motion(record: ClipRecord) -> None:
    """Catches a wrong sign, axis, unit or cell, and keyframes that stand still."""
    pytest.importorskip("av")
    vectors = motion_vectors.of_clip(Path(record.file).read_bytes(), record)
    assert vectors.shape == (FRAMES, 12, 16, 2)
    inner = vectors[:, 2:-2, 2:-2].reshape(FRAMES, -1, 2)
    expected = np.array([-RIGHT, -DOWN]) * motion_vectors.UNIT  # where it came from
    assert np.array_equal(np.median(inner, axis=1), np.tile(expected, (FRAMES, 1)))
    assert np.array_equal(vectors[GOP], vectors[GOP + 1])


def test_parts_fill_their_cells() -> None:
    """Catches parts of 16 pixels that fill one cell, and halves that are not weighed."""
    names = ["source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale"]
    rows = [
        (-1, 16, 16, 8, 8, 8, -4, 4),  # the first four cells
        (-1, 16, 8, 24, 4, 4, 0, 4),
        (1, 8, 8, 20, 12, 40, 40, 4),  # of a picture after it
        (-1, 16, 16, 40, 8, 40, 0, 4),  # half of it is outside
    ]
    table = np.array(rows, dtype=[(name, np.int32) for name in names])
    found = motion_vectors._of_frame(table, (2, 5))
    assert found is not None
    assert found[..., 0].tolist() == [[4, 4, 2, 2, 20], [4, 4, 0, 0, 20]]
    assert found[..., 1].tolist() == [[-2, -2, 0, 0, 0], [-2, -2, 0, 0, 0]]


def test_without_pyav_it_is_said(record: ClipRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback, or shards that silently hold no vectors."""
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="PyAV") as caught:
        motion_vectors.of_clip(b"", record)
    assert "EXTRAS=motion-vectors" in caught.value.remedy


def packed(record: ClipRecord, folder: Path, codec: str, *, with_vectors: bool) -> ClipEntry:
    settings = Shards(codec=codec, clips_per_shard=1, motion_vectors=with_vectors)
    pack([record], folder, 0, settings, folder / "decoded.json")
    (line,) = clips_file(folder / "train-00000-000.tar").read_text().splitlines()
    return ClipEntry.parse(line, folder / "train-00000-000.tar")


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> motion_vectors.Vectors:
    """Vectors that stand in for the clip's: the right half moves, ever faster."""
    made = np.zeros((FRAMES, 12, 16, 2), np.int8)
    made[:, :, 8:, 0] = np.arange(FRAMES)[:, None, None]
    monkeypatch.setattr(motion_vectors, "of_clip", lambda *_: made)
    return made


@pytest.mark.parametrize("codec", ["h264", "jpeg", "raw"])
def test_shards_keep_vectors(
    codec: str, record: ClipRecord, vectors: motion_vectors.Vectors, tmp_path: Path
) -> None:
    """Catches vectors of another place, pictures that change beside them, and shards that hold
    them although nobody asked."""
    plain = packed(record, tmp_path / "plain", codec, with_vectors=False)
    assert plain.motion == 0
    assert "motion" not in clips_file(plain.shard).read_text()
    entry = packed(record, tmp_path / "vectors", codec, with_vectors=True)
    assert np.array_equal(clip_reader.read_vectors(entry), vectors)
    indices = np.arange(FRAMES)
    assert np.array_equal(clip_reader.read(entry, indices), clip_reader.read(plain, indices))


def test_speeds_are_those_of_the_crop(vectors: motion_vectors.Vectors) -> None:
    """Catches steps of other frames, a crop or a mirror that is forgotten, a camera's motion."""
    indices, grid = np.array([0, 2, 4, 6]), (2, 3, 4)
    whole = Window(0, 0, HEIGHT, WIDTH)
    # Steps are 1 + 2, 3 + 4 and 5 + 6; a tube of two frames has one between, and one beside each.
    both = np.array([(3 + 3 + 7) / 3, (7 + 11 + 11) / 3])
    speeds = vector_speeds.speeds(vectors, indices, whole, grid, flip=False)
    np.testing.assert_allclose(speeds, np.broadcast_to(both[:, None, None] / 2, grid))
    few = vectors.copy()
    few[:, :, 8:12] = 0
    few += 5  # the camera
    speeds = vector_speeds.speeds(few, indices, whole, grid, flip=False)
    np.testing.assert_allclose(speeds[..., :3], 0)
    np.testing.assert_allclose(speeds[..., 3], np.tile(both[:, None], (1, 3)))
    mirrored = vector_speeds.speeds(few, indices, whole, grid, flip=True)
    assert np.array_equal(mirrored, speeds[:, :, ::-1])
    right = vector_speeds.speeds(few, indices, Window(32, 64, 48, 64), grid, flip=False)
    assert (right > 0).all(axis=(0, 1)).tolist() == [False, False, True, True]
    assert not vector_speeds.speeds(few, np.array([3]), whole, (1, 3, 4), flip=False).any()


@given(st.integers(0, 10_000), st.booleans())
def test_speeds_follow_a_crop_of_any_shape(seed: int, flip: bool) -> None:
    """Catches a random crop that moves or stretches pictures otherwise than speeds: tubes that lie
    wholly within what moves, or wholly beside it (oracle: a picture of what moves)."""
    rng = np.random.default_rng(seed)
    moves = np.zeros((12, 16), np.bool_)
    top, left = rng.integers(0, (8, 10))
    moves[top : top + 6, left : left + 7] = True
    made = np.zeros((4, 12, 16, 2), np.int8)
    made[:, moves] = 3, 4
    window = random_area(12 * CELL, 16 * CELL, (0.3, 1.0), (0.75, 1.35), seed=seed)
    picture = moves.repeat(CELL, 0).repeat(CELL, 1).astype(np.uint8)[None, :, :, None] * 255
    seen = cut(picture.repeat(3, 3), window, 64, flip=flip)[0, :, :, 0]
    shares = seen.reshape(8, 8, 8, 8).mean(axis=(1, 3)) / 255
    speeds = vector_speeds.speeds(made, np.arange(4), window, (2, 8, 8), flip=flip)
    for each in speeds:
        np.testing.assert_allclose(each[shares == 1], 5)
        assert not each[shares == 0].any()


def test_masks_follow_vectors(
    record: ClipRecord, vectors: motion_vectors.Vectors, tmp_path: Path
) -> None:
    """Catches masks of the gradient, and shards without vectors that are trained on."""
    vectors[:, :, 8:12] = 0
    mask = MotionMask(0.75, share=0.99, contrast=8.0, source="codec")
    clip = Clip(frames=4, stride=2, size=32, scales=(1.0,), flip=True)
    entry = packed(record, tmp_path / "vectors", "h264", with_vectors=True)
    clips = PretrainingClips([entry], clip, mask, (2, 8, 8), seed=0, batch_size=16)
    (batch,) = pretraining_batches(clips, range(1))
    (again,) = pretraining_batches(clips, range(1), LoaderOptions(workers=1))
    assert batch.masks.equal(again.masks)
    assert (batch.masks.sum(1) == 2 * 12).all()
    visible = (~batch.masks).reshape(16, 2, 4, 4).float().mean(dim=(1, 2))
    assert visible.max(dim=1).values.mean() > 0.5  # of a column's tubes, where a quarter is seen
    plain = packed(record, tmp_path / "plain", "h264", with_vectors=False)
    clips = PretrainingClips([plain], clip, mask, (2, 8, 8), seed=0, batch_size=1)
    with pytest.raises(UserError, match="does not hold") as caught:
        next(pretraining_batches(clips, range(1)))
    assert "motion_vectors: true" in caught.value.remedy


def test_masks_need_vectors() -> None:
    """A combination that makes no sense is refused with the reason."""
    overrides = ["experiment=one", "objective/mask=motion", "+objective.mask.source=codec"]
    with pytest.raises(UserError, match=r"motion_vectors: true"):
        composition.compose(overrides)
    composition.compose([*overrides, "data.shards.motion_vectors=true"])
