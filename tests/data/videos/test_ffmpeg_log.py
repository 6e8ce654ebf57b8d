"""What first bytes and ffmpeg's log say of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.decode.ffmpeg_log import FfmpegLog
from pipeline.data.decode.file_type import not_a_video


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"\xef\xbb\xbf\r\n  <html lang='en'>\x00", "a web page"),
        (b"<!-- made by --><html>", "a web page"),
        (b'{"error": "quota exceeded"}', "a text file"),
        ("schöne Grüße".encode(), "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a text file"),
        (b"#EXTM3U\n#EXTINF:1,\nsecret.mp4\n", "a text file"),
        (b"PK\x03\x04\x14\x00", "a zip archive"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a picture"),
    ],
)
def test_what_is_often_saved_as_a_video_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    """Would catch an error page, a pointer file or an archive passing for a damaged video."""
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert said in not_a_video(path)


@pytest.mark.parametrize(
    "start",
    [
        b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00",
        b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81",
        b"RIFF\x24\x00\x00\x00AVI LIST",
        b"OggS\x00\x02\x00",
        b"FLV\x01\x05\x00\x00\x00\x09",
        b"G@\x00\x10\x00\x00\xb0\x0d",
        b"\x00\x00\x01\xba\x44\x00",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        b"YUV4MPEG2 W64 H64 F25:1\nFRAME\n",
    ],
)
def test_no_video_is_taken_for_something_else(start: bytes, tmp_path: Path) -> None:
    """Would catch a signature that also fits a container of videos."""
    path = tmp_path / "a.bin"
    path.write_bytes(start)
    assert not_a_video(path) == ""


def test_all_real_videos_pass_and_the_false_ones_do_not(clips_folder: Path) -> None:
    """Would catch both on files as users have them."""
    assert {path.name: not_a_video(path) for path in (clips_folder / "good").iterdir()} == {
        path.name: "" for path in (clips_folder / "good").iterdir()
    }
    assert "empty" in not_a_video(clips_folder / "bad" / "zero_bytes.mp4")
    assert "web page" in not_a_video(clips_folder / "bad" / "html_error_page.mp4")


pieces = st.sampled_from(
    [
        "[info] ", "[error] ", "[warning] ", "  Stream #0:", "0 -> #0:0", "99999999999999999999",
        ": Video: ", "  Duration: ", "N/A", "00:00:1e9", "fps=0/0", "fps=1/0", "1x1 ", "\0",
        "[Parsed_fps_1 @ 0x1] ", "Input stream #0:0 (video): ", " packets read ; ",
    ]
)  # fmt: skip


@given(lines=st.lists(st.lists(pieces | st.text(max_size=8), max_size=6).map("".join)))
def test_no_log_makes_the_listener_fail(lines: list[str]) -> None:
    """Would catch a crash on a log that is unlike the usual: file names and tags are in it."""
    log = FfmpegLog()
    for line in lines:
        log.read_line(line)
    assert log.kinds is not None
    assert log.source_rate is None or log.source_rate >= 0


def test_names_and_tags_in_the_log_are_not_taken_for_facts() -> None:
    """Would catch a file that is called corrupt because of its name or its title."""
    log = FfmpegLog()
    for line in (
        "[info] Input #0, mov, from 'file:partial file/corrupt decoded frame':",
        "[info]     title           : [error] offset 0x1: partial file",
        "[info]                     : Input stream #0:0 (video): 9 packets read (1 bytes); "
        "9 frames decoded; 9 decode errors; ",
        "[in#0 @ 0x1] [verbose] Input file #0 (file:[warning] corrupt decoded frame):",
    ):
        log.read_line(line)
    assert log.opened
    assert not log.cut_short
    assert log.damaged == log.decoded == 0
