"""Several lists of clips as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.data.manifest import video_list


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two lists in folders of their own, with one id in common and columns that differ."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "one/a.csv": "id,path,label,split\nx,clips/x.mp4,jump,train\ny,/abs/y.mp4,run,val\n",
        "two/b.csv": 'id,url,person,start\nx,https://example.org/x.mp4,"p, 1",2.5\n',
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_merged_list_has_every_clip_as_it_was(lists: Path) -> None:
    """Catches ids of two lists that are one clip, paths that lead nowhere from the new list's
    folder, columns of the second list that are lost, and clips without a source."""
    assert main(["merge", "a=one/a.csv", "b=two/b.csv", "-o", "both/list.csv"]) == 0
    rows = video_list.read("both/list.csv")
    before = [*video_list.read("one/a.csv"), *video_list.read("two/b.csv")]
    assert [row.id for row in rows] == ["a-x", "a-y", "b-x"]
    for row, old, name in zip(rows, before, "aab", strict=True):
        assert row.extra == {"source": name, "person": old.extra.get("person", "")}
        assert row._replace(id=old.id, extra=old.extra) == old
    assert main(["merge", "a=one/a.csv", "b=two/b.csv", "-o", "list.csv", "--column", "from"]) == 0
    assert {row.extra["from"] for row in video_list.read("list.csv")} == {"a", "b"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one/a.csv"], "'one/a.csv' is not NAME=LIST"),
        (["a b=one/a.csv"], "is not NAME=LIST"),
        (["a=one/a.csv", "a=two/b.csv"], "two lists are called a"),
        (["a=one/a.csv", "b=two/b.csv", "--column", "person"], "a column 'person' already"),
        (["a=one/a.csv", "--column", "label"], "a column 'label' already"),
        (["a" * 160 + "=one/a.csv"], "cannot be used"),
        (["a=one/none.csv"], "no such list"),
    ],
)
def test_what_cannot_be_merged(
    lists: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a list that is written all the same, with columns overwritten or clips confused."""
    assert main(["merge", *arguments, "-o", "list.csv"]) != 0
    assert said in capsys.readouterr().err
    assert not Path("list.csv").exists()
