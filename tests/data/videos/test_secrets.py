"""What a list tells a server in confidence stays in the list."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage, video_list
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError
from pipeline.runtime import claims
from pipeline.runtime.files import read_json
from tests.data.videos.server import BadServer, Handler

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 50
SECRETS = ("hush_word", "hush_name", "hush_sign", "hush_token")


@pytest.fixture
def params(composed: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(claims, "POLL_S", 0.05)
    data = composed.data.model_copy(update={"chunks": 2, "synthetic": None, "manifest": "list.csv"})
    data = data.model_copy(update={"download": data.download.model_copy(update={"retries": 0})})
    return composed.model_copy(update={"data": data})


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running


def download(params: Params) -> dict[str, ClipRecord]:
    layout = DataLayout(params.data.name)
    clips = []
    for chunk in range(params.data.chunks):
        download_stage.run(params, chunk)
        clips += ChunkManifest.read(layout.downloaded(chunk)).clips
    return {clip.id: clip for clip in clips}


def test_they_reach_the_server_and_no_file(
    params: Params, server: BadServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a password, a signature or a token in a chunk's list, a journal, a manifest, a note
    of a part or a message; one that does not reach the server; and two addresses that differ in
    nothing else taken for one."""
    asked = base64.b64encode(b"hush_name:hush_word").decode()

    def locked(handler: Handler, number: int) -> None:
        if handler.headers.get("Authorization") == f"Basic {asked}":
            handler.file(BODY)
        else:
            handler.reply(401)

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("m.mp4")
        member.size = len(BODY)
        archive.addfile(member, io.BytesIO(BODY + b"3"))
    signed, other = "?id=1&X-Amz-Signature=hush_sign1", "?id=1&X-Amz-Signature=hush_sign2"
    server.answers["/a.mp4"] = locked
    server.answers[f"/b.mp4{signed}"] = lambda handler, n: handler.file(BODY + b"1")
    server.answers[f"/b.mp4{other}"] = lambda handler, n: handler.file(BODY + b"2")
    server.answers["/c.tar?token=hush_token"] = lambda handler, n: handler.file(packed.getvalue())
    server.answers["/gone.mp4?token=hush_token"] = lambda handler, n: handler.reply(404)
    home = server.url("").removeprefix("http://")
    note = f"from http://hush_name:hush_word@{home}/a.mp4"
    Path("list.csv").write_text(
        "id,url,note\n"
        f"a,http://hush_name:hush_word@{home}/a.mp4,{note}\n"
        f"a2,http://hush_name:hush_word@{home}/a.mp4,\n"
        f"b1,{server.url('/b.mp4')}{signed},\nb2,{server.url('/b.mp4')}{other},\n"
        f"c,{server.url('/c.tar?token=hush_token')}!/m.mp4,\n"
        f"d,{server.url('/gone.mp4?token=hush_token')},\n"
        f"e,http://hush_name:hush_word@127.0.0.1:1/e.mp4?token=hush_token,\n"
    )
    manifest_stage.run(params)
    for _ in range(2):  # from the server, then from the journal
        clips = download(params)
        outcomes = {name: clip.outcome for name, clip in sorted(clips.items())}
        assert [*outcomes.values()] == [
            *[Outcome.OK] * 5, Outcome.MISSING, Outcome.UNREACHABLE,
        ]  # fmt: skip
    assert server.requests["/a.mp4"] <= 2  # httpx may ask without, first
    assert clips["a"].file == clips["a2"].file
    assert clips["b1"].sha256 != clips["b2"].sha256
    assert clips["b1"].source.startswith(server.url("/b.mp4?id=1&redacted="))
    assert clips["a"].labels["note"].startswith(f"from http://{home}/a.mp4?redacted=")
    said = "".join(capfd.readouterr())
    written = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert len(written) > 8
    for secret in SECRETS:
        assert secret not in said
        assert [path for path, data in written.items() if secret.encode() in data] == [
            Path("list.csv")
        ]
        assert not [path for path in written if secret in str(path)]


def test_a_chunk_is_fetched_by_the_list_that_it_was_made_of(params: Params) -> None:
    """Catches a traceback where the list is gone, and an address of another row's, or of another
    day's, taken for the one that was asked for."""
    text = "id,url\na,http://127.0.0.1:1/a.mp4?token=hush_1\n"
    Path("list.csv").write_text(text)
    manifest_stage.run(params)
    Path("list.csv").unlink()
    with pytest.raises(UserError, match="which the list of videos alone holds; there is no such"):
        download(params)
    for other in (text.replace("hush_1", "hush_2"), text.replace("a,http", "b,http"), "id,path\n"):
        Path("list.csv").write_text(other)
        with pytest.raises(UserError) as caught:
            download(params)
        assert "list of videos" in str(caught.value)
        assert "hush" not in str(caught.value)
    Path("list.csv").write_text(text)
    assert download(params)["a"].outcome is Outcome.UNREACHABLE


def test_the_list_of_a_chunk_is_a_list(params: Params) -> None:
    """Catches a chunk's list that is refused because of what was taken out, and a census that
    keeps what the chunks do not."""
    Path("list.csv").write_text(
        "id,url,note\na,http://u:hush@h/a-{0..1}.tar?token=hush!/m.mp4,s3://k:hush@b/\n"
    )
    manifest_stage.run(params)
    layout = DataLayout(params.data.name)
    rows = [row for chunk in (0, 1) if layout.chunk_list(chunk).read_text().count("\n") > 1
            for row in video_list.read(layout.chunk_list(chunk), folder="")]  # fmt: skip
    assert rows[0].url.startswith("http://h/a-{0..1}.tar?redacted=")
    assert rows[0].url.endswith("!/m.mp4")
    assert "hush" not in str(read_json(layout.manifest))


def test_a_line_end_of_old_machines_in_a_cell_does_no_harm(params: Params) -> None:
    """Catches a chunk's list that cannot be read, though the user's could."""
    Path("list.csv").write_text('id,path,label,note\na,a.mp4,"x\ry","p\r\nq"\n', newline="")
    manifest_stage.run(params)
    assert download(params)["a"].labels == {"label": "x\ny", "note": "p\nq"}
