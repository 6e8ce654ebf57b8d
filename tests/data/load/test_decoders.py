"""Decoding: exact frames at every width, and errors that say what is wrong."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.configuration import composition
from pipeline.data.decode import transcode
from pipeline.data.decode.raw_frames import decode_frames
from pipeline.data.load import decoders
from pipeline.errors import UserError

Videos = dict[int, tuple[decoders.Frames, bytes]]


@pytest.fixture(scope="module")
def videos(
    tmp_path_factory: pytest.TempPathFactory, write_h264: Callable[[Path, decoders.Frames], None]
) -> Videos:
    """Grey noise in blocks of 4 x 4, other in each frame: (pixels, encoded) by width."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    made = {}
    for width in (16, 24, 32, 40, 48, 64, 72):
        blocks = rng.integers(0, 256, (6, 4, width // 4, 1), dtype=np.uint8)
        video = blocks.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
        write_h264(folder / f"{width}.mp4", video)
        made[width] = (video, (folder / f"{width}.mp4").read_bytes())
    return made


LIBRARIES = decoders.ON_CPU
NVDEC = decoders.problem_of("nvdec")


@pytest.mark.parametrize("decoder", LIBRARIES)
@pytest.mark.parametrize("width", [16, 24, 32, 40, 48, 64, 72])
def test_every_width(videos: Videos, width: int, decoder: decoders.Decoder) -> None:
    """Catches what decord takes for channels at widths 16, 24, 48, 72, and skewed rows at any."""
    video, encoded = videos[width]
    for indices in ([0, 1, 2, 3, 4, 5], [5, 1, 1, 3]):
        decoded = decoders.read(encoded, indices, (6, 16, width), decoder)
        assert decoded.shape == (len(indices), 16, width, 3)
        wrong = np.abs(decoded.astype(int) - video[indices]).mean(axis=(1, 2, 3))
        assert wrong.max() < 4  # grey levels, from coding; another frame would be about 85 off


@pytest.mark.parametrize("width", [16, 24, 32, 40, 48, 64, 72])
def test_all_decoders_agree(videos: Videos, width: int) -> None:
    """Catches pixels that depend on `trainer.decoder`, a clip's width or its codec."""
    _, encoded = videos[width]
    by_ffmpeg = np.stack(list(decode_frames(encoded, (6, 16, width))))
    for decoder in LIBRARIES:
        for some in (np.arange(6), np.array([1, 2, 5])):
            decoded = decoders.read(encoded, some, (6, 16, width), decoder)
            assert np.array_equal(by_ffmpeg[some], decoded)


@pytest.mark.system
def test_all_decoders_agree_on_real_clips(clips_folder: Path, tmp_path: Path) -> None:
    """Catches libraries that take another matrix of colours, or another frame, for real videos."""
    settings = composition.load(_params(tmp_path)).data.decode
    for name in ("sports.mp4", "nasa_rotated.mp4", "ten_bit.mp4", "testsrc_odd_size.mp4"):
        path = tmp_path / f"{name}.mp4"
        segment = transcode.Segment(0.0, 0.5)
        done = transcode.transcode(clips_folder / "good" / name, path, segment, settings)
        shape, some = (done.frames, done.height, done.width), np.arange(0, done.frames, 3)
        decoded = [decoders.read(path.read_bytes(), some, shape, decoder) for decoder in LIBRARIES]
        assert all(np.array_equal(decoded[0], other) for other in decoded[1:])
        by_ffmpeg = np.stack(list(decode_frames(path.read_bytes(), shape)))
        assert np.array_equal(by_ffmpeg[some], decoded[0])


@pytest.mark.skipif(NVDEC is not None, reason=f"nvdec: {NVDEC and NVDEC[0]}")
def test_nvdec_gives_the_same_frames_but_for_rounding(clips_folder: Path, tmp_path: Path) -> None:
    """Catches a video engine that gives other frames, or colours by another matrix."""
    settings = composition.load(_params(tmp_path)).data.decode
    path, segment = tmp_path / "clip.mp4", transcode.Segment(0.0, 0.5)
    done = transcode.transcode(clips_folder / "good" / "sports.mp4", path, segment, settings)
    shape, some = (done.frames, done.height, done.width), np.array([7, 1, 3, 3])
    by_gpu, by_cpu = (
        decoders.read(path.read_bytes(), some, shape, decoder).astype(float)
        for decoder in ("nvdec", "auto")
    )
    assert np.abs(by_gpu - by_cpu).mean() < 2


@pytest.mark.skipif(NVDEC is None, reason="there is a GPU that decodes")
def test_nvdec_is_not_there(videos: Videos) -> None:
    """Catches a traceback of CUDA's in each worker, pixels of another decoder in silence, and an
    evaluation that decodes otherwise than others do."""
    with pytest.raises(UserError, match="no NVIDIA GPU") as refused:
        decoders.read(videos[32][1], [0], (6, 16, 32), "nvdec")
    assert "use auto" in refused.value.remedy
    assert decoders.of_exact_pixels("nvdec") == "auto" != decoders.chosen("auto") != "nvdec"
    assert [decoders.of_exact_pixels(each) for each in LIBRARIES] == list(LIBRARIES)


def _params(folder: Path) -> Path:
    path = folder / "params.yaml"
    path.write_text(composition.compose(["experiment=tiny", "data.decode.short_side=256"]))
    return path


@pytest.mark.parametrize(
    ("module", "problem", "remedy"),
    [
        ("raise ImportError('no')", "torchcodec is not installed", "make setup EXTRAS=torchcodec"),
        ("raise RuntimeError('no libavutil.so')", "libraries of ffmpeg", "apt-get install ffmpeg"),
    ],
)
def test_torchcodec_is_not_there(
    videos: Videos,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    problem: str,
    remedy: str,
) -> None:
    """Catches a traceback where torchcodec is asked for, and `auto` that does not do without."""
    _replace(monkeypatch, tmp_path, "torchcodec", module)
    with pytest.raises(UserError, match=problem) as caught:
        decoders.read(videos[32][1], [0], (6, 16, 32), "torchcodec")
    assert re.search(remedy, caught.value.remedy)
    assert "auto" in caught.value.remedy
    assert decoders.chosen("auto") == "decord"
    assert decoders.read(videos[32][1], [0], (6, 16, 32), "auto").shape == (1, 16, 32, 3)


def test_a_machine_without_decord(
    videos: Videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a configuration that says `decord` and stops on ARM, and no fallback to PyAV."""
    _replace(monkeypatch, tmp_path, "decord", "raise ImportError('no')")
    for decoder in ("decord", "auto"):
        assert decoders.chosen(decoder) == "torchcodec"
    _replace(monkeypatch, tmp_path, "torchcodec", "raise RuntimeError('no libavutil.so')")
    by_ffmpeg = np.stack(list(decode_frames(videos[48][1], (6, 16, 48))))
    for decoder in ("decord", "auto"):
        assert decoders.chosen(decoder) == "pyav"
        decoded = decoders.read(videos[48][1], [4, 1], (6, 16, 48), decoder)
        assert np.array_equal(decoded, by_ffmpeg[[4, 1]])
    _replace(monkeypatch, tmp_path, "av", "raise ImportError('no')")
    with pytest.raises(UserError, match="no library decodes"):
        decoders.chosen("decord")


def _replace(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, source: str) -> None:
    """Let a package be one module of this source, until the test ends."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(decoders, "chosen", functools.cache(decoders.chosen.__wrapped__))


@pytest.mark.parametrize(
    ("width", "decoder"), [(32, "decord"), (48, "decord"), (32, "torchcodec"), (32, "pyav")]
)
@pytest.mark.parametrize(
    ("damage", "shape", "problem"),
    [
        (lambda video: b"", (6, 16), "."),
        (lambda video: b"<html>", (6, 16), "."),
        (lambda video: video[: len(video) // 3], (6, 16), "."),
        (lambda video: video, (7, 16), "6 frames where there should be 7"),
        (lambda video: video, (6, 18), "."),
    ],
)
def test_what_is_wrong_is_said(
    videos: Videos,
    width: int,
    decoder: decoders.Decoder,
    damage: Callable[[bytes], bytes],
    shape: tuple[int, int],
    problem: str,
) -> None:
    """Catches other exceptions than DecodeError, and frames of another size passed on."""
    with pytest.raises(decoders.DecodeError, match=problem) as caught:
        decoders.read(damage(videos[width][1]), [0, 1], (*shape, width), decoder)
    assert "\n" not in str(caught.value)
