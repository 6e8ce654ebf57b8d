"""Shards on a server: the same batches as from the disk, and what is said where it fails."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import fsspec.asyn
import numpy as np
import pytest
import torch

from benchmarks.range_server import RangeServer
from pipeline.configuration.schema import Clip, Shards, Views
from pipeline.data.load.clip_reader import read
from pipeline.data.load.decoders import DecodeError
from pipeline.data.load.evaluation_clips import evaluation_batches
from pipeline.data.load.loader import Batch, PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import remote
from pipeline.data.shards.format import ClipEntry, clips_file, summary_file
from pipeline.data.shards.index import DatasetIndex, mapped, read_at, read_bytes
from pipeline.data.shards.shard_stage import pack
from pipeline.errors import UserError
from pipeline.method.masks import TubeMask
from tests.data.load.conftest import levels_video, write_h264

pytest.importorskip("aiohttp", reason="web addresses are read with the extra `cloud`")
HTTPFileSystem = pytest.importorskip("fsspec.implementations.http").HTTPFileSystem
CLIP = Clip(frames=4, stride=1, size=16, scales=(1.0, 0.75), flip=True)
CLIPS = 12


@pytest.fixture(scope="module", params=["h264", "jpeg", "raw"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and an index of twelve clips."""
    folder = tmp_path_factory.mktemp("packed")
    records = []
    for k in range(CLIPS):
        path = folder / f"{k}.mp4"
        write_h264(path, levels_video(6 + k, 32, 40, 20 + 3 * k))
        facts: dict[str, Any] = {"frames": 6 + k, "fps": 8, "width": 40, "height": 32}
        records.append(ClipRecord(id=f"clip.{k:02}", outcome=Outcome.OK, file=str(path), **facts))
    tars = folder / "tars"
    pack(records, tars, 0, Shards(codec=request.param, clips_per_shard=5), folder / "made.json")
    shards = [json.loads(summary_file(tar).read_text()) for tar in sorted(tars.glob("*.tar"))]
    index = {
        "name": "drawn",
        "codec": request.param,
        "shards": shards,
        "census": {"ok": CLIPS},
        "splits": {"train": CLIPS},
        "lost": [],
    }
    (tars / "index.json").write_text(json.dumps(index))
    return tars


@pytest.fixture
def server(packed: Path) -> Iterator[RangeServer]:
    with RangeServer(packed) as server:
        yield server


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.01))


def afar(packed: Path, folder: Path, address: str, cache_gib: float = 0.0) -> list[ClipEntry]:
    """The clips of a copy of the data set whose shards are on the server alone."""
    shutil.copytree(packed, folder, ignore=shutil.ignore_patterns("*.tar"))
    index = json.loads((folder / "index.json").read_text())
    index["storage"] = {"address": address, "cache_gib": cache_gib}
    (folder / "index.json").write_text(json.dumps(index))
    return entries(folder)


def entries(folder: Path) -> list[ClipEntry]:
    return list(DatasetIndex.load(folder).clips(["train"]))


def batches(clips: list[ClipEntry], workers: int = 0) -> list[Batch]:
    sampled = PretrainingClips(clips, CLIP, TubeMask(ratio=0.5), (2, 8, 8), 3, batch_size=4)
    return list(pretraining_batches(sampled, range(2, 9), LoaderOptions(workers=workers)))


def wait_for_reads_ahead(clips: list[ClipEntry]) -> None:
    """The clips of one step more than was taken are on their way when a loader ends."""
    store = remote.of(clips[0].shard.parent)
    assert store is not None
    futures.wait(store._asked.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_from_the_disk(
    packed: Path, tmp_path: Path, server: RangeServer, workers: int
) -> None:
    """Catches a range that is a byte off, a clip that comes in another's place, and connections
    that a forked worker has from its parent."""
    clips = afar(packed, tmp_path / "afar", server.address)
    read_bytes(clips[0])  # this process has connections when it forks
    for own, far in zip(batches(entries(packed)), batches(clips, workers), strict=True):
        assert torch.equal(own.videos, far.videos)
        assert (own.ids, own.failed) == (far.ids, far.failed)
    views = Views(segments=2, crops=1)
    both = (evaluation_batches(some, CLIP, views, 5) for some in (entries(packed), clips))
    assert all(torch.equal(own.videos, far.videos) for own, far in zip(*both, strict=True))


def test_of_images_the_wanted_ones_come_alone(
    packed: Path, tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a range that misses a frame, a whole clip that comes for a few of its images, and
    frames other than the expected ones that are read out of those."""
    clips = afar(packed, tmp_path / "afar", server.address)
    batches(clips)
    wait_for_reads_ahead(clips)
    whole, asked = server.sent, server.requests.total()
    remote.forget()
    monkeypatch.setattr(remote, "LEAST_SAVED", 1)
    for own, far in zip(batches(entries(packed)), batches(clips), strict=True):
        assert torch.equal(own.videos, far.videos)
        assert (own.ids, own.failed) == (far.ids, far.failed)
    wait_for_reads_ahead(clips)
    by_image = clips[0].codec == "jpeg"
    assert (server.sent - whole < 0.9 * whole) == by_image
    assert (server.requests.total() - asked > asked) == by_image
    store = remote.of(clips[0].shard.parent)
    assert store is not None
    store.expect([remote.Wanted(clips[0], (0, 1))])
    for indices in ([0, 1], [4, 5], [1, 0]):
        far, own = (read(clip, np.array(indices)) for clip in (clips[0], entries(packed)[0]))
        assert np.array_equal(far, own)


@pytest.mark.parametrize("packed", ["jpeg"], indirect=True)
def test_offsets_that_are_none_are_told_as_those_on_the_disk_are(
    packed: Path, tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a range that is worked out of damaged offsets, and a failure that is laid upon the
    store."""
    monkeypatch.setattr(remote, "LEAST_SAVED", 1)
    here = tmp_path / "here"
    shutil.copytree(packed, here)
    server.folder = here
    clips = afar(here, tmp_path / "afar", server.address)
    with (here / clips[0].shard.name).open("r+b") as f:
        f.seek(clips[0].table + remote.ARRAY_HEADER + 8)
        f.write(b"\xff" * 8)
    store = remote.of(clips[0].shard.parent)
    assert store is not None
    store.expect([remote.Wanted(clips[0], (1, 2))])
    for clip in (clips[0], entries(here)[0]):
        with pytest.raises(DecodeError, match="offsets do not fit"):
            read(clip, np.array([1, 2]))


def test_clips_are_asked_for_once_and_ahead(
    packed: Path, tmp_path: Path, server: RangeServer
) -> None:
    """Catches a request for each piece of a clip, and clips that are waited for one by one."""
    clips = afar(packed, tmp_path / "afar", server.address)
    server.delay_s = 0.1
    for _ in itertools.islice(evaluation_batches(clips, CLIP, Views(segments=1, crops=1), 4), 3):
        pass
    assert server.requests.total() == CLIPS
    assert server.most_under_way > 3


@pytest.mark.parametrize("packed", ["raw"], indirect=True)
def test_the_first_reads_may_begin_at_once(
    packed: Path, tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches several threads that each start fsspec's loop, where its lock holds none of them:
    reads in all but the last of those loops may never end."""
    made: list[asyncio.AbstractEventLoop] = []

    def slow_loop() -> asyncio.AbstractEventLoop:
        time.sleep(0.1)
        made.append(new_loop())
        return made[-1]

    new_loop = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", slow_loop)
    monkeypatch.setattr(fsspec.asyn, "loop", [None])
    monkeypatch.setattr(fsspec.asyn, "get_lock", threading.Lock)
    HTTPFileSystem.clear_instance_cache()
    batches(afar(packed, tmp_path / "afar", server.address))
    assert len(made) == 1
    HTTPFileSystem.clear_instance_cache()  # or the next test would read in this one's loop


@pytest.mark.parametrize(("cache_gib", "least", "most"), [(1.0, CLIPS, CLIPS), (0.0, 0, 0)])
def test_what_is_kept_is_not_asked_for_again(
    packed: Path, tmp_path: Path, server: RangeServer, cache_gib: float, least: int, most: int
) -> None:
    """Catches a cache that is not read, or that takes damaged files for clips."""
    clips = afar(packed, tmp_path / "afar", server.address, cache_gib)
    first = [read_bytes(clip) for clip in clips]
    files = [path for path in (tmp_path / "afar" / "cache").rglob("*") if path.is_file()]
    assert least <= len(files) <= most
    for file in files[:2]:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    before = server.requests.total()
    remote.forget()
    assert [read_bytes(clip) for clip in clips] == first
    assert server.requests.total() - before == CLIPS - len(files) + len(files[:2])


def test_a_share_is_kept(packed: Path, tmp_path: Path) -> None:
    """Catches a cache beyond its size, and one that keeps other clips each time."""
    size = sum(path.stat().st_size for path in packed.glob("*.tar"))
    clips = afar(packed, tmp_path / "afar", "http://127.0.0.1:1", size / 2 / 2**30)
    store = remote.of(tmp_path / "afar")
    assert store is not None
    assert store.storage.cached_share == pytest.approx(0.5)
    many = [_named(clips[0], f"clip {k}") for k in range(4000)]
    kept = [store.storage.keeps(entry) for entry in many]
    assert 0.47 < np.mean(kept) < 0.53
    assert kept == [store.storage.keeps(entry) for entry in many]


def _named(entry: ClipEntry, name: str) -> ClipEntry:
    parsed = ClipEntry.parse(entry.line(), entry.shard)
    object.__setattr__(parsed, "id", name)
    return parsed


def test_what_a_clip_is_read_in(packed: Path, tmp_path: Path, server: RangeServer) -> None:
    """Catches a part of a clip that lies outside of the range that is asked for."""
    clips = afar(packed, tmp_path / "afar", server.address)
    for clip, own in zip(clips, entries(packed), strict=True):
        with mapped(clip) as far, mapped(own) as here:
            assert far == here
        for offset in {clip.table, clip.checks} - {0}:
            assert read_at(clip, offset, 130) == read_at(own, offset, 130)


def test_a_store_that_fails_at_times(packed: Path, tmp_path: Path, server: RangeServer) -> None:
    """Catches a clip that is lost by one failed answer."""
    clips = afar(packed, tmp_path / "afar", server.address)
    server.failures = 2
    assert read_bytes(clips[0]) == read_bytes(entries(packed)[0])


def test_what_cannot_be_read_is_an_error(packed: Path, tmp_path: Path, server: RangeServer) -> None:
    """Catches a hang, a traceback of the store's own, and an error without place or reason."""
    clips = afar(packed, tmp_path / "afar", server.address)
    server.failures = 99
    with pytest.raises(UserError, match="does not answer") as caught:
        read_bytes(clips[0])
    assert caught.value.place == f"{server.address}/{clips[0].shard.name}"
    server.failures, server.ranges = 0, False
    with pytest.raises(UserError, match="reads no ranges"):
        read_bytes(clips[0])
    server.ranges, server.folder = True, tmp_path
    with pytest.raises(UserError, match="no such shard"):
        read_bytes(clips[0])
    with pytest.raises(UserError, match=r"clip 'clip\.\d\d'"):
        batches(clips)


def test_without_storage_a_missing_shard_is_an_error(packed: Path, tmp_path: Path) -> None:
    """Catches an error that speaks of a store where none was named."""
    shutil.copytree(packed, tmp_path / "here", ignore=shutil.ignore_patterns("*.tar"))
    clip = entries(tmp_path / "here")[0]
    with pytest.raises(UserError, match="No such file"):
        read_bytes(clip)
    assert clips_file(clip.shard).is_file()
