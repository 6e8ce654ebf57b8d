"""Which videos are meant, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.data.decode.transcode import Segment
from pipeline.errors import UserError
from pipeline.use.embedding.videos import video_sources


def test_folders_files_and_lists(tmp_path: Path) -> None:
    """Catches hidden files and notes that are taken for videos, segments and labels that are lost,
    and names that depend on the order of a directory."""
    for name in ("b.mkv", "a.MP4", "deep/c.webm", ".hidden.mp4", "notes.txt", "deep/.x/d.mp4"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = video_sources([str(tmp_path / "folder")])
    assert [video.id for video in found] == ["a.MP4", "b.mkv", "deep/c.webm"]
    (tmp_path / "list.csv").write_text(
        "id,path,start,end,label,split\nx,folder/b.mkv,1,2.5,run,val\n"
    )
    row = video_sources([str(tmp_path / "list.csv")])[0]
    assert row.path == tmp_path / "folder/b.mkv"
    assert (row.id, row.segment, row.label, row.split) == ("x", Segment(1.0, 2.5), "run", "val")
    assert video_sources(["no/such.video"])[0].id == "such.video"  # lost later, with its reason


def test_equal_names_stay_apart(tmp_path: Path) -> None:
    """Catches two videos of one name of which one takes the other's place."""
    found = video_sources(["one/a.mp4", "two/a.mp4", "b.mp4"])
    assert [video.id for video in found] == ["one/a.mp4", "two/a.mp4", "b.mp4"]
    with pytest.raises(UserError, match="twice"):
        video_sources(["a.mp4", "a.mp4"])


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    """Catches an empty output without a word, and addresses that are passed over."""
    with pytest.raises(UserError, match="no video"):
        video_sources([str(tmp_path)])
    (tmp_path / "list.csv").write_text("id,url\nx,https://example.org/a.mp4\n")
    with pytest.raises(UserError, match="no local file"):
        video_sources([str(tmp_path / "list.csv")])


def test_a_slip_of_the_hand_leaves_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches features of hours that a misspelt folder replaces by an empty file."""
    monkeypatch.chdir(tmp_path)
    Path("features.parquet").write_bytes(b"of before")
    assert main(["embed", "model.safetensors", "mz_videos", "-o", "features.parquet"]) == 2
    assert "no such file or folder\n  where:  mz_videos" in capsys.readouterr().err
    assert Path("features.parquet").read_bytes() == b"of before"
