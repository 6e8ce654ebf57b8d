"""Lists of others, and folders that hold one: read as they are meant, or refused by line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.data.manifest import folders
from pipeline.data.manifest.annotations import DATA_SETS
from pipeline.errors import UserError
from tests.data.videos.annotations.test_annotations import write

READ = {  # a list -> paths and labels
    "v/a.mp4 3\nv/b c.mp4 7\n": [("v/a.mp4", "3"), ("v/b c.mp4", "7")],
    "v/a.mp4\t3\nmy video 5\t7\n": [("v/a.mp4", "3"), ("my video 5", "7")],
    "v/a.mp4;3\r\nv/b, c.mp4; 7\r\n": [("v/a.mp4", "3"), ("v/b, c.mp4", "7")],
    '"v/a b.mp4" 3\n"my video 5", 7\n': [("v/a b.mp4", "3"), ("my video 5", "7")],
    "v/a.mp4 0 -1\nv/b c.mp4 0 -1\n": [("v/a.mp4", ""), ("v/b c.mp4", "")],
    "v/a.mp4,0,-1\n": [("v/a.mp4", "")],
    "v/a.mp4 -1\nv/b.mp4 0\n": [("v/a.mp4", ""), ("v/b.mp4", "0")],
    "v/take 2 3.mp4 4\n": [("v/take 2 3.mp4", "4")],
    "clip_7 4\n": [("clip_7", "4")],
    "path,label\nv/a.mp4,jump high\nv/b.mp4,run\n": [("v/a.mp4", "jump high"), ("v/b.mp4", "run")],
    "video label\nv/a.mp4 3\n": [("v/a.mp4", "3")],
    "\ufeffpath,frames,label\nv/a.mp4,100,3\n": [("v/a.mp4", "3")],
    'label\tfile_name\njump\t"v/a b.mp4"\n': [("v/a b.mp4", "jump")],
}
REFUSED = {  # a list -> the line that is named, and what is said
    "v/a.mp4 100 3\nv/b.mp4 97 7\n": (1, "2 numbers after the path (so have 1 further line)"),
    "v/a.mp4 10 100\n": (1, "look alike"),
    "v/a.mp4,100,3\n": (1, "look alike"),
    "v/a.mp4\t100\t3\n": (1, "look alike"),
    '"v/a b.mp4" 100 3\n': (1, "look alike"),
    "v/a.mp4 1 3 5\n": (1, "3 numbers after the path"),
    "frames/a 0 120\nframes/b 0 96\n": (1, "folders of frames are not read"),
    "v/a.mp4 3\nv/b.mp4 100 3\n": (2, "another number of columns"),
    "v/a.mp4 0 -1\nv/b.mp4 3\n": (2, "another number of columns"),
    "v/a.mp4 0 -1\nv/b.mp4 30 -1\n": (2, "look alike"),
    "v/a.mp4 3\nv/b.mp4 jump 3\n": (2, "is not `path label`"),
    "v/a.mp4 0.5 3\n": (1, "is not `path label`"),
    "frames/a 0.5 3\n": (1, "is not `path label`"),
    '"v/a b.mp4" jump 3\n': (1, "is not `path label`"),
    "v/a.mp4 -2\n": (1, "label -2"),
    "v/a.mp4\n": (1, "is not `path label`"),
    "v/a.mp4 3.0\n": (1, "is not `path label`"),
    "path,start,count\nv/a.mp4,0,3\n": (1, "'start': a part of a video is"),
    "path,frames\nv/a.mp4,3\n": (1, "has no one label"),
    "path,label,class\nv/a.mp4,3,4\n": (1, "has no one label"),
    "path,label\nv/a.mp4,3\nv/b.mp4,3,4\n": (3, "has 3 fields where the header has 2"),
    "path,label,split\nv/a.mp4,3,dev\n": (2, "split 'dev'"),
    "path,label\n,3\n": (2, "has no path"),
}


def read(name: str, folder: Path) -> list[tuple[str, str]]:
    return [(clip.name, clip.label) for clip in DATA_SETS[name].read(folder, 1)]


@pytest.mark.parametrize("text", READ)
def test_lists_of_others_are_read_as_they_are_meant(text: str, tmp_path: Path) -> None:
    """Catches a path that takes a number along, a header taken for a video, and a label that is a
    number of frames."""
    write(tmp_path, {"train.csv": text})
    assert read("path-label", tmp_path) == READ[text]
    assert read("path-label", tmp_path / "train.csv") == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_lists_whose_label_cannot_be_told_are_refused(text: str, tmp_path: Path) -> None:
    """Catches an exit status of 0 for a list that was not understood, and an error that floods the
    screen or names no line."""
    number, said = REFUSED[text]
    write(tmp_path, {"train.csv": text * 40 if text.count("\n") == 1 else text})
    with pytest.raises(UserError) as caught:
        read("path-label", tmp_path)
    message = str(caught.value)
    assert re.search(rf"train\.csv, line {number}: ", message)
    assert said.split(" (so")[0] in message
    assert len(message.splitlines()) < 24


def test_one_file_names_its_split_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    """Catches `no such folder` for a file that is there, and test clips that become training's."""
    write(tmp_path, {"my_val_list.txt": "a.mp4 3\n", "classInd.txt": "1 Jump\n"})
    (clip,) = DATA_SETS["path-label"].read(tmp_path / "my_val_list.txt", 1)
    assert clip.split == "val"
    for name, file in (("ucf101", "my_val_list.txt"), ("ssv2", "my_val_list.txt")):
        with pytest.raises(UserError, match="this is a file; the folder that has") as caught:
            list(DATA_SETS[name].read(tmp_path / file, 1))
        assert file in caught.value.place


CAMERAS = (
    "mp4 MOV MTS m2ts vob asf mpg MOD TOD M2T 3g2 f4v divx qt dv mxf mk3d m1v webm AVI".split()  # noqa: SIM905
)


def test_what_cameras_write_is_taken_and_the_rest_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a suffix that one command takes and another passes over in silence, hidden files
    taken for videos, and two videos of one name of which one is lost."""
    names = [f"jump/{n}.{suffix}" for n, suffix in enumerate(CAMERAS)]
    names += ["run/a.mp4", "run/a.MOV"]
    other = ["run/a.THM", "run/b.thm", "notes.txt", "run/README", "run/.b.mp4", "run/._a.mp4"]
    write(tmp_path, dict.fromkeys([*names, *other], "x"))
    clips = list(DATA_SETS["folder"].read(tmp_path, 1))
    assert sorted(clip.name for clip in clips) == sorted(names)
    assert len({clip.id for clip in clips}) == len(names)
    said = capsys.readouterr().out
    assert "2 .thm" in said
    assert "1 .txt" in said
    assert "1 without suffix" in said
    found = folders.videos_in(tmp_path)
    assert len(found.videos) == len(names)
    assert len(found.others) == 4


LISTS = {
    "list.csv": "id,path,label\na,clips/a.mp4,jump\n",
    "clips/list.csv": "id,url\na,https://h/a.mp4\n",
    "labels.csv": "path,label\nclips/a.mp4,jump\n",
    "train.csv": "clips/a.mp4 3\nclips/b.mp4 4\n",
    "train.txt": "clips/a.mp4 100 3\n",
    "list.tsv": "file_name\tclass\na.mp4\tjump\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_folder_with_a_list_is_no_folder_of_classes(name: str, tmp_path: Path) -> None:
    """Catches clips that are labelled `clips` and `raw`, beside a list that has their labels."""
    write(tmp_path, {"clips/a.mp4": "x", "raw/a.mp4": "x", name: LISTS[name]})
    with pytest.raises(UserError, match=r"there is a list of videos .*\(clips, raw\)") as caught:
        list(DATA_SETS["folder"].read(tmp_path, 1))
    assert caught.value.place == str(tmp_path / name)
    assert str(tmp_path / name) in caught.value.remedy


def test_other_texts_and_a_list_that_says_the_same_do_no_harm(tmp_path: Path) -> None:
    """Catches a refusal for notes, subtitles and measurements, or on the second call."""
    write(tmp_path, {
        "jump/a.mp4": "x", "run/b.mp4": "x", "README.txt": "Videos of b.mp4\nand a.mp4 3\n",
        "jump/a.txt": "1\n00:00 --> 00:01\nhello\n", "speed.csv": "t,v\n1,2\n", "empty.csv": "",
        "list.csv": "id,path,label,split\na,jump/a.mp4,jump,val\nb,run/b.mp4,run,\n",
        "bytes.csv": "\x00\n",
    })  # fmt: skip
    assert read("folder", tmp_path) == [("jump/a.mp4", "jump"), ("run/b.mp4", "run")]
    write(tmp_path, {"list.csv": "id,path,label\na,jump/a.mp4,high\n"})
    with pytest.raises(UserError, match="there is a list"):
        read("folder", tmp_path)
