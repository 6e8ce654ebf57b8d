"""The survey tells what videos are, names what cannot be read, and its proposal composes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.cli.survey import listing, proposal
from pipeline.cli.survey.probing import probe
from pipeline.data.manifest import video_list
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg


def make_video(path: Path, *, size: str = "64x48", rate: int = 10, frames: int = 20) -> Path:
    """Draw a video by ffmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}"]
    command = [ffmpeg.executable(), "-v", "error", "-y", *source, "-frames:v", str(frames)]
    subprocess.run([*command, "-c:v", "libx264", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in two splits, and files that are no videos."""
    folder = tmp_path_factory.mktemp("odd")
    for name in ("train/run/a", "train/run/b", "train/walk/c", "test/walk/d", "test/jump/e"):
        make_video(folder / f"{name}.mp4")
    make_video(folder / "train/walk/one.mp4", frames=1)
    make_video(folder / "train/run/tall.mp4", size="48x96", rate=20, frames=60)
    whole = (folder / "train/run/a.mp4").read_bytes()
    (folder / "train/walk/cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "train/run/empty.mp4").write_bytes(b"")
    (folder / "test/walk/page.webm").write_text("<!doctype html><html></html>", encoding="utf-8")
    (folder / "notes.txt").write_text("nothing", encoding="utf-8")
    return folder


def surveyed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command; return what it prints."""
    assert main(["survey", *arguments]) == 0
    return capsys.readouterr().out


def test_a_folder_with_odd_files_is_told_on_one_screen(
    odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a bad file that ends the survey, or is not counted, and a proposal that fails."""
    page = tmp_path / "survey.html"
    text = surveyed(capsys, str(odd_folder), "-o", str(page))
    assert "10 clips of 10 files (10 probed, 4 unreadable)" in text
    assert text.count("unreadable: ") == 3
    assert "and 1 more" in text
    assert "1 .txt" in text
    assert re.search(r"label, test +2 classes of 1 to 2 clips, .*; 1 are in no .*: jump", text)
    assert len(text.splitlines()) <= 24
    command = next(line for line in text.splitlines() if "pipeline compose" in line)
    overrides = shlex.split(command)[4:]
    params = proposal.composed(overrides)
    assert (params.data.clip.frames, params.data.clip.size) == (16, 48)
    shown = page.read_text(encoding="utf-8")
    assert "empty.mp4" in shown
    assert "http" not in shown


def test_a_list_counts_what_is_elsewhere_and_cuts_segments(
    odd_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a download, a file probed twice, and durations of files in place of segments."""
    video = odd_folder / "train/run/tall.mp4"
    lines = [
        "id,path,url,youtube_id,start,end,label",
        f"a,{video},,,0,1,x",
        f"b,{video},,,2.5,9,y",
        "c,,https://example.org/c.mp4,,,,x",
        "d,,,abcdefghijk,,,y",
        f"e,{tmp_path}/videos.zip!/e.mp4,,,,,y",
    ]
    listed = tmp_path / "mine.csv"
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = surveyed(capsys, str(listed), "-o", str(tmp_path / "survey.html"))
    assert "5 clips of 1 files (1 probed, 0 unreadable)" in text
    for place in ("at an address", "on YouTube", "in an archive"):
        assert f"passed over: 1 clips {place}" in text
    assert re.search(r"seconds of clips +0.5 .* 1\n", text)
    assert "48x96 (1)" in text


def test_nothing_readable_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a quantile of nothing."""
    (tmp_path / "a.mp4").write_bytes(b"no video")
    text = surveyed(capsys, str(tmp_path), "-o", str(tmp_path / "survey.html"))
    assert "1 probed, 1 unreadable" in text
    assert "no proposal" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("missing.csv",), "no such list"),
        ((".",), "no video in this folder"),
        ((".", "--files", "0"), "at least 1"),
    ],
)
def test_what_cannot_be_surveyed_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    problem: str,
) -> None:
    """Catches a traceback."""
    monkeypatch.chdir(tmp_path)
    assert main(["survey", *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_the_sample_does_not_depend_on_the_order_of_the_rows() -> None:
    """Catches a sample of the first files, which are those of one class."""
    values = [{"id": f"c{k}", "path": f"v{k // 2}.mp4"} for k in range(100)]
    rows = list(video_list.from_mappings(values, "test"))
    chosen = listing.sampled(rows, 10)
    assert list(chosen) == list(listing.sampled(rows[::-1], 10))
    assert all(len(each) == 2 for each in chosen.values())
    assert set(chosen) != {Path(f"v{k}.mp4") for k in range(10)}


def test_a_rotated_video_is_told_as_it_is_shown(clips_folder: Path) -> None:
    """Catches the stored size of a video that was taken upright."""
    rotated = [path for path in (clips_folder / "good").iterdir() if "rotat" in path.name]
    for path in rotated:
        found = probe(path)
        assert found.outcome is Outcome.OK
        assert found.height > found.width
    assert rotated


@pytest.mark.parametrize(
    ("seconds", "rate", "side", "expected"),
    [
        (10.0, 30.0, 256, (16, 7, 224, 16, 256)),
        (59 / 15, 15.0, 128, (16, 3, 128, 16, 128)),
        (0.4, 10.0, 64, (4, 1, 64, 8, 64)),
        (2.0, 25.0, 20, (16, 3, 32, 4, 32)),
    ],
)
def test_the_proposal_covers_nine_of_ten_videos(
    seconds: float, rate: float, side: int, expected: tuple[int, ...]
) -> None:
    """Catches a clip that is longer than the videos, or larger than they are."""
    clip = proposal.geometry([seconds] * 5, [rate] * 5, [side] * 5)
    assert (clip.frames, clip.stride, clip.size, clip.tube[1], clip.short_side) == expected
    assert (clip.frames - 1) * clip.stride + 1 <= round(seconds * rate)
    assert clip.rate is None


def test_mixed_rates_are_brought_to_one() -> None:
    """Catches a stride that means another time in each video."""
    clip = proposal.geometry([5.0] * 4, [10.0, 30.0, 30.0, 60.0], [128] * 4)
    assert clip.rate == 30.0
