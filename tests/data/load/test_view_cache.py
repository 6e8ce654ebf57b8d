"""Decoded views on disk: the same pixels, from whatever state the folder is in."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.configuration.schema import Clip, Views
from pipeline.data.load.evaluation_clips import evaluation_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.evaluation.clips import caches

CLIP = Clip(frames=4, stride=2, size=24, scales=(1.0,), flip=False)
VIEWS = Views(segments=2, crops=3)


@pytest.fixture
def cache(tmp_path: Path) -> ViewCache:
    return ViewCache.of(tmp_path / "views", CLIP, VIEWS, "code")


def looked_at(entries: list[ClipEntry], cache: ViewCache | None, workers: int = 0) -> torch.Tensor:
    batches = evaluation_batches(
        entries, CLIP, VIEWS, 2, LoaderOptions(workers=workers), cache=cache
    )
    return torch.cat([batch.videos for batch in batches])


def files(cache: ViewCache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def test_what_is_kept_is_what_was_decoded(
    entries: list[ClipEntry], cache: ViewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches views of another clip or shape, and a clip that is decoded a second time."""
    expected = looked_at(entries, None)
    assert torch.equal(looked_at(entries, cache, workers=1), expected)
    assert len(files(cache)) == len(entries)
    monkeypatch.setattr("pipeline.data.load.clip_reader.read", None)  # whoever decodes fails
    assert torch.equal(looked_at(entries[::-1], cache), expected.flip(0))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_what_is_damaged_is_decoded_again(
    entries: list[ClipEntry], cache: ViewCache, damage: str
) -> None:
    """Catches pixels of a half-written or rotten file (a job killed while it wrote one), and such a
    file that stays as it is."""
    expected = looked_at(entries[:2], cache)
    sound = [path.read_bytes() for path in files(cache)]
    path = files(cache)[0]
    body = bytearray(sound[0])
    body[-5] ^= 1
    broken = {"cut": sound[0][:-9], "flipped": body, "empty": b"", "longer": sound[0] + b"x"}
    path.write_bytes(broken[damage])
    assert torch.equal(looked_at(entries[:2], cache), expected)
    assert [path.read_bytes() for path in files(cache)] == sound


def test_a_damaged_clip_is_not_found_in_it(
    entries: list[ClipEntry], cache: ViewCache, tmp_path: Path
) -> None:
    """Catches a clip whose shard has rotten, answered as if it had not."""
    looked_at(entries[:1], cache)
    shard = bytearray(entries[0].shard.read_bytes())
    shard[entries[0].offset : entries[0].offset + 64] = bytes(64)
    damaged = tmp_path / entries[0].shard.name
    damaged.write_bytes(shard)
    with pytest.raises(UserError, match="cannot be decoded"):
        looked_at([replace(entries[0], shard=damaged)], cache)


def test_views_of_other_settings_are_others(tmp_path: Path) -> None:
    """Catches views that are taken for those of another size, choice of frames, or code."""
    kinds = [
        ViewCache.of(tmp_path, CLIP, VIEWS, "code"),
        ViewCache.of(tmp_path, CLIP, VIEWS, "other code"),
        ViewCache.of(tmp_path, CLIP, VIEWS.model_copy(update={"segments": 3}), "code"),
        *(
            ViewCache.of(tmp_path, CLIP.model_copy(update={name: 48}), VIEWS, "code")
            for name in ("frames", "stride", "size")
        ),
    ]
    assert len({kind.folder for kind in kinds}) == len(kinds)
    flipped: Clip = CLIP.model_copy(update={"flip": not CLIP.flip})  # no matter of evaluation
    assert ViewCache.of(tmp_path, flipped, VIEWS, "code") == kinds[0]


def test_a_disk_that_is_full_costs_the_cache_alone(
    entries: list[ClipEntry], cache: ViewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an evaluation that ends because what could be spared does not fit on the disk."""
    expected = looked_at(entries, None)

    def full(pixels: object) -> bytes:  # once the file is open
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.data.load.view_cache._sum", full)
    assert torch.equal(looked_at(entries, cache), expected)
    assert files(cache) == []


def test_it_never_takes_more_than_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a cache that fills the disk: views of an evaluation that is too large, and those of
    one setting after the other."""
    clip = 3 * CLIP.frames * CLIP.size**2
    most = 10 * clip / 2**30
    assert caches(tmp_path, CLIP, {VIEWS: 2}, most, "evaluate x") == {}
    assert capsys.readouterr().out.startswith("[evaluate x] decoded views would take 0.0 GiB: ")
    old, recent = tmp_path / "old", tmp_path / "recent"
    for age, folder in enumerate((recent, old)):
        (folder / "00").mkdir(parents=True)
        (folder / "00" / "x").write_bytes(bytes(3 * clip))
        os.utime(folder, (1e9 - age, 1e9 - age))
    (kept,) = caches(tmp_path, CLIP, {VIEWS: 1}, most, "evaluate x").values()
    assert not old.exists()
    assert recent.exists()
    assert kept.folder.parent == tmp_path
