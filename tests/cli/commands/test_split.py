"""A validation split out of the training clips of a list."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.data.manifest import video_list


def write_list(path: Path, *, people: int = 7) -> Path:
    """100 training clips of two labels and some people, two of each video; ten test clips."""
    lines = ["id,path,start,end,label,split,person"]
    for number in range(110):
        label = "rare" if number // 2 % 5 == 0 else "common"
        split = "train" if number < 100 else "test"
        start = 10 * (number % 2)
        video = f"v{number // 2}.mp4"
        person = number % people
        lines.append(f"c{number},{video},{start},{start + 5},{label},{split},p{person}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_label_gives_its_share_and_no_video_is_parted(tmp_path: Path) -> None:
    """Catches a split that forgets a label, leaks a video, or touches the test clips."""
    listed = write_list(tmp_path / "list.csv")
    assert main(["split", str(listed), "--val", "0.2"]) == 0
    rows = video_list.read(tmp_path / "list-val.csv")
    counts = Counter((row.split, row.label) for row in rows)
    assert counts["val", "rare"] == 4
    assert counts["val", "common"] == 16
    assert sum(row.split == "test" for row in rows) == 10
    split_of: dict[str, set[str]] = {}
    for row in rows:
        split_of.setdefault(row.path, set()).add(row.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    before = {row.id: row for row in video_list.read(listed)}
    assert [row.id for row in rows] == list(before)
    assert all(row._replace(split=before[row.id].split) == before[row.id] for row in rows)


def test_a_column_keeps_its_groups_whole(tmp_path: Path) -> None:
    """Catches a person of whom there are clips in both splits."""
    listed = write_list(tmp_path / "list.csv")
    output = tmp_path / "elsewhere" / "by-person.csv"
    assert main(["split", str(listed), "--val", "0.3", "--by", "person", "-o", str(output)]) == 0
    rows = [row for row in video_list.read(output) if row.split != "test"]
    people = {
        split: {row.extra["person"] for row in rows if row.split == split}
        for split in ("train", "val")
    }
    assert not people["train"] & people["val"]
    assert 20 <= sum(row.split == "val" for row in rows) <= 40


def test_equal_lists_give_equal_splits(tmp_path: Path) -> None:
    """Catches a split that depends on the order of the rows."""
    listed = write_list(tmp_path / "list.csv")
    header, *lines = listed.read_text(encoding="utf-8").splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([header, *reversed(lines)]) + "\n", encoding="utf-8")
    chosen = []
    for path in (listed, other):
        assert main(["split", str(path), "--val", "0.15"]) == 0
        rows = video_list.read(path.with_name(f"{path.stem}-val.csv"))
        chosen.append({row.id for row in rows if row.split == "val"})
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--val", "1.5"), "--val is a share"),
        (("--val", "0.2", "--by", "place"), "column 'place' is empty"),
        (("--val", "0.001"), "too few groups"),
    ],
)
def test_what_cannot_be_split_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    """Catches a traceback, or a list without a validation split."""
    listed = write_list(tmp_path / "list.csv")
    assert main(["split", str(listed), *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "list-val.csv").exists()


def test_a_list_is_not_split_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a second validation split beside the first."""
    listed = write_list(tmp_path / "list.csv")
    assert main(["split", str(listed), "--val", "0.2"]) == 0
    assert main(["split", str(tmp_path / "list-val.csv"), "--val", "0.2"]) == 2
    assert "split val already" in capsys.readouterr().err
