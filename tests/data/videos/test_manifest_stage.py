"""The list is split into chunks, each clip in one, and little changes when the list grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Data, Params
from pipeline.configuration.stages import restrict
from pipeline.data.manifest import manifest_stage, video_list
from pipeline.errors import UserError
from pipeline.runtime.files import read_json, sha256_file

CHUNKS = 16


@pytest.fixture
def params(composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    return with_data(composed, chunks=CHUNKS)


def with_data(params: Params, **changes: object) -> Params:
    data: Data = params.data.model_copy(update=changes)
    return params.model_copy(update={"data": data})


def write(rows: int, path: str = "list.csv") -> None:
    lines = [f"clip{n},v/{n}.mp4,{n % 3},{'test' if n % 4 == 0 else ''},me" for n in range(rows)]
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("\n".join(["id,path,label,split,who", *lines]) + "\n")


def test_every_clip_is_in_the_chunk_of_its_id_and_nowhere_else(params: Params) -> None:
    """Would catch a lost or doubled clip, a lost column, a wrong count."""
    write(200)
    layout = DataLayout(params.data.name)
    left = layout.manifest.with_name(".manifest.0123abcd.tmp.json")
    left.parent.mkdir(parents=True)
    left.touch()
    manifest_stage.run(params)
    assert not left.exists()
    listed = {row.id: row for row in video_list.read("list.csv", folder="")}
    found = {}
    census = read_json(layout.manifest)
    for chunk in range(CHUNKS):
        rows = video_list.read(layout.chunk_list(chunk), folder="")
        assert len(rows) == census["chunks"][chunk]
        assert all(video_list.chunk_of(row.id, CHUNKS) == chunk for row in rows)
        found |= {row.id: row for row in rows}
    assert found == listed
    assert census["rows"] == 200
    assert census["splits"] == {"test": 50, "train": 150}
    assert census["labels"] == {"label": {"0": 67, "1": 67, "2": 66}, "who": {"me": 200}}
    assert census["source"] == {"file": "list.csv", "sha256": sha256_file("list.csv")}


def test_what_is_probed_is_no_matter_of_this_stage(params: Params) -> None:
    """Would catch a census that depends on data.labels: a change of it would redo all videos."""
    write(20)
    counted = []
    for labels in (("label",), ("who", "gone")):
        asked = with_data(params, labels=labels)
        manifest_stage.run(restrict(asked, "manifest"))
        counted.append(DataLayout(params.data.name).manifest.read_bytes())
        assert not hasattr(restrict(asked, "manifest").data, "labels")
    assert counted[0] == counted[1]


def test_columns_of_too_many_values_are_not_counted(params: Params) -> None:
    """Would catch a census as large as the list, of captions, and one that leaves out classes."""
    most = manifest_stage.CLASSES
    lines = [f"c{n},{n}.mp4,{n % 3},{n % most},{n % (most + 1)}" for n in range(most + 1)]
    Path("list.csv").write_text("\n".join(["id,path,label,class,caption", *lines]) + "\n")
    manifest_stage.run(params)
    labels = read_json(DataLayout(params.data.name).manifest)["labels"]
    assert labels.keys() == {"label", "class"}
    assert sum(labels["label"].values()) == sum(labels["class"].values()) == most + 1
    assert len(labels["class"]) == most


def test_one_more_clip_changes_one_chunk(params: Params) -> None:
    """Would catch writing files that are equal already: all their videos would be redone."""
    write(200)
    manifest_stage.run(params)
    folder = DataLayout(params.data.name).chunk_list(0).parent
    for path in folder.iterdir():
        os.utime(path, ns=(1, 1))
    write(201)
    manifest_stage.run(params)
    changed = {path.stem for path in folder.iterdir() if path.stat().st_mtime_ns != 1}
    assert changed == {str(video_list.chunk_of("clip200", CHUNKS))}


def test_empty_chunks_are_there_and_old_ones_are_not(params: Params) -> None:
    """Would catch a job without its list, and clips of a former split into chunks."""
    write(1)
    manifest_stage.run(params)
    folder = DataLayout(params.data.name).chunk_list(0).parent
    assert {path.name for path in folder.iterdir()} == {f"{n}.csv" for n in range(CHUNKS)}
    manifest_stage.run(with_data(params, chunks=2))
    assert {path.name for path in folder.iterdir()} == {"0.csv", "1.csv"}


def test_paths_start_from_the_list_and_end_up_relative_to_the_project(
    params: Params, tmp_path: Path
) -> None:
    """Would catch paths taken from the working directory, and absolute ones in the project."""
    outside = tmp_path.parent / "elsewhere.mp4"
    Path("lists").mkdir()
    Path("lists/list.csv").write_text(
        f"id,path\na,x/1.mp4\nb,../2.mp4\nc,../../elsewhere.mp4\nd,{outside}\ne,{tmp_path}/5.mp4\n"
    )
    manifest_stage.run(with_data(params, manifest="lists/list.csv", chunks=1))
    rows = video_list.read(DataLayout(params.data.name).chunk_list(0), folder="")
    assert [row.path for row in rows] == [
        "lists/x/1.mp4", "2.mp4", str(outside), str(outside), "5.mp4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,url\na,htp://x/a.mp4\n", "'htp://x/a.mp4' does not begin with http"),
        ("id,synthetic\na,train:0\n", "the configuration has no data.synthetic"),
        ("id,path\n", "no clip"),
    ],
)
def test_a_list_that_cannot_be_used_writes_nothing(text: str, said: str, params: Params) -> None:
    """Would catch chunks of a list that was refused, on which the next stages would work."""
    Path("list.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        manifest_stage.run(params)
    assert not Path("data").exists()
