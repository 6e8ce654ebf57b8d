"""What the machine does to ffmpeg is no fault of a video."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Decode, Params
from pipeline.data.decode import decode_stage
from pipeline.data.decode.transcode import Segment, transcode
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError
from pipeline.runtime import ffmpeg
from tests.data.videos.conftest import MakeVideo

WHOLE = Segment()


@pytest.fixture
def end_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """A function that has the first runs of ffmpeg end by a signal, and lets it run after these."""
    real = shlex.quote(ffmpeg.executable())

    def end(signal: str, times: int) -> None:
        count = tmp_path / f"runs-{signal}"
        count.unlink(missing_ok=True)
        script = tmp_path / f"ffmpeg-{signal}"
        # In real time, so that it is still at work when the signal comes.
        script.write_text(
            f"#!/bin/sh\necho >> {count}\n"
            f'[ $(wc -l < {count}) -gt {times} ] && exec {real} "$@"\n'
            f'{real} -re "$@" & child=$!\n'
            f"(sleep 0.7; kill -s {signal} $child) & wait $child; status=$?\n"
            # As a process that was killed itself, not as a shell whose child was.
            f"[ $status -gt 128 ] && [ $status -lt 160 ] && kill -s {signal} $$\nexit $status\n"
        )
        script.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "executable", lambda: str(script))

    return end


@pytest.mark.parametrize("signal", ["KILL", "TERM", "XCPU", "XFSZ", "BUS"])
def test_an_ffmpeg_that_something_else_ended_is_tried_again(
    signal: str,
    end_ffmpeg: Callable[[str, int], None],
    make_video: MakeVideo,
    decode: Decode,
    tmp_path: Path,
) -> None:
    """Catches a good video that is `corrupt`, or too short, for ever, since memory ran out once."""
    source = make_video("r25.mp4", 100, "-g", "30")
    end_ffmpeg(signal, 1)
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    assert (made.outcome, made.frames) == (Outcome.OK, 100), made


def test_one_that_is_always_ended_has_failed_for_now_and_a_crash_is_damage(
    end_ffmpeg: Callable[[str, int], None], make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Catches an endless repetition, and a decoder that crashes being tried for ever."""
    source = make_video("r25.mp4", 100, "-g", "30")
    end_ffmpeg("KILL", 2)
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    assert made.outcome is Outcome.FAILED
    assert "SIGKILL" in made.reason
    assert made.outcome in decode_stage.TRANSIENT, "the next run tries it again"
    end_ffmpeg("SEGV", 1)
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    assert (made.outcome, made.reason) == (Outcome.CORRUPT, "the decoder crashed (SIGSEGV)")


def test_a_full_disk_ends_the_job_and_is_noted_of_no_clip(
    make_video: MakeVideo, composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches good clips that are `failed`, and never tried again, since the disk was full."""
    monkeypatch.chdir(tmp_path)
    layout = DataLayout(composed.data.name)
    source = make_video("r25.mp4", 100, "-g", "30")
    clip = ClipRecord(id="a", outcome=Outcome.OK, file=str(source), sha256="0" * 64, bytes=1)
    ChunkManifest(stage="download", chunk=0, clips=[clip]).write(layout.downloaded(0))
    layout.clips(0).mkdir(parents=True)
    (layout.clips(0) / ".a.tmp.mp4").symlink_to("/dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(decode_stage, "remove_leftovers", lambda *_: None)
        with pytest.raises(UserError, match="the disk is full"):
            decode_stage.run(composed, 0)
    assert not layout.decoded(0).exists()
    assert not (layout.clips(0) / "journal.jsonl").read_text().strip()
    decode_stage.run(composed, 0)
    assert json.loads(layout.decoded(0).read_text())["counts"] == {"ok": 1}


@pytest.mark.parametrize(("suffix", "delay_s"), [("gif", 655), ("mkv", 36000)])
def test_a_small_file_does_not_become_hours_of_frames(
    suffix: str, delay_s: int, make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Catches a GIF of two kilobytes that takes the job's time limit, on every run."""
    late = f"settb=1/100,setpts=N*{delay_s}/TB"
    options = ("-vf", late, "-fps_mode", "passthrough", "-enc_time_base", "1/100")
    source = make_video(f"slow.{suffix}", 5, *options)
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    assert (made.outcome, "stand still" in made.reason) == (Outcome.CORRUPT, True), made
    made = transcode(source, tmp_path / "c.mp4", Segment(10, 11), decode)
    assert made.outcome is Outcome.OK, "what is asked for is little"
