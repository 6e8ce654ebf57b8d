"""Real videos, good and bad, through all three stages: the good pass whole, the bad are named."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import decord
import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Decode, Params
from pipeline.data.decode import decode_stage
from pipeline.data.decode.transcode import Segment, transcode
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.runtime import ffmpeg

BAD = {
    "audio_only": (Outcome.NO_VIDEO_STREAM, "only audio"),
    "bit_rot": (Outcome.CORRUPT, "damaged picture data"),
    "html_error_page": (Outcome.NOT_A_VIDEO, "a web page"),
    "single_frame": (Outcome.TOO_SHORT, "1 frame, 2 are needed"),
    "truncated_half": (
        Outcome.CORRUPT,
        "cut short: its header promises 10 s (about 300 frames), 96",
    ),
    "truncated_no_moov": (Outcome.CORRUPT, "its index (moov) is missing"),
    "zero_bytes": (Outcome.NOT_A_VIDEO, "an empty file"),
}


def shown(path: Path, log: str) -> tuple[int, float]:
    """Count a video's frames from their time stamps: (last - first) x rate + 1, and the rate."""
    stream = re.search(r"Stream #0:(\d+) -> #0:0", log)
    assert stream
    rate_text = re.search(rf"Stream #0:{stream[1]}\b.* ([\d.]+) tbr", log)
    assert rate_text
    rate = {29.97: 30000 / 1001}.get(float(rate_text[1]), float(rate_text[1]))
    times = [float(time) for time in re.findall(r"pts_time:(-?[\d.]+)", log)]
    return round((max(times) - min(times)) * rate) + 1, rate


@pytest.mark.system
def test_good_videos_keep_their_frames_and_times(
    clips_folder: Path, decode: Decode, tmp_path: Path
) -> None:
    """Would catch an oddity taken for damage, and frames lost or added at the source's rate.

    Two files skip frames (dance_1080p, one_second): at a constant rate the frame before is shown
    again, so that the clip has more frames than the file, and keeps its time.
    """
    videos = sorted((clips_folder / "good").iterdir())
    assert len(videos) == 18
    for video in videos:
        command = [ffmpeg.executable(), "-nostdin", "-i", str(video), "-an", "-sn", "-dn"]
        command += ["-vf", "showinfo", "-fps_mode", "passthrough", "-f", "null", "-"]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        frames, rate = shown(video, log)
        made = transcode(video, tmp_path / "c.mp4", Segment(), decode)
        assert (made.outcome, made.reason) == (Outcome.OK, ""), video.name
        assert made.frames == frames, video.name
        assert made.fps == pytest.approx(rate), video.name
        reader = decord.VideoReader(str(tmp_path / "c.mp4"), num_threads=1)
        assert len(reader) == frames, video.name
        assert reader[frames - 1].shape == (made.height, made.width, 3)
        assert min(made.height, made.width) == decode.short_side


def chain(params: Params, listed: Path) -> dict[str, ClipRecord]:
    data = params.data.model_copy(update={"manifest": str(listed), "chunks": 2})
    params = params.model_copy(update={"data": data})
    manifest_stage.run(params)
    layout, clips = DataLayout(data.name), []
    for chunk in range(2):
        download_stage.run(params, chunk)
        decode_stage.run(params, chunk)
        clips += ChunkManifest.read(layout.decoded(chunk)).clips
    return {clip.id: clip for clip in clips}


@pytest.mark.system
def test_all_clips_end_with_the_right_record(
    clips_folder: Path, composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a bad file that passes, a good one that does not, and a reason for experts."""
    monkeypatch.chdir(tmp_path)
    settings = composed.data.decode.model_copy(update={"fps": None, "preset": "ultrafast"})
    data = composed.data.model_copy(update={"decode": settings})
    clips = chain(composed.model_copy(update={"data": data}), clips_folder / "all.csv")
    assert len(clips) == 25
    for name, clip in clips.items():
        outcome, reason = BAD.get(name.removeprefix("bad_"), (Outcome.OK, ""))
        assert clip.outcome is outcome, (name, clip.reason)
        assert reason in clip.reason, name
        assert str(clips_folder) not in clip.reason


@pytest.mark.system
def test_all_segments_have_their_frames(
    clips_folder: Path, composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a segment that is a frame short, in 150 cuts of seven real videos."""
    monkeypatch.chdir(tmp_path)
    clips = chain(composed, clips_folder / "segments.csv")
    assert {clip.outcome for clip in clips.values()} == {Outcome.OK}
    assert {(clip.frames, clip.fps) for clip in clips.values()} == {(12, 12.0)}
    assert {clip.reason for clip in clips.values()} == {""}
