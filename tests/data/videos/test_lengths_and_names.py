"""What a server leaves unsaid, or says wrongly: lengths, types, encodings, versions, names."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import web
from pipeline.data.records import ChunkManifest, Outcome
from pipeline.runtime import claims
from tests.data.videos.conftest import MakeVideo
from tests.data.videos.server import SETTINGS, BadServer, Handler
from tests.data.videos.trials import stage

VIDEO = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00"
BODY = VIDEO + bytes(range(256)) * 800


@pytest.fixture
def params(composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(claims, "POLL_S", 0.05)
    fetch = SETTINGS.model_copy(update={"timeout_s": 5.0})
    data = composed.data.model_copy(update={"chunks": 1, "download": fetch})
    return composed.model_copy(update={"data": data})


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running


def sent(handler: Handler, body: bytes, status: int = 200, **headers: str) -> None:
    """Answer; without a length in the headers, the end of the connection is the end."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


@pytest.mark.parametrize(
    "pattern",
    [
        "/api/records/1/files/data-tar-{00..01}/content",
        "/{first,second}/whole.tar",
        "/get?part={0,1}",
        "/{0,1}/",
        "/{0,1}/A.tar",
        "/{0/a,1/A}.tar",
        "/{0,1}/..%2f..%2fx.tar",
    ],
)
def test_parts_whose_addresses_end_alike_are_all_asked_for(
    pattern: str, params: Params, server: BadServer
) -> None:
    """Catches a part that is joined with itself, since the next one would be called the same."""
    files = {f"v{n}.mp4": VIDEO + bytes([n]) * 30_000 for n in range(4)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    half = len(buffer.getvalue()) // 2
    halves = [buffer.getvalue()[:half], buffer.getvalue()[half:]]
    before, _, rest = pattern.partition("{")
    inner, _, after = rest.partition("}")
    for part, one in zip(inner.replace("..", ",").split(","), halves, strict=True):
        path = f"{before}{part}{after}"
        server.answers[path] = lambda handler, n, one=one: handler.file(one)
    clips = stage(params, "id,url", *(f'{n[:2]},"{server.url(pattern)}!/{n}"' for n in files))
    for name, body in files.items():
        assert clips[name[:2]].outcome is Outcome.OK, clips[name[:2]]
        assert Path(clips[name[:2]].file).read_bytes() == body
    assert sum(server.requests.values()) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/json"},
        {"Content_Type": "text/html; charset=utf-8"},
        {"Content_Type": "text/vnd.trolltech.linguist"},
        {"Content_Encoding": "Identity"},
        {"Content_Encoding": ""},
        {"Content_Encoding": "IDENTITY, identity"},
        {"Content_Encoding": "aws-chunked"},
        {"Content_Encoding": "utf-8"},
    ],
)
@pytest.mark.parametrize("length", [True, False])
def test_a_video_is_one_whatever_it_is_called(
    headers: dict[str, str], length: bool, params: Params, server: BadServer
) -> None:
    """Catches a good video refused for what the server calls it."""
    size = {"Content_Length": str(len(BODY))} if length else {}
    server.answers["/a"] = lambda handler, n: sent(handler, BODY, **headers, **size)
    clip = stage(params, "id,url", f"a,{server.url('/a')}")["a"]
    assert clip.outcome is Outcome.OK, clip
    assert Path(clip.file).read_bytes() == BODY


@pytest.mark.parametrize("body", [b"<html>no</html>", b' {"error": "quota"}' * 200, b"", b"text"])
@pytest.mark.parametrize("kind", ["application/json", "video/mp4", "TEXT/HTML"])
def test_pages_are_known_by_their_bytes(
    body: bytes, kind: str, params: Params, server: BadServer
) -> None:
    """Catches an error page taken for a video, or for an archive that is damaged for ever."""
    server.answers["/a"] = lambda handler, n: sent(handler, body, Content_Type=kind)
    server.answers["/a.tar"] = lambda handler, n: (
        sent(handler, body, Content_Type=kind) if n == 1 else handler.file(archive(BODY))
    )
    lines = ("id,url", f"a,{server.url('/a')}", f"b,{server.url('/a.tar')}!/v.mp4")
    clips = stage(params, *lines)
    assert clips["a"].outcome is Outcome.NOT_A_VIDEO
    assert clips["b"].outcome in (Outcome.NOT_A_VIDEO, Outcome.CORRUPT)
    assert stage(params, *lines)["b"].outcome is Outcome.OK


def archive(body: bytes, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        entry = tarfile.TarInfo("v.mp4")
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


@pytest.mark.parametrize("coding", ["GZIP", "br", "identity, Deflate"])
def test_what_is_compressed_says_so(coding: str, params: Params, server: BadServer) -> None:
    """Catches compressed bytes kept as a video; and a tar.gz refused, as some servers label it."""
    packed = archive(BODY, "w:gz")
    server.answers["/a"] = lambda handler, n: handler.reply(200, BODY, content_encoding=coding)
    server.answers["/a.tgz"] = lambda handler, n: handler.reply(
        200, packed, content_encoding="x-gzip"
    )
    clips = stage(params, "id,url", f"a,{server.url('/a')}", f"b,{server.url('/a.tgz')}!/v.mp4")
    assert clips["a"].outcome is Outcome.FAILED
    assert "compressed" in clips["a"].reason
    assert clips["b"].outcome is Outcome.OK


def test_half_a_file_without_a_length_is_fetched_again(
    params: Params, server: BadServer, make_video: MakeVideo
) -> None:
    """Catches half a video that nobody asks for again once decoding has shown that it is one."""
    options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    body = make_video("half.mp4", 60, *options).read_bytes()
    half = body[: len(body) // 2]
    server.answers["/a.mp4"] = lambda handler, n: sent(handler, half if n == 1 else body)
    server.answers["/half.mp4"] = lambda handler, n: sent(handler, half)
    server.answers["/said.mp4"] = lambda handler, n: handler.reply(200, half)
    lines = ("id,url", *(f"{n},{server.url(f'/{n}.mp4')}" for n in ("a", "half", "said")))
    outcomes = []
    for _ in range(6):
        assert {clip.outcome for clip in stage(params, *lines).values()} == {Outcome.OK}
        decode_stage.run(params, 0)
        clips = ChunkManifest.read(DataLayout(params.data.name).decoded(0)).clips
        outcomes.append({clip.id: clip.outcome.value for clip in clips})
    assert outcomes[0] == {"a": "corrupt", "half": "corrupt", "said": "corrupt"}
    assert outcomes[1:] == [{"a": "ok", "half": "corrupt", "said": "corrupt"}] * 5
    assert server.requests == {"/a.mp4": 2, "/half.mp4": 3, "/said.mp4": 1}


def test_half_an_archive_without_a_length_is_fetched_again(
    params: Params, server: BadServer
) -> None:
    """Catches an archive called damaged for ever, of which half had come."""
    files = archive(BODY + bytes(range(256)) * 400, "w:gz")
    half = files[: len(files) // 2]
    server.answers["/a.tgz"] = lambda handler, n: sent(handler, half if n == 1 else files)
    server.answers["/half.tgz"] = lambda handler, n: sent(handler, half)
    server.answers["/said.tgz"] = lambda handler, n: handler.reply(200, half)
    names = ("a", "half", "said")
    lines = ("id,url", *(f"{n},{server.url(f'/{n}.tgz')}!/v.mp4" for n in names))
    assert [stage(params, *lines)[n].outcome.value for n in names] == ["corrupt"] * 3
    for _ in range(4):
        clips = stage(params, *lines)
        assert [clips[n].outcome.value for n in names] == ["ok", "corrupt", "corrupt"]
    assert server.requests == {"/a.tgz": 2, "/half.tgz": 3, "/said.tgz": 1}


@pytest.mark.parametrize("changed", ["etag", "date", "total", "weak", "all"])
def test_the_rest_of_another_file_is_not_believed(
    changed: str, params: Params, server: BadServer
) -> None:
    """Catches half of one file and half of another, from a server that ignores If-Range."""
    newer = VIDEO + bytes(reversed(range(256))) * 800
    weak = {"ETag": 'W/"1"'} if changed == "weak" else {"ETag": '"1"'}
    first = weak | {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    change = {
        "etag": {"ETag": '"2"'},
        "weak": {"ETag": 'W/"2"'},
        "date": {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"},
        "all": {"ETag": '"2"', "Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"},
    }
    later = first | change.get(changed, {})
    more = b"more" if changed == "total" else b""

    def answer(handler: Handler, number: int) -> None:
        asked = handler.headers.get("Range")
        if number == 1:
            sent(handler, BODY[:100_000], **first, Content_Length=str(len(BODY)))
        elif asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            rest = (newer + more)[start:]
            span = f"bytes {start}-{start + len(rest) - 1}/{len(newer + more)}"
            sent(handler, rest, 206, **later, Content_Range=span, Content_Length=str(len(rest)))
        else:
            sent(handler, newer + more, **later, Content_Length=str(len(newer + more)))

    server.answers["/a"] = answer
    clip = stage(params, "id,url", f"a,{server.url('/a')}")["a"]
    assert clip.outcome is Outcome.OK
    assert Path(clip.file).read_bytes() == newer + more
    assert server.ranges["/a"] == ["", "bytes=100000-", ""]


def test_nothing_in_the_folders_tells_a_password(params: Params, server: BadServer) -> None:
    """Catches a signed address, or a password, in a journal or in the note of a part."""
    server.answers["/a?token=hush"] = lambda handler, n: handler.file(BODY, send=50_000)
    server.answers["/a.tar?token=hush"] = lambda handler, n: handler.file(archive(BODY))
    address = server.url("").replace("//", "//user:hush@")
    lines = ("id,url", f"a,{address}/a?token=hush", f"b,{address}/a.tar?token=hush!/v.mp4")
    stage(params, *lines)
    left = [path for path in Path("downloads").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".part.json") for path in left)
    assert any(path.name == "journal.jsonl" for path in left)
    for path in left:
        assert b"hush" not in path.read_bytes()
        assert "hush" not in path.name
