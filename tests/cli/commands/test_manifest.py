"""`python -m pipeline manifest NAME` writes lists that the stage of that name reads."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import pytest

from pipeline.cli import main as cli
from pipeline.data.manifest import video_list
from pipeline.data.manifest.video_list import Row
from tests.data.videos.annotations.test_annotations import FILES, write


def command(*arguments: str) -> dict[str, Row]:
    """Run the command; return the rows of the list it wrote, by id."""
    assert cli.main(["manifest", *arguments, "-o", "out/list.csv"]) == 0
    return {row.id: row for row in video_list.read("out/list.csv")}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_youtube_segments_or_files_that_are_cut_already(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Would catch a clip that is cut twice, or a whole video taken for a clip of it."""
    write(Path("ann"), FILES["kinetics400"])
    rows = command("kinetics400", "--annotations", "ann")
    row = rows["-3B32lodo2M_000059_000069"]
    assert (row.source, row.start, row.end) == (("youtube_id", "-3B32lodo2M"), 59.0, 69.0)
    assert row.label == "passing American football (in game)"
    assert "5 clips (test 1, train 2, val 2), 4 labels" in capsys.readouterr().out

    file = Path("videos/passing American football (in game)/-3B32lodo2M_000059_000069.mp4")
    write(file.parent, {file.name: "x"})
    row = command("kinetics400", "--annotations", "ann", "--videos", "videos")[row.id]
    assert (row.path, row.start, row.end) == (file.as_posix(), None, None)

    row = command("kinetics400", "--annotations", "ann", "--videos", "https://h/k400/")[row.id]
    assert row.url == "https://h/k400/train/-3B32lodo2M_000059_000069.mp4"

    asked = ["--videos", "s3://b", "--file", "{youtube_id}.mp4", "--splits", "train=train,val=test"]
    rows = command("kinetics400", "--annotations", "ann", *asked)
    row = rows[row.id]
    assert (row.url, row.start, row.end) == ("s3://b/-3B32lodo2M.mp4", 59.0, 69.0)
    assert Counter(row.split for row in rows.values()) == {"train": 2, "test": 2}


def test_members_of_archives() -> None:
    """Would catch an archive's name taken for a folder, or a path that starts elsewhere."""
    write(Path("ann"), FILES["ssv2"])
    parts = "ssv2/20bn-something-something-v2-{00..01}!/20bn-something-something-v2"
    rows = command("ssv2", "--annotations", "ann", "--videos", parts)
    assert rows["78687"].path == f"{parts}/78687.webm"
    write(Path("hmdb"), FILES["hmdb51"])
    asked = ["--videos", "h.rar!", "--file", "{label}.rar!/{label}/{name}"]
    rows = command("hmdb51", "--annotations", "hmdb", *asked)
    name = "April_09_brush_hair_u_nm_np1_ba_goo_0"
    assert rows[f"brush_hair-{name}"].path == f"h.rar!/brush_hair.rar!/brush_hair/{name}.avi"


def test_held_out_videos_are_whole_groups_and_always_the_same() -> None:
    """Would catch segments of one video on both sides, and another choice on another day."""
    lines = [f"x,{n % 40:011d},{n},{n + 1},train" for n in range(400)]
    header = "label,youtube_id,time_start,time_end,split"
    write(Path("ann"), {"train.csv": "\n".join([header, *lines]) + "\n"})
    asked = ("kinetics400", "--annotations", "ann", "--hold-out")
    rows = command(*asked, "0.25")
    sides: dict[str, set[str]] = {}
    for row in rows.values():
        sides.setdefault(row.youtube_id, set()).add(row.split)
    assert all(len(side) == 1 for side in sides.values())
    held = {video for video, side in sides.items() if side == {"val"}}
    assert 4 <= len(held) <= 17
    assert rows == command(*asked, "0.25")
    more = {row.youtube_id for row in command(*asked, "0.5").values() if row.split == "val"}
    assert held < more


def test_folders_and_lists_need_no_second_folder() -> None:
    """Would catch paths that are relative to another folder than the list."""
    write(Path("mine"), {"jump/a.mp4": "x", "test/run/b.mp4": "x", "test/jump/c.mp4": "x"})
    rows = command("folder", "--annotations", "mine")
    found = {(row.path, row.label, row.split) for row in rows.values()}
    assert found == {
        ("mine/jump/a.mp4", "jump", "train"),
        ("mine/test/run/b.mp4", "run", "test"),
        ("mine/test/jump/c.mp4", "jump", "test"),
    }
    write(Path("lists"), FILES["path-label"])
    paths = {row.path for row in command("path-label", "--annotations", "lists").values()}
    assert paths == {
        "/data/k400/train/abseiling/a b.mp4", "lists/rel/x.mp4", "/data/k400/val/y.mp4",
        "lists/z.mp4",
    }  # fmt: skip


def test_a_list_of_one_s_own_is_taken_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches `no such folder` for what the docs offer, paths that start elsewhere, an address
    without its password in the user's own list, and columns that are lost."""
    write(Path("mine"), {"l.csv": (
        "id,path,url,start,end,label,split,note\na,v/a.mp4,,1,2.5,jump,,x\n"
        "b,,https://u:p@h/b.mp4?token=t,,,run,test,\nc,/v/c.mp4,,,,run,val,\n"
    )})  # fmt: skip
    rows = command("folder", "--annotations", "mine/l.csv", "--splits", "train=train,val=test")
    assert {(row.id, row.split) for row in rows.values()} == {("a", "train"), ("c", "test")}
    rows = command("folder", "--annotations", "mine/l.csv", "--hold-out", "0.999")
    a, b, c = rows["a"], rows["b"], rows["c"]
    assert (a.path, a.start, a.end, a.label, a.split) == ("mine/v/a.mp4", 1.0, 2.5, "jump", "val")
    assert (b.url, b.split) == ("https://u:p@h/b.mp4?token=t", "test")
    assert (a.extra, c.path) == ({"note": "x"}, "/v/c.mp4")
    said = capsys.readouterr().out
    assert "3 clips (test 1, val 2), 2 labels (run, jump)" in said
    after = said.rpartition("next: python -m pipeline ")[2]
    assert cli.main(shlex.split(after)) == 0, "the command that is said to come next"
    assert capsys.readouterr().err.startswith("warning: there is no project here")

    write(Path("mine"), {"p.csv": "path,label\nv/a.mp4,jump\nhttps://h/b.mp4,jump\n"})
    assert cli.main(["manifest", "folder", "--annotations", "mine/p.csv"]) == 2
    assert "manifest path-label --annotations mine/p.csv" in capsys.readouterr().err
    rows = command("path-label", "--annotations", "mine/p.csv")
    sources = {row.source for row in rows.values()}
    assert sources == {("path", "mine/v/a.mp4"), ("url", "https://h/b.mp4")}
    assert "one label only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["imagenet", "--annotations", "."], "there is no data set 'imagenet'"),
        (["ucf101"], "--annotations is missing"),
        (["ssv2", "--annotations", "ann"], "--videos is missing"),
        (["ssv2", "--annotations", "ann", "--fold", "2"], "has no split 2"),
        (["ssv2", "--annotations", "ann", "--splits", "dev=val"], "'dev=val' is not FROM=TO"),
        (["ssv2", "--annotations", "ann", "--videos", "ann"], "none of the first 4 clips' files"),
        (["ssv2", "--annotations", "ann", "--videos", "x", "--file", "{nam}"], "cannot be filled"),
        (["ssv2", "--annotations", "no"], "no such folder of annotations"),
        (["gym99", "--annotations", "gym"], "do not say from when to when"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a traceback, or a list that was written all the same."""
    write(Path("ann"), FILES["ssv2"])
    gym = {name: text for name, text in FILES["gym99"].items() if "info" not in name}
    write(Path("gym"), gym)
    assert cli.main(["manifest", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not Path("manifests").exists()
