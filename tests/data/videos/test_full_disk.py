"""A full disk, real or not: the job ends with a message, and nothing is lost for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.data.fetch import remote, web, youtube
from pipeline.data.fetch.youtube import YoutubeRequest
from pipeline.data.manifest import addresses
from pipeline.errors import UserError
from tests.data.videos.server import SETTINGS, YOUTUBE, BadServer
from tests.data.videos.trials import fetch

BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 800


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.02)
    with BadServer() as running:
        yield running


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_job_and_loses_nothing(
    number: int, server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches clips that are lost for good because the disk was full: from web, store, YouTube."""
    monkeypatch.setattr(addresses, "STORES", (*addresses.STORES, "memory"))
    server.answers["/a"] = lambda handler, n: handler.file(BODY)
    fsspec.filesystem("memory").pipe("/b/a.mp4", BODY)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pipeline.data.fetch.partial.Partial.restart", full)
    for url in (server.url("/a"), "memory://b/a.mp4"):
        with pytest.raises(UserError, match="the disk is full, or a quota is used up"):
            fetch(tmp_path, url)
    asked = YOUTUBE.model_copy(update={"address": server.url("/")})
    given = SETTINGS.model_copy(update={"youtube": asked, "retries": 0})
    monkeypatch.setattr("yt_dlp.downloader.http.HttpFD.real_download", full)
    with pytest.raises(UserError, match="the disk is full, or a quota is used up"):
        list(
            youtube.fetch_all(
                [YoutubeRequest("a", tmp_path / "a.video")], given, tmp_path / "r.json"
            )
        )
    assert not [path for path in tmp_path.rglob("*") if "claim" in path.name]


ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from pipeline.errors import UserError
from pipeline.runtime.files import disk_full
from pipeline.runtime.journal import Journal
from pipeline.data.fetch.archive_cache import ArchiveCache
from tests.data.videos.server import SETTINGS

subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", "small"], check=True)
for name in ("a.tar", "a.zip"):
    try:
        ArchiveCache(Path("small"), SETTINGS).find(f"{name}!/v.mp4")
    except UserError as error:
        print(error.problem)
with open("small/fill", "wb") as file:
    try:
        file.write(bytes(10**6))
    except OSError:
        pass
try:
    with Journal(Path("small/journal.jsonl")) as journal:
        journal.add("a", file="x" * 10_000)
except OSError as error:
    print(disk_full(error).problem)
Path("small/fill").unlink()
with Journal(Path("small/journal.jsonl")) as journal:
    assert journal.get("a") == {}
    journal.add("b", file="y")
assert Journal(Path("small/journal.jsonl")).get("b") == {"file": "y"}
subprocess.run(["mount", "-o", "remount,size=4m", "small"], check=True)
for name in ("a.tar", "a.zip"):
    found, member = ArchiveCache(Path("small"), SETTINGS).find(f"{name}!/v.mp4")
    print(found.fetched(member).outcome.value)
left = [path.name for path in Path("small").rglob("*.tmp") if path.is_file()]
print(left)
"""


def test_a_disk_that_is_full_while_unpacking_and_then_is_not(tmp_path: Path, project: Path) -> None:
    """Catches an archive that is lost, or a journal that is spoilt, on a disk that was full.

    The disk is real, if of memory, in mounts of a process's own.
    """
    from tests.data.videos.test_archives import tar, zipped

    files = {"v.mp4": BODY, "w.mp4": BODY + os.urandom(300_000)}
    tar(tmp_path / "a.tar", files)
    zipped(tmp_path / "a.zip", files)
    (tmp_path / "small").mkdir()
    unshare = ["unshare", "--map-root-user", "--mount"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this user may not mount, even within `unshare --map-root-user --mount`")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", ON_A_SMALL_DISK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if not line.startswith("unpacking")]
    full = "the disk is full, or a quota is used up"
    assert said == [full, full, full, "ok", "ok", "[]"], done.stdout + done.stderr
