"""Files at fsspec's addresses: here in memory and on disk, where its real code runs as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import fsspec
import pytest

from pipeline.data.fetch import remote
from pipeline.data.fetch.fetched import Fetched
from pipeline.data.fetch.web import Request
from pipeline.data.manifest import addresses
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from tests.data.videos.server import SETTINGS, BadServer

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 8000


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """A store in memory, for which no list may ask."""
    monkeypatch.setattr(addresses, "STORES", (*addresses.STORES, "memory"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def fetch(target: Path, *urls: str, **changes: object) -> list[Fetched]:
    requests = [Request(url, target.with_name(f"{n}{target.name}")) for n, url in enumerate(urls)]
    settings = SETTINGS.model_copy(update={"retries": 1, **changes})
    ended = dict(remote.fetch_all(requests, settings))
    return [ended[request] for request in requests]


def test_it_comes_whole_and_what_is_not_there_says_so(
    memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    """Would catch a wrong hash, a page or a folder taken for a video, and parts left behind."""
    memory.pipe({"/b/a.mp4": BODY, "/b/page.mp4": b"<html>no</html>", "/b/d/x.mp4": BODY})
    (tmp_path / "l.mp4").write_bytes(BODY)
    there, absent, page, folder, local = fetch(
        tmp_path / "in" / "x.mp4",
        *(f"memory://b/{name}" for name in ("a.mp4", "no.mp4", "page.mp4", "d")),
        (tmp_path / "l.mp4").as_uri(),
    )
    assert (there.outcome, there.bytes) == (Outcome.OK, len(BODY))
    assert there.sha256 == local.sha256 == hashlib.sha256(BODY).hexdigest()
    assert [each.outcome for each in (absent, page, folder)] == [
        Outcome.MISSING, Outcome.NOT_A_VIDEO, Outcome.NOT_A_VIDEO,
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"0x.mp4", "4x.mp4"}
    assert Path(there.file).read_bytes() == BODY


def test_it_goes_on_where_it_was_unless_the_file_is_another(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch starting again from nothing, and two versions glued together."""
    path = tmp_path / "x.mp4"
    copied: list[int] = []

    def some(source: IO[bytes]) -> Iterator[bytes]:
        yield source.read(100_000)
        raise ConnectionError("gone after 100000")

    blocks = remote._blocks
    memory.pipe("/b/a.mp4", BODY)
    monkeypatch.setattr(remote, "_blocks", some)
    (lost,) = fetch(path, "memory://b/a.mp4", retries=0)
    assert lost.outcome is Outcome.UNREACHABLE
    assert "gone after 100000" in lost.reason

    def counted(source: IO[bytes]) -> Iterator[bytes]:
        for block in blocks(source):
            copied.append(len(block))
            yield block

    monkeypatch.setattr(remote, "_blocks", counted)
    (got,) = fetch(path, "memory://b/a.mp4")
    assert (got.outcome, sum(copied)) == (Outcome.OK, len(BODY) - 100_000)
    assert Path(got.file).read_bytes() == BODY

    Path(got.file).unlink()
    monkeypatch.setattr(remote, "_blocks", some)
    fetch(path, "memory://b/a.mp4", retries=0)
    memory.pipe("/b/a.mp4", BODY[::-1] + b"!")
    monkeypatch.setattr(remote, "_blocks", counted)
    (got,) = fetch(path, "memory://b/a.mp4")
    assert Path(got.file).read_bytes() == BODY[::-1] + b"!"


def test_a_store_that_refuses_or_fails_is_a_record(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a traceback for an exception that only one store knows."""

    class NoCredentialsError(Exception):
        pass

    for error, outcome in {
        PermissionError("denied"): Outcome.FORBIDDEN,
        NoCredentialsError("Unable to locate credentials"): Outcome.FORBIDDEN,
        TimeoutError(): Outcome.UNREACHABLE,
        RuntimeError("odd"): Outcome.UNREACHABLE,
    }.items():

        def refuse(self: object, path: str, error: Exception = error) -> dict[str, object]:
            raise error

        monkeypatch.setattr(type(memory), "info", refuse)
        (got,) = fetch(tmp_path / "x.mp4", "memory://b/a.mp4", retries=0)
        assert got.outcome is outcome
        assert got.reason


def test_a_bucket_on_a_server_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch settings that do not reach the store, and s3fs's errors without an outcome."""
    pytest.importorskip("s3fs")
    monkeypatch.setenv("NO_PROXY", "*")
    absent = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'
    with BadServer() as server:
        server.answers["/b/v/a.mp4"] = lambda handler, n: handler.file(BODY)
        server.answers["/b/no.mp4"] = lambda handler, n: handler.reply(404)
        server.answers["/b/mine.mp4"] = lambda handler, n: handler.reply(403)
        query = "list-type=2&prefix=no.mp4%2F&delimiter=%2F&max-keys=1&encoding-type=url"
        server.answers[f"/b?{query}"] = lambda handler, n: handler.reply(200, absent)
        s3 = {"anon": True, "endpoint_url": server.url("")}
        there, absent_one, mine = fetch(
            tmp_path / "x.mp4", "s3://b/v/a.mp4", "s3://b/no.mp4", "s3://b/mine.mp4",
            storage={"s3": s3}, retries=0,
        )  # fmt: skip
    assert there.outcome is Outcome.OK, there
    assert Path(there.file).read_bytes() == BODY
    assert absent_one.outcome is Outcome.MISSING, absent_one
    assert mine.outcome is Outcome.FORBIDDEN, mine


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    """Would catch every clip lost, or a traceback, where `pip install` is all it takes."""
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="s3:// addresses is not installed") as caught:
            fetch(tmp_path / "x.mp4", "s3://bucket/a.mp4")
        assert "sigma-pipeline[cloud]" in caught.value.remedy
    assert addresses.problem("s3") == addresses.problem("gs") == addresses.problem("http") == ""
    assert "begin with" in addresses.problem("htp")
    for scheme in ("", "file", "local", "reference", "zip", "simplecache", "github", "jupyter",
                   "memory", "dask", "git", "data", "dir", "generic"):  # fmt: skip
        assert "begin with" in addresses.problem(scheme)
