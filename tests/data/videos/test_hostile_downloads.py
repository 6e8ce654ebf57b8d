"""Rows and servers that mean harm, through the whole download stage: a record each, and no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.configuration.schema import Params
from pipeline.data.fetch import download_stage, web
from pipeline.data.fetch.sources import SourceFetcher, source_of
from pipeline.data.manifest import addresses, manifest_stage, rows
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime import claims
from pipeline.runtime.journal import Journal
from pipeline.runtime.progress import Progress
from tests.data.videos import hostile_rows
from tests.data.videos.server import SETTINGS, YOUTUBE, BadServer, Handler

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 80
HEADERS = {
    "Content-Length": ("0", "5", str(len(BODY)), "9" * 30, "9" * 5000, "-1", "x", "\u0663"),
    "Content-Type": ("video/mp4", "text/html", "", "\xff", "a" * 5000),
    "Content-Encoding": ("gzip", "identity", "", "x,y"),
    "Content-Range": (
        "bytes 0-4/5", "bytes 5-9/10", "bytes */*", "bytes 9-", "x", "bytes 0-1/" + "9" * 99,
    ),
    "Location": (
        "/", "/a", "//", "http://[", "http://127.0.0.1:99999/", "file:///etc/hosts", "\xff", "",
    ),
    "Retry-After": ("9" * 400, "-1", "Mon, 99 Jan 2024", "0", "nan"),
    "ETag": ('"1"', "W/", "", "\xff"),
    "Last-Modified": ("never", "Mon, 01 Jan 2024 00:00:00 GMT"),
    "Transfer-Encoding": ("chunked", "gzip, chunked"),
    "Set-Cookie": ("a" * 5000, "a=b; domain=."),
}  # fmt: skip
ANSWERS = st.tuples(
    st.sampled_from([200, 200, 206, 301, 302, 307, 404, 416, 429, 500, 503, 204, 304, 999]),
    st.fixed_dictionaries({}, optional={n: st.sampled_from(v) for n, v in HEADERS.items()}),
    st.sampled_from([
        "", "video", "<html>", "5\r\nhello\r\n0\r\n\r\n", "PK\x03\x04", "Rar!\x1a\x07\x00",
        "Z" * 3000,
    ]),
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running


@pytest.fixture
def params(
    composed: Params, server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "LONGEST_WAIT_S", 0.0)
    monkeypatch.setattr(claims, "POLL_S", 0.01)
    # The other stores would ask somebody else than this machine.
    monkeypatch.setattr(addresses, "STORES", ("ftp",))
    asked = YOUTUBE.model_copy(update={"address": server.url("/youtube/"), "refusals": 10**6})
    fetch = {"youtube": asked, "retries": 1, "timeout_s": 0.5, "max_bytes": 1_000_000}
    given = SETTINGS.model_copy(update=fetch)
    data = composed.data.model_copy(update={"chunks": 1, "download": given})
    return composed.model_copy(update={"data": data})


def download(params: Params, listed: list[rows.Row]) -> dict[str, Outcome]:
    """Fetch the sources of rows, whatever the list's own check says of them."""
    folder = Path("videos")
    with Journal(folder / "journal.jsonl") as journal, Progress("x", 1, "videos") as progress:
        got = SourceFetcher(params.data, folder, journal, progress).fetch(listed)
    for fetched in got.values():
        assert (fetched.outcome is Outcome.OK) == (not fetched.reason), fetched
        assert fetched.reason.isprintable()
        assert len(fetched.reason) < 400
    return {row.id: got[source_of(row, params.data)].outcome for row in listed}


def row(name: str, **source: str) -> rows.Row:
    values = dict.fromkeys(("path", "url", "youtube_id", "synthetic"), "") | source
    return rows.Row(name, *values.values(), None, None, "", "train", "", {})


FEW = settings(max_examples=20, suppress_health_check=list(HealthCheck))


@FEW
@example(values=[f"http:127.0.0.1:9/{'{' * 390}a{'}' * 390}.tar!/a.mp4"])
@example(values=["{00..03}\n!/a.mp4", "\x1b[31m.tar!/a.mp4", "http://127.0.0.1:9/\x1b[31m.tar!/a"])
@given(values=st.lists(hostile_rows.addresses() | hostile_rows.paths(), min_size=1, max_size=4))
def test_no_address_and_no_path_ends_the_job(
    values: list[str], params: Params, server: BadServer
) -> None:
    """Catches a row that ends the job, hangs it, or opens what is no video's source."""
    server.answers["/good"] = lambda handler, n: handler.file(BODY)
    Path("fifo.mp4").exists() or os.mkfifo("fifo.mp4")
    listed = [row("good", url=server.url("/good")), row("fifo", path="fifo.mp4")]
    for number, value in enumerate(values):
        kind = "url" if "://" in value else "path"
        listed.append(row(f"r{number}", **{kind: value or "x"}))
    outcomes = download(params, listed)
    assert outcomes.pop("good") is Outcome.OK
    assert Outcome.OK not in outcomes.values()


@FEW
@given(answers=st.lists(ANSWERS, min_size=1, max_size=4))
def test_no_answer_ends_the_job(
    answers: list[tuple[int, dict[str, str], str]], params: Params, server: BadServer
) -> None:
    """Catches headers and bodies of a server that end the job of which it has one file."""

    def hostile(handler: Handler, number: int) -> None:
        status, headers, body = answers[number % len(answers)]
        lines = [f"HTTP/1.1 {status} x", *(f"{name}: {text}" for name, text in headers.items())]
        sent = BODY if body == "video" else body.encode("latin-1")
        handler.wfile.write("\r\n".join([*lines, "", ""]).encode("utf-8") + sent)
        handler.close_connection = True

    server.requests.clear()
    names = ("a.mp4", "b.tar!/v.mp4", "c-{0..1}.zip!/v.mp4")
    for path in ("/a.mp4", "/a", "/", "/b.tar", "/c-0.zip", "/c-1.zip"):
        server.answers[path] = hostile
    server.answers["/good"] = lambda handler, n: handler.file(BODY)
    listed = [row("good", url=server.url("/good"))]
    listed += [row(name[0], url=server.url(f"/{name}")) for name in names]
    outcomes = download(params, listed)
    assert outcomes["good"] is Outcome.OK


@settings(FEW, max_examples=30)
@given(listed=st.lists(hostile_rows.rows(), min_size=1, max_size=4))
def test_no_list_ends_in_a_traceback(
    listed: list[dict[str, str]], params: Params, server: BadServer
) -> None:
    """Catches what one stage lets through and the next one cannot stand."""
    hostile_rows.write(Path("list.csv"), listed)
    try:
        manifest_stage.run(params)
        download_stage.run(params, 0)
    except UserError as error:
        said = str(error)
    else:
        said = ""
    assert len(said) < 10_000
