"""Features of many videos: right, complete, and taken up where an earlier call stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.cli import main as cli
from pipeline.errors import UserError
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.use.embedding import arguments, features_file, neighbours
from pipeline.use.embedding.extraction import Extraction, extract
from pipeline.use.embedding.features_file import Features
from pipeline.use.embedding.videos import video_sources
from pipeline.weights import hub, video_clips
from pipeline.weights.video_clips import ClipRequest, decoding

CPU = ExecutionOptions(batch_size=3, device=torch.device("cpu"))


def run(checkpoint: Path, folder: Path, output: Path, clips: int = 2, **options: Any) -> Extraction:
    model = hub.load(checkpoint)
    look = ClipRequest(model.clip, decoding(model.clip), clips)
    execution = options.pop("execution", CPU)
    return extract(model, video_sources([str(folder)]), look, output, execution, **options)


def same(one: Features, other: Features) -> None:
    assert one.columns == other.columns
    assert np.array_equal(one.values, other.values)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of videos that are decoded, as they are."""
    names: list[str] = []
    really = video_clips.decode_clips

    def look(video: Path, *rest: Any) -> Any:
        names.append(video.name)
        return really(video, *rest)

    monkeypatch.setattr(video_clips, "decode_clips", look)
    return names


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_the_file_has_every_video(checkpoint: Path, videos: Path, suffix: str) -> None:
    """Rows are what `embed` gives for each video alone, with its times; the lost one is told of.
    Catches rows in another video's place, spans of other clips, a loss without a word."""
    output = videos.parent / f"f.{suffix}"
    result = run(checkpoint, videos, output)
    features = features_file.read(output)
    same(features, result.features)
    assert features.columns["id"] == ["a.mp4", "a.mp4", "b.mp4", "b.mp4", "sub/c.mp4", "sub/c.mp4"]
    assert features.columns["clip"] == [0, 1] * 3
    assert [lost["id"] for lost in features.about.lost] == ["page.mp4"]
    assert features.about.census == {"ok": 3, "not_a_video": 1}
    assert result.lost_share == 0.25
    model = hub.load(checkpoint)
    assert features.about.checkpoint["sha256"] == model.sha256
    for place, name in enumerate(("a.mp4", "b.mp4", "sub/c.mp4")):
        alone = model.embed(videos / name, clips=2).numpy()
        np.testing.assert_allclose(features.values[2 * place : 2 * place + 2], alone, atol=1e-5)
    # 20 frames at 10 a second; a clip of 8: 13 starts, in the middle of each half.
    assert features.columns["start"][:2] == pytest.approx([0.3, 0.9])
    assert features.columns["end"][:2] == pytest.approx([1.1, 1.7])
    assert not list(videos.parent.glob(".f.*"))


def test_per_tube_features_average_to_the_pooled(checkpoint: Path, videos: Path) -> None:
    """Catches tubes in another order than rows, or a shape that is not told."""
    pooled = run(checkpoint, videos, videos.parent / "p.parquet").features
    run(checkpoint, videos, videos.parent / "t.parquet", per_tube=True)
    tubes = features_file.read(videos.parent / "t.parquet")
    assert tubes.values.shape == (6, *tubes.about.shape) == (6, 64, 32)
    np.testing.assert_allclose(features_file.pooled(tubes), pooled.values, atol=1e-5)


def test_batches_and_workers_change_nothing(checkpoint: Path, videos: Path) -> None:
    """Catches rows that depend on how the work is divided."""
    one = run(checkpoint, videos, videos.parent / "1.parquet").features
    execution = ExecutionOptions(1, workers=2, device=torch.device("cpu"))
    other = run(checkpoint, videos, videos.parent / "2.parquet", execution=execution).features
    assert one.columns == other.columns
    np.testing.assert_allclose(one.values, other.values, atol=1e-6)


def test_an_interrupted_call_goes_on(
    checkpoint: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is not done again, and the result is that of a call that ran through; also
    where the last line was cut, and features are damaged."""
    whole = run(checkpoint, videos, videos.parent / "whole.parquet").features
    really, names = video_clips.decode_clips, []

    def interrupted(video: Path, *rest: Any) -> Any:
        names.append(video.name)
        if names == ["a.mp4", "b.mp4", "page.mp4"]:
            raise KeyboardInterrupt
        return really(video, *rest)

    monkeypatch.setattr(video_clips, "decode_clips", interrupted)
    output = videos.parent / "f.parquet"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, videos, output)
    assert not output.exists()
    partial = videos.parent / ".f.parquet.partial"
    with (partial / "0.jsonl").open("a") as journal:
        journal.write('{"key": "page.mp4", "outc')
    del names[:]
    same(run(checkpoint, videos, output).features, whole)
    assert names == ["page.mp4", "c.mp4"]
    assert not partial.exists()


def test_damaged_work_is_done_again(
    checkpoint: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches features that a power cut destroyed, and that are believed."""
    whole = run(checkpoint, videos, videos.parent / "whole.parquet").features
    output = videos.parent / "f.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(features_file, "write", _no_space)
        with pytest.raises(OSError, match="full"):
            run(checkpoint, videos, output)
    values = videos.parent / ".f.parquet.partial" / "0.bin"
    content = bytearray(values.read_bytes())
    content[3] ^= 64
    values.write_bytes(content)
    same(run(checkpoint, videos, output).features, whole)


def _no_space(*_: object) -> None:
    raise OSError("the disk is full")


def test_new_and_changed_videos_alone_are_embedded(
    checkpoint: Path, videos: Path, looked: list[str]
) -> None:
    """A folder that grew costs what is new in it; a video that changed is not taken for the old
    one; other settings begin anew."""
    output = videos.parent / "f.parquet"
    first = run(checkpoint, videos, output).features
    (videos / "d.mp4").write_bytes((videos / "a.mp4").read_bytes())
    (videos / "b.mp4").write_bytes((videos / "a.mp4").read_bytes())
    del looked[:]
    second = run(checkpoint, videos, output).features
    assert looked == ["b.mp4", "d.mp4", "page.mp4"]
    assert np.array_equal(second.values[:2], first.values[:2])
    assert np.array_equal(second.values[2:4], first.values[:2])
    del looked[:]
    assert run(checkpoint, videos, output, clips=1).features.values.shape == (4, 32)
    assert len(looked) == 5


def test_videos_are_brought_to_the_rate_that_the_model_saw(
    checkpoint: Path, videos: Path, tmp_path: Path
) -> None:
    """Catches clips of a video's own rate for a model of another: they show half of the time, or
    twice. Old files, which do not say it, are read as before; the user may say otherwise."""
    saved, old = hub.read_saved(checkpoint), hub.load_pretraining(checkpoint)
    slow = tmp_path / "slow.safetensors"
    hub.save(slow, old, saved.run, saved.clip, fps=5.0)
    commands = {
        "none": (checkpoint, [], None, 0.8),
        "seen": (slow, [], 5.0, 1.6),
        "other": (slow, ["--fps", "20"], 20.0, 0.4),
        "own": (slow, ["--own-fps"], None, 0.8),
    }
    for name, (model, said, fps, seconds) in commands.items():
        output = tmp_path / f"{name}.npz"
        arguments = ["embed", str(model), str(videos / "a.mp4"), "-o", str(output), *said]
        assert cli.main([*arguments, "--workers", "0"]) == 0
        features = features_file.read(output)
        assert features.about.settings["decode"]["fps"] == fps
        (start,), (end,) = features.columns["start"], features.columns["end"]
        assert end - start == pytest.approx(seconds)
        if name == "seen":
            alone = hub.load(slow).embed(videos / "a.mp4").numpy()
            np.testing.assert_allclose(alone, features.values, atol=1e-6)
            query = neighbours.by_video(features, videos / "a.mp4", hub.load(slow))
            np.testing.assert_allclose(query.vector, features.values[0], atol=1e-6)


@pytest.mark.parametrize("device", ["mps", "cuda:99", "tpu"])
def test_a_device_that_is_not_here_is_one_line(device: str) -> None:
    """Catches torch's list of all its backends in place of an answer."""
    with pytest.raises(UserError, match=f"device '{device}' cannot be used: ") as caught:
        arguments.device_of(device)
    if device == "mps" and not torch.backends.mps.is_available():
        assert caught.value.problem.endswith("sees none here")
