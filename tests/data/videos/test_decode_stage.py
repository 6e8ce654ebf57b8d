"""Every clip of a chunk ends with a record; what was done is not done again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import decord
import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file
from tests.data.videos.conftest import MakeVideo, number_of

FRAMES = 30


@pytest.fixture
def params(
    composed: Params, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Params:
    """Three good videos, a missing and a damaged one, in one chunk; decoded as they are."""
    monkeypatch.chdir(tmp_path)
    video = make_video("short.mp4", FRAMES, "-g", "5", rate="10")
    for name in ("a", "b", "c"):
        shutil.copy(video, f"{name}.mp4")
    Path("cut.mp4").write_bytes(video.read_bytes()[:-2000])
    Path("list.csv").write_text(
        "id,path,start,end,label\n"
        "a,a.mp4,,,x\nb,b.mp4,1,2,y\nc_0.50,c.mp4,0.5,1.5,\nlost,absent.mp4,,,\ncut,cut.mp4,,,\n"
    )
    settings = composed.data.decode.model_copy(update={"fps": None, "preset": "ultrafast"})
    data = composed.data.model_copy(update={"chunks": 1, "decode": settings})
    return composed.model_copy(update={"data": data})


def records(params: Params) -> dict[str, ClipRecord]:
    clips = ChunkManifest.read(DataLayout(params.data.name).decoded(0)).clips
    return {clip.id: clip for clip in clips}


def run(params: Params) -> dict[str, ClipRecord]:
    manifest_stage.run(params)
    download_stage.run(params, 0)
    decode_stage.run(params, 0)
    return records(params)


def stamps(params: Params) -> dict[str, int]:
    folder = DataLayout(params.data.name).clips(0)
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}


def test_records_say_what_is_there(params: Params) -> None:
    """Would catch a record that disagrees with its file, and a lost clip that vanishes."""
    clips = run(params)
    assert {name: clip.outcome.value for name, clip in clips.items()} == {
        "a": "ok", "b": "ok", "c_0.50": "ok", "lost": "missing", "cut": "corrupt",
    }  # fmt: skip
    assert (clips["lost"].stage, clips["cut"].stage) == ("download", "decode")
    assert not clips["cut"].file
    wanted = {"a": range(30), "b": range(10, 20), "c_0.50": range(5, 15)}
    for name, numbers in wanted.items():
        clip = clips[name]
        assert sha256_file(clip.file) == clip.sha256
        assert Path(clip.file).stat().st_size == clip.bytes
        reader = decord.VideoReader(clip.file, num_threads=1)
        assert [number_of(frame.asnumpy()) for frame in reader] == list(numbers)
        assert (clip.frames, clip.fps, clip.stage) == (len(numbers), 10.0, "")
        side = params.data.decode.short_side
        assert (clip.width, clip.height) == (side, side)
    assert clips["b"].labels == {"label": "y"}
    assert stamps(params).keys() == {"a.mp4", "b.mp4", "c_0.50.mp4"}


def test_a_second_run_does_nothing_and_says_the_same(params: Params) -> None:
    """Would catch decoding again what is there."""
    first, before = run(params), stamps(params)
    assert run(params) == first
    assert stamps(params) == before


def test_a_killed_job_goes_on_and_ends_the_same(params: Params) -> None:
    """Would catch a half-written clip that passes, and one that is lost for good."""
    expected, before = run(params), stamps(params)
    layout = DataLayout(params.data.name)
    journal = layout.clips(0) / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    # As after a kill in the midst of clip b: its line is missing, its temporary file is there;
    # and clip c is shorter than it was.
    kept = [line for line in lines if '"key": "b"' not in line]
    journal.write_text("".join(kept)[:-9])
    (layout.clips(0) / ".b.tmp.mp4").write_bytes(b"half")
    (layout.clips(0) / ".gone.tmp.mp4").write_bytes(b"half")
    left = layout.decoded(0).with_name(".0.0123abcd.tmp.json")
    other = layout.decoded(0).with_name(".10.0123abcd.tmp.json")  # of a job that is at work
    left.touch()
    other.touch()
    (layout.clips(0) / "b.mp4").unlink()
    os.truncate(layout.clips(0) / "c_0.50.mp4", 100)
    layout.decoded(0).unlink()
    decode_stage.run(params, 0)
    assert records(params) == expected
    assert stamps(params)["a.mp4"] == before["a.mp4"]
    assert not list(layout.clips(0).glob(".*"))
    assert (left.exists(), other.exists()) == (False, True)


def test_what_changes_is_decoded_again_and_nothing_else(params: Params) -> None:
    """Would catch clips of former settings, cuts or sources; and needless work."""
    run(params)
    before = stamps(params)
    text = Path("list.csv").read_text()
    Path("list.csv").write_text(text.replace("b.mp4,1,2,y", "b.mp4,1,2.5,z").replace(",x", ",w"))
    clips = run(params)
    assert (clips["b"].frames, clips["a"].labels) == (15, {"label": "w"})
    after = stamps(params)
    assert {name for name in after if after[name] != before[name]} == {"b.mp4"}

    shutil.copy("cut.mp4", "a.mp4")
    clips = run(params)
    assert clips["a"].outcome is Outcome.CORRUPT
    assert stamps(params).keys() == {"b.mp4", "c_0.50.mp4"}

    settings = params.data.decode.model_copy(update={"short_side": 48})
    data = params.data.model_copy(update={"decode": settings})
    clips = run(params.model_copy(update={"data": data}))
    assert {clip.height for clip in clips.values() if clip.outcome is Outcome.OK} == {48}


def test_what_might_go_well_next_time_is_tried_again(params: Params) -> None:
    """Would catch a clip that was once too slow, on a busy machine, being lost for ever."""
    hasty = params.data.decode.model_copy(update={"time_limit_s": 0.001})
    data = params.data.model_copy(update={"decode": hasty})
    clips = run(params.model_copy(update={"data": data}))
    assert clips["a"].outcome is Outcome.TIMED_OUT
    assert run(params)["a"].outcome is Outcome.OK


def test_a_chunk_that_was_not_downloaded_is_the_user_s_to_put_right(params: Params) -> None:
    """Would catch a traceback when the stages are called by hand in the wrong order."""
    with pytest.raises(UserError, match="not downloaded yet"):
        decode_stage.run(params, 0)
