"""Sources are fetched once, kept, and fetched again only when they change."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.fetch import download_stage, web
from pipeline.data.manifest import manifest_stage
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError
from pipeline.runtime import claims
from tests.data.videos.conftest import MakeVideo
from tests.data.videos.server import SETTINGS, YOUTUBE, BadServer, Handler
from tests.data.videos.trials import stage

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 50
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def params(composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(claims, "POLL_S", 0.05)
    data = composed.data.model_copy(update={"chunks": 1})
    return composed.model_copy(update={"data": data})


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running


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


def chunked(params: Params, chunks: int, *lines: str) -> Params:
    """Split a list into chunks; return the settings with which its chunks are downloaded."""
    Path("list.csv").write_text("\n".join(lines) + "\n")
    many = params.model_copy(update={"data": params.data.model_copy(update={"chunks": chunks})})
    manifest_stage.run(many)
    return many


def download_all(params: Params, jobs: int) -> dict[str, ClipRecord]:
    """Run the chunks in processes of their own, `jobs` at a time; return all records by id."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        chunks = range(params.data.chunks)
        list(pool.map(download_stage.run, [params] * len(chunks), chunks))
    layout = DataLayout(params.data.name)
    records = [ChunkManifest.read(layout.downloaded(chunk)).clips for chunk in chunks]
    return {clip.id: clip for clips in records for clip in clips}


def test_one_address_in_many_chunks_is_one_download(params: Params, server: BadServer) -> None:
    """Would catch a video fetched once for each chunk that has a segment of it, by any job."""

    def slow(handler: Handler, number: int) -> None:
        time.sleep(0.5)
        handler.file(BODY)

    server.answers["/talk.mp4"] = slow
    lines = [f"s{n},{server.url('/talk.mp4')},{n},{n + 1}" for n in range(24)]
    many = chunked(params, 6, "id,url,start,end", *lines)
    clips = download_all(many, jobs=6)
    assert {clip.outcome for clip in clips.values()} == {Outcome.OK}
    assert len({clip.file for clip in clips.values()}) == 1
    assert len(clips) == 24
    assert server.requests == {"/talk.mp4": 1}
    # Another number of chunks is no reason to fetch anything again.
    clips = download_all(chunked(params, 3, "id,url,start,end", *lines), jobs=1)
    assert {clip.sha256 for clip in clips.values()} == {SHA256}
    assert server.requests == {"/talk.mp4": 1}
    assert not [path for path in Path("downloads").rglob("*") if "claim" in path.name]


def test_a_killed_job_s_download_is_taken_over_by_another(
    params: Params, server: BadServer
) -> None:
    """Would catch waiting for a dead job, starting from nothing, and a file glued wrongly."""

    def answer(handler: Handler, number: int) -> None:
        if number > 1:
            handler.file(BODY)
            return
        handler.reply(200, BODY, send=10_000, etag='"v1"')  # more than is kept in memory
        killed.wait(120)

    killed = threading.Event()
    server.answers["/a.mp4"] = answer
    lines = [f"s{n},{server.url('/a.mp4')},{n},{n + 1}" for n in range(8)]
    many = chunked(params, 2, "id,url,start,end", *lines)
    job = multiprocessing.get_context("fork").Process(target=download_stage.run, args=(many, 0))
    job.start()
    deadline = time.monotonic() + 120
    while not [path for path in Path("downloads").rglob("*.part") if path.stat().st_size > 500]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    killed.set()
    clips = download_all(many, jobs=2)
    assert {clip.sha256 for clip in clips.values()} == {SHA256}
    assert server.requests["/a.mp4"] == 2
    assert int(server.ranges["/a.mp4"][1].removeprefix("bytes=").rstrip("-")) > 0
    assert [path.name for path in Path("downloads").rglob("*.part*")] == []


def test_an_archive_from_the_web_is_fetched_and_unpacked_once_for_all_chunks(
    params: Params, server: BadServer
) -> None:
    """Would catch an archive fetched by each job, and members that come from another place."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number in range(12):
            entry = tarfile.TarInfo(f"v/{number}.mp4")
            body = BODY + bytes([number])
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    half = len(buffer.getvalue()) // 2
    server.answers["/a-0"] = lambda handler, n: handler.file(buffer.getvalue()[:half])
    server.answers["/a-1"] = lambda handler, n: handler.file(buffer.getvalue()[half:])
    server.answers["/no.zip"] = lambda handler, n: handler.reply(404)
    lines = [f"c{n},{server.url('/a-')}{{0..1}}!/v/{n}.mp4" for n in range(13)]
    lines.append(f"gone,{server.url('/no.zip')}!/x.mp4")
    many = chunked(params, 4, "id,url", *lines)
    for _ in range(2):
        clips = download_all(many, jobs=4)
        for number in range(12):
            clip = clips[f"c{number}"]
            assert clip.sha256 == hashlib.sha256(BODY + bytes([number])).hexdigest()
            assert clip.source.endswith(f"{{0..1}}!/v/{number}.mp4")
        assert clips["c12"].outcome is clips["gone"].outcome is Outcome.MISSING
        assert clips["c12"].reason == "the archive has no such member"
        assert clips["gone"].reason.startswith("its archive (no.zip): the server has no such file")
        assert (server.requests["/a-0"], server.requests["/a-1"]) == (1, 1)
    left = {path.name for path in Path("downloads").rglob("*") if path.is_file()}
    assert left.isdisjoint({"a-0", "a-1", "no.zip"})


def test_parts_of_youtube_videos_are_clips_of_their_own(
    params: Params, server: BadServer, make_video: MakeVideo
) -> None:
    """Would catch a part that is cut twice, the same file for two parts, and final losses asked
    for again."""
    options = ["-c:v", "libx264", "-g", "30", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    body = make_video("yt.mp4", 150, *options).read_bytes()
    good, gone, busy = "good_______", "gone_______", "busy_______"
    server.answers[f"/{good}"] = lambda handler, n: handler.file(body)
    server.answers[f"/{gone}"] = lambda handler, n: handler.reply(404)
    server.answers[f"/{busy}"] = lambda handler, n: handler.reply(429)
    address = YOUTUBE.model_copy(update={"address": server.url("/"), "refusals": 9})
    fetch = SETTINGS.model_copy(update={"youtube": address, "retries": 0, "timeout_s": 9})
    data = params.data.model_copy(update={"download": fetch})
    asked = params.model_copy(update={"data": data})
    lines = ("id,youtube_id,start,end", f"a,{good},1,3", f"b,{good},2.5,4", f"c,{good},,",
             f"d,{gone},1,2", f"e,{busy},1,2")  # fmt: skip
    for run in range(2):
        clips = stage(asked, *lines)
        assert [clips[n].outcome.value for n in "abcde"] == [
            "ok", "ok", "ok", "missing", "throttled",
        ]  # fmt: skip
        assert [(clips[n].start, clips[n].end) for n in "abc"] == [
            (None, 2),
            (None, 1.5),
            (None,) * 2,
        ]
        assert [clips[n].source for n in "abc"] == [f"{good}@1-3", f"{good}@2.5-4", good]
        assert len({clips[n].file for n in "abc"}) == 3
        if run == 0:
            first = server.requests.copy()
    assert server.requests[f"/{good}"] == first[f"/{good}"]
    assert server.requests[f"/{gone}"] == first[f"/{gone}"]
    assert server.requests[f"/{busy}"] > first[f"/{busy}"]
