"""Sources are fetched once, kept, and fetched again only when they change."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.records import ChunkManifest, ClipRecord, Outcome
from pipeline.videos import download_stage, manifest_stage, web
from tests.videos.server import BadServer

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 50
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def params(composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.02)
    data = composed.data.model_copy(update={"chunks": 1})
    return composed.model_copy(update={"data": data})


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running


def stage(params: Params, *lines: str) -> dict[str, ClipRecord]:
    """Run the stages on a list; return the records by id."""
    Path("list.csv").write_text("\n".join(lines) + "\n")
    manifest_stage.run(params)
    download_stage.run(params, 0)
    clips = ChunkManifest.read(DataLayout(params.data.name).downloaded(0)).clips
    return {clip.id: clip for clip in clips}


def test_local_files_stay_where_they_are_and_bad_ones_are_named(params: Params) -> None:
    """Would catch a copy, a missing hash, and a missing file that stops the job."""
    Path("v").mkdir()
    Path("v/good.mp4").write_bytes(BODY)
    Path("v/empty.mp4").touch()
    Path("v/page.mp4").write_text("<html>404</html>")
    clips = stage(
        params,
        "id,path,sha256,label,start,end,note,split",
        f"good,v/good.mp4,{SHA256},walk,0.5,2,by hand,val",
        f"other,v/good.mp4,{'0' * 64},,,,,",
        "empty,v/empty.mp4,,,,,,",
        "page,v/page.mp4,,,,,,",
        "absent,v/absent.mp4,,,,,,",
        "folder,v,,,,,,",
    )
    assert clips["good"] == ClipRecord(
        id="good",
        outcome=Outcome.OK,
        file="v/good.mp4",
        sha256=SHA256,
        bytes=len(BODY),
        split="val",
        labels={"label": "walk", "note": "by hand"},
        source="v/good.mp4",
        start=0.5,
        end=2.0,
    )
    lost = {name: clip.outcome for name, clip in clips.items() if name != "good"}
    assert lost == {
        "other": Outcome.HASH_MISMATCH,
        "empty": Outcome.NOT_A_VIDEO,
        "page": Outcome.NOT_A_VIDEO,
        "absent": Outcome.MISSING,
        "folder": Outcome.NOT_A_VIDEO,
    }
    assert all(clips[name].stage == "download" and clips[name].reason for name in lost)
    assert not list(Path("downloads").rglob("*.mp4"))


def test_a_local_file_that_changes_gets_a_new_hash(params: Params) -> None:
    """Would catch a hash from the journal for a file that is another by now."""
    path, lines = Path("a.mp4"), ("id,path", "a,a.mp4")
    path.write_bytes(BODY)
    assert stage(params, *lines)["a"].sha256 == SHA256
    time.sleep(0.01)
    changed = BODY[:-1] + b"\0"
    path.write_bytes(changed)
    assert stage(params, *lines)["a"].sha256 == hashlib.sha256(changed).hexdigest()


def test_segments_of_one_address_are_one_download(params: Params, server: BadServer) -> None:
    """Would catch fetching a video once for each of its segments, or again on the next run."""
    server.answers["/v/Talk%20one.MP4"] = lambda handler, n: handler.file(BODY)
    url = server.url("/v/Talk%20one.MP4")
    lines = ("id,url,start,end", f"a,{url},0,1", f"b,{url},1,2")
    for _ in range(2):
        clips = stage(params, *lines)
        assert clips["a"].file == clips["b"].file
        assert clips["a"].outcome is clips["b"].outcome is Outcome.OK
        assert server.requests.total() == 1
    name = Path(clips["a"].file).name
    assert name.startswith("Talk_one-")
    assert name.endswith(".mp4")
    assert Path(clips["a"].file).read_bytes() == BODY


def test_what_is_gone_or_promised_otherwise_is_fetched_again(
    params: Params, server: BadServer
) -> None:
    """Would catch a journal that is believed against the disk and against the list."""
    bodies = [BODY, BODY + b"2", BODY + b"3"]
    server.answers["/a"] = lambda handler, n: handler.file(bodies[n - 1], etag=f'"{n}"')
    first = stage(params, "id,url", f"a,{server.url('/a')}")["a"]
    Path(first.file).unlink()
    second = stage(params, "id,url", f"a,{server.url('/a')}")["a"]
    assert second.sha256 == hashlib.sha256(bodies[1]).hexdigest()
    promise = hashlib.sha256(bodies[2]).hexdigest()
    third = stage(params, "id,url,sha256", f"a,{server.url('/a')},{promise}")["a"]
    assert (third.outcome, third.sha256) == (Outcome.OK, promise)
    assert server.requests["/a"] == 3


def test_a_bad_server_loses_its_own_clips_only(params: Params, server: BadServer) -> None:
    """Would catch one refusal ending the job; and lost clips that are never tried again."""
    server.answers["/good"] = lambda handler, n: handler.file(BODY)
    server.answers["/late"] = lambda handler, n: (
        handler.reply(404) if n == 1 else handler.file(BODY)
    )
    lines = [f"{name},{server.url('/' + name)}" for name in ("good", "late")]
    clips = stage(params, "id,url", *lines)
    assert [clip.outcome for clip in clips.values()] == [Outcome.OK, Outcome.MISSING]
    clips = stage(params, "id,url", *lines)
    assert [clip.outcome for clip in clips.values()] == [Outcome.OK, Outcome.OK]
    assert server.requests == {"/good": 1, "/late": 2}


def test_a_chunk_without_clips_has_a_manifest(params: Params) -> None:
    """Would catch an empty chunk failing: with few videos and many chunks there are some."""
    data = params.data.model_copy(update={"chunks": 50})
    Path("list.csv").write_text("id,path\na,a.mp4\n")
    many = params.model_copy(update={"data": data})
    manifest_stage.run(many)
    layout = DataLayout(data.name)
    for chunk in range(50):
        download_stage.run(many, chunk)
    counts = [len(ChunkManifest.read(layout.downloaded(chunk)).clips) for chunk in range(50)]
    assert sum(counts) == 1


def test_a_chunk_without_a_list_is_the_user_s_to_put_right(params: Params) -> None:
    """Would catch a traceback when the stages are called by hand in the wrong order."""
    with pytest.raises(UserError, match="no list of this chunk"):
        download_stage.run(params, 0)
