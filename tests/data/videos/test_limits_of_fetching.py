"""How far, how long and how much is fetched; and what is left where that ends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.data.fetch import leftovers, redirects, remote, web, youtube
from pipeline.data.fetch.request import Request
from pipeline.data.fetch.youtube import YoutubeRequest
from pipeline.data.manifest import addresses
from pipeline.data.records import Outcome
from tests.data.videos.server import SETTINGS, YOUTUBE, BadServer, Handler
from tests.data.videos.trials import fetch

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 800


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.02)
    with BadServer() as running:
        yield running


CLOSED = (
    "reference://x", "zip://a::file:///etc/hosts", "simplecache::http://127.0.0.1:9/a",
    "file:///etc/hosts", "local:///etc/hosts", "github://a:b@c/d", "jupyter://h/x", "memory://x",
    "data:,x", "dir://x", "git://x",
    "s3://b/x::file:///etc/hosts", "http://[broken/a.mp4", "http://127.0.0.1:99999/a", "http://[::1/x",
    "http:///a", "FILE:///etc/hosts", "", "a", "://", "http://127.0.0.1:0/a",
    "http://h/" + "a" * 70_000, "http://h/\x00",
    "tar://x::http://127.0.0.1:9/a", "dask://h/x", "generic://x", "blockcache://x", "asyncwrapper://x",
)  # fmt: skip


def test_no_other_address_is_opened(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a file of this machine read by a row's address, a chain of file systems that is
    followed, and a bad address that ends the job."""
    server.answers["/good"] = lambda handler, n: handler.file(BODY)

    def opened(*arguments: object, **options: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(fsspec, "get_filesystem_class", opened)
    monkeypatch.setattr(fsspec.core, "url_to_fs", opened)
    *bad, good = fetch(tmp_path, *CLOSED, server.url("/good"))
    assert good.outcome is Outcome.OK
    for url, fetched in zip(CLOSED, bad, strict=True):
        assert fetched.outcome is Outcome.FAILED, url
        assert fetched.reason.startswith("bad address: "), fetched


def test_chains_are_not_followed_even_by_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches `url_to_fs`, which looks for `::` in any address, if the check before it failed."""
    monkeypatch.setattr(addresses, "STORES", (*addresses.STORES, "memory"))
    (tmp_path / "secret").write_bytes(BODY)
    request = Request(f"memory://x::file://{tmp_path}/secret", tmp_path / "0.mp4")
    ((_, fetched),) = remote.fetch_all([request], SETTINGS)
    assert fetched.outcome is Outcome.MISSING


def test_a_store_whose_package_is_missing_loses_its_own_rows(tmp_path: Path) -> None:
    """Catches a row that ends the job with the name of a package that nobody needs."""
    if "smb" in sys.modules:
        pytest.skip("smbprotocol is installed")
    (got,) = fetch(tmp_path, "smb://127.0.0.1/a/b.mp4")
    assert got.outcome is Outcome.FAILED
    assert "package that reads smb:// addresses" in got.reason


@pytest.mark.parametrize("says", ["nothing", "hello", "refuses", "listing", "closes"])
def test_ftp_that_does_not_answer(says: str, server: BadServer, tmp_path: Path) -> None:
    """Catches a job that waits for ever for a silent server, or ends with its error."""
    lines = {"hello": [b"220 hello"], "refuses": [b"421 not now"], "closes": [], "nothing": None}

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection:
            if says == "listing":
                _listing(connection)
                return
            for line in lines[says] or []:
                connection.sendall(line + b"\r\n")
            if says not in ("closes", "refuses"):
                time.sleep(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        server.answers["/good"] = lambda handler, n: handler.file(BODY)
        began = time.monotonic()
        url = f"ftp://127.0.0.1:{listener.getsockname()[1]}/a/b.mp4"
        lost, good = fetch(tmp_path, url, server.url("/good"), timeout_s=0.5)
    assert good.outcome is Outcome.OK
    assert lost.outcome is Outcome.UNREACHABLE, lost
    assert lost.reason
    assert time.monotonic() - began < 15


def _listing(connection: socket.socket) -> None:
    """Talk as a server does that never ends the list of a folder."""
    file = connection.makefile("rwb")
    data = socket.create_server(("127.0.0.1", 0))
    port = data.getsockname()[1]
    file.write(b"220 hello\r\n")
    file.flush()
    while command := file.readline().strip().upper():
        word = command.split()[0]
        reply = {b"EPSV": b"229 ok (|||%d|)" % port, b"PASV": b"227 ok (127,0,0,1,%d,%d)" %
                 (port >> 8, port & 255), b"USER": b"230 in", b"MLSD": b"150 comes",
                 b"LIST": b"150 comes"}.get(word, b"200 ok")  # fmt: skip
        file.write(reply + b"\r\n")
        file.flush()
        if word in (b"MLSD", b"LIST"):
            time.sleep(20)


def test_a_store_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a store without a time limit: before it answers, and in the midst of a file."""
    monkeypatch.setattr(addresses, "STORES", (*addresses.STORES, "memory"))
    monkeypatch.setattr(remote, "START_S", 0.1)
    monkeypatch.setattr(remote, "READ_AHEAD", 0)
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe({"/b/a.mp4": BODY * 20, "/b/c.mp4": BODY})
    info, opened = type(memory).info, type(memory)._open
    free = threading.Event()

    def slow(self: object, path: str, **options: object) -> object:
        if "c.mp4" in path:
            free.wait(20)
        return info(self, path, **options)

    class Halting:
        def __init__(self, file: object) -> None:
            self.file, self.count = file, 0

        def read(self, size: int) -> bytes:
            self.count += 1
            if self.count > 1:
                free.wait(20)
            return self.file.read(size)  # type: ignore[attr-defined,no-any-return]

        def __enter__(self) -> Halting:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(type(memory), "info", slow)
    monkeypatch.setattr(type(memory), "open", lambda self, path, mode: Halting(opened(self, path)))
    began = time.monotonic()
    for lost in fetch(tmp_path, "memory://b/a.mp4", "memory://b/c.mp4", timeout_s=0.3, retries=0):
        assert lost.outcome is Outcome.UNREACHABLE
        assert "no answer within 0.3 s" in lost.reason
    assert time.monotonic() - began < 5
    free.set()
    memory.store.clear()


@pytest.mark.parametrize("length", [True, False])
def test_no_more_than_max_bytes_comes(
    length: bool, server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an answer without end, and one whose length alone is too much, from web and store."""
    monkeypatch.setattr(addresses, "STORES", (*addresses.STORES, "memory"))
    sent = []

    def answer(handler: Handler, number: int) -> None:
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", str(10**15))
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(BODY)
            sent.append(len(BODY))

    server.answers["/a"] = answer
    server.answers["/b"] = lambda handler, n: handler.file(BODY)
    memory = fsspec.filesystem("memory")
    memory.pipe("/b/a.mp4", BODY * 30)
    large, small, stored = fetch(
        tmp_path, server.url("/a"), server.url("/b"), "memory://b/a.mp4", max_bytes=5_000_000
    )
    memory.store.clear()
    for lost in (large, stored):
        assert lost.outcome is Outcome.FAILED
        assert lost.reason == "larger than 5,000,000 bytes (data.download.max_bytes): refused"
    assert small.outcome is Outcome.OK
    assert sum(sent) < 50_000_000
    assert server.requests["/a"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1.mp4"]


def test_youtube_is_limited_too(server: BadServer, tmp_path: Path) -> None:
    """Catches the one source whose size nobody looks at; and runtimes that were not chosen."""
    server.answers["/long"] = lambda handler, n: handler.file(BODY)
    asked = YOUTUBE.model_copy(update={"address": server.url("/")})
    given = SETTINGS.model_copy(update={"youtube": asked, "max_bytes": 100_000, "retries": 0})
    wanted = YoutubeRequest("long", tmp_path / "a.video")
    ((_, lost),) = youtube.fetch_all([wanted], given, tmp_path / "refused.json")
    assert lost.outcome is Outcome.FAILED
    assert "max_bytes" in lost.reason
    assert list(tmp_path.iterdir()) == []
    options = youtube._Fetcher(given, None)._options(wanted)  # type: ignore[arg-type]
    assert options["js_runtimes"] == {"deno": {}}


def test_a_public_server_does_not_lead_into_this_network(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a redirect by which a stranger's server has this machine ask the user's own."""
    port = server.server_address[1]
    server.answers["/own"] = lambda handler, n: handler.reply(302, location=server.url("/secret"))
    server.answers["/secret"] = lambda handler, n: handler.file(BODY)
    server.answers["/back"] = lambda handler, n: handler.reply(
        302, location=f"http://localhost:{port}/own"
    )
    is_private = redirects.is_private

    async def looked_up(host: str) -> bool:
        return host != "localhost" and await is_private(host)

    monkeypatch.setattr(redirects, "is_private", looked_up)
    public = f"http://localhost:{port}/own"
    own, lost, round_about = fetch(tmp_path, server.url("/own"), public, server.url("/back"))
    assert own.outcome is Outcome.OK
    for refused in (lost, round_about):
        assert refused.outcome is Outcome.FAILED
        assert "redirects to a private address, 127.0.0.1" in refused.reason
    assert server.requests["/secret"] == 1
    (tmp_path / "again").mkdir()
    (allowed,) = fetch(tmp_path / "again", public, private_redirects=True)
    assert allowed.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("169.254.169.254", True), ("100.64.0.1", True),
        ("::1", True), ("fd00::1", True), ("::ffff:10.0.0.1", True), ("240.0.0.1", True),
        ("2130706433", True), ("localhost", True), ("8.8.8.8", False), ("2606:4700::1111", False),
        ("::ffff:8.8.8.8", False),
    ],
)  # fmt: skip
def test_private_addresses(host: str, private: bool) -> None:
    """Catches a spelling of an address of this network that is not known as one."""
    assert asyncio.run(redirects.is_private(host)) is private


def test_what_killed_jobs_left_is_removed_and_the_rest_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches temporary files that stay for ever, and those of a living job that are removed."""
    folder = tmp_path / "ab"
    folder.mkdir()
    dead = {"host": socket.gethostname(), "pid": 2**22 - 3, "token": "0" * 12}
    token, other = "0123456789ab", "ba9876543210"
    for name in (
        f"a-0.mp4.{other}.part",
        f"v-0.{token}.f137.mp4.part",
        f"v-0.{token}.mp4",
        ".a-0.mp4.part.01234567.tmp.json",
        ".gone-0.webm.claim",
        f"gone-1.avi.{token}.part",
    ):
        (folder / name).write_text(json.dumps(dead))
    kept = {f"a-0.mp4.{token}.part", "a-0.mp4.part.json", "whole-0.mp4", ".whole-0.mp4.fetches"}
    kept |= {f"live-0.mp4.{token}.part", ".live-0.mp4.claim", "v-0.video"}
    for name in kept:
        (folder / name).write_text("x")
    (folder / "a-0.mp4.part.json").write_text(json.dumps({"part": f"a-0.mp4.{token}.part"}))
    (folder / ".live-0.mp4.claim").write_text(json.dumps(dead | {"pid": os.getpid()}))
    leftovers.sweep(tmp_path)
    assert {path.name for path in folder.iterdir()} == kept
    leftovers.sweep(tmp_path / "none")
