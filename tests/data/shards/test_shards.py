"""Shards: readable by others, the same bytes for the same clips, never half there."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.schema import Shards
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import format
from pipeline.data.shards.encode import Member
from pipeline.data.shards.index import read_bytes
from pipeline.data.shards.shard_stage import pack
from pipeline.data.shards.writer import open_shard
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file

IDS = ["plain", "with.dots.mp4", "folder/clip 1", "ünïcode", "100%", "x" * 150, ".hidden", "a-b_c~"]


EMPTY = [Member.of("mp4", b"")]


def contents(clip_id: str) -> bytes:
    """Bytes that differ in size and value from clip to clip."""
    rng = np.random.default_rng(len(clip_id))
    return rng.bytes(100 + 137 * len(clip_id))


MakeRecords = Callable[[list[str]], list[ClipRecord]]


@pytest.fixture
def make_records(tmp_path: Path) -> MakeRecords:
    def make(ids: list[str]) -> list[ClipRecord]:
        records = []
        for i, clip_id in enumerate(ids):
            path = tmp_path / "clips" / f"{i}.mp4"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(contents(clip_id))
            records.append(
                ClipRecord(
                    id=clip_id,
                    outcome=Outcome.OK,
                    file=str(path),
                    sha256=sha256_file(path),
                    frames=8 + i,
                    fps=7.5,
                    width=32,
                    height=24,
                    labels={"what": f"label {i}"},
                    start=0.5,
                )
            )
        return records

    return make


def write(records: list[ClipRecord], folder: Path, per_shard: int = 1000) -> list[ClipRecord]:
    settings = Shards(codec="h264", clips_per_shard=per_shard)
    return pack(records, folder, 3, settings, Path("decoded/3.json"))


def entries_of(folder: Path) -> list[format.ClipEntry]:
    return [
        format.ClipEntry.parse(line, tar)
        for tar in sorted(folder.glob("*.tar"))
        for line in format.clips_file(tar).open(encoding="utf-8")
    ]


def test_tar_lists_it(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches an archive that only our own reader understands; oracle: the tar program."""
    write(make_records(IDS), tmp_path / "out")
    done = subprocess.run(
        ["tar", "-tf", str(tmp_path / "out" / "train-00003-000.tar")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    expected = [f"{format.key_of(i)}.{kind}" for i in sorted(IDS) for kind in ("mp4", "json")]
    assert done.stdout.splitlines() == expected


def test_webdataset_reads_it(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches keys that WebDataset splits elsewhere (dots, slashes); oracle: the package."""
    write(make_records(IDS), tmp_path / "out")
    url = str(tmp_path / "out" / "train-00003-000.tar")
    samples = list(webdataset.WebDataset(url, shardshuffle=False))
    assert [json.loads(sample["json"])["id"] for sample in samples] == sorted(IDS)
    for sample in samples:
        about = json.loads(sample["json"])
        assert format.id_of(sample["__key__"]) == about["id"]
        assert sample["mp4"] == contents(about["id"])
        i = IDS.index(about["id"])
        assert about == {
            "id": IDS[i],
            "frames": 8 + i,
            "fps": 7.5,
            "width": 32,
            "height": 24,
            "split": "train",
            "labels": {"what": f"label {i}"},
            "source": "",
            "start": 0.5,
            "end": None,
        }


def test_entries_point_at_the_bytes(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches a wrong offset, above all after the extended header of a long name."""
    write(make_records(IDS), tmp_path / "out")
    entries = entries_of(tmp_path / "out")
    assert [entry.id for entry in entries] == sorted(IDS)
    for entry in entries:
        assert read_bytes(entry) == contents(entry.id)
        assert entry.labels == {"what": f"label {IDS.index(entry.id)}"}


def test_same_clips_same_bytes(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches time stamps, owners, permissions or the order of the records in the tar."""
    records = make_records(IDS)
    write(records, tmp_path / "one")
    for record in records:
        os.utime(record.file, (1, 1))
        Path(record.file).chmod(0o600)
    write(records[::-1], tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_summary_is_that_of_the_file(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches a running hash or size that misses some of what was written."""
    write(make_records(IDS), tmp_path / "out")
    tar = tmp_path / "out" / "train-00003-000.tar"
    summary = json.loads(format.summary_file(tar).read_text())
    assert summary == {
        "name": tar.name,
        "sha256": sha256_file(tar),
        "bytes": tar.stat().st_size,
        "clips": len(IDS),
        "frames": sum(range(8, 8 + len(IDS))),
        "split": "train",
        "chunk": 3,
        "made_from": summary["made_from"],
    }


def test_parts_and_splits(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches an overfull part, splits that mix, and lost clips that reach a shard."""
    records = make_records([f"clip{i}" for i in range(7)])
    records[5] = records[5].model_copy(update={"split": "test"})
    records[6] = ClipRecord(id="clip6", outcome=Outcome.CORRUPT, reason="no", stage="decode")
    packed = write(records, tmp_path / "out", per_shard=2)
    parts = {tar.name: _members(tar) // 2 for tar in _tars(tmp_path / "out")}
    assert parts == {
        "test-00003-000.tar": 1,
        "train-00003-000.tar": 2,
        "train-00003-001.tar": 2,
        "train-00003-002.tar": 1,
    }
    assert [record.id for record in packed] == [record.id for record in records]
    assert Path(packed[2].file) == tmp_path / "out" / "train-00003-001.tar"
    assert packed[6] == records[6]


def test_stale_parts_go(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches parts of an earlier run that would be read twice, and the removal of others'."""
    folder = tmp_path / "out"
    records = make_records(["a", "b", "c"])
    write(records, folder, per_shard=1)
    settings = Shards(codec="h264", clips_per_shard=1)
    pack(make_records(["d"]), folder, 13, settings, Path("decoded/13.json"))
    write(records[:2], folder, per_shard=2)
    assert [tar.name for tar in _tars(folder)] == ["train-00003-000.tar", "train-00013-000.tar"]
    assert len(list(folder.iterdir())) == 6


def test_no_half_shard(tmp_path: Path) -> None:
    """Catches a tar that lies there after its writer failed."""
    record = ClipRecord(id="a", outcome=Outcome.OK)

    def fail() -> None:
        with open_shard(tmp_path, "train", 0, 0) as writer:
            writer.add(record, [Member.of("mp4", b"video")])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_order_is_enforced(tmp_path: Path) -> None:
    """Catches shards whose bytes depend on the caller's order, and an id that comes twice."""
    with open_shard(tmp_path, "train", 0, 0) as writer:
        writer.add(ClipRecord(id="b", outcome=Outcome.OK), EMPTY)
        for clip_id in ("a", "b"):
            with pytest.raises(ValueError, match="comes after"):
                writer.add(ClipRecord(id=clip_id, outcome=Outcome.OK), EMPTY)


def test_decoded_file_is_gone(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches a traceback where the clip, the file and the remedy belong."""
    records = make_records(["a"])
    Path(records[0].file).unlink()
    with pytest.raises(UserError, match="clip 'a' cannot be read") as caught:
        write(records, tmp_path / "out")
    assert caught.value.place == records[0].file
    assert "decoded/3.json" in caught.value.remedy


def test_decoded_file_has_changed(make_records: MakeRecords, tmp_path: Path) -> None:
    """Catches the packing of bytes that nobody has checked."""
    records = make_records(["a"])
    Path(records[0].file).write_bytes(b"other")
    with pytest.raises(UserError, match="clip 'a' has changed"):
        write(records, tmp_path / "out")
    assert _tars(tmp_path / "out") == []


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_keys_are_reversible(clip_id: str) -> None:
    """Catches two ids with one key, and keys that WebDataset or tar would split."""
    key = format.key_of(clip_id)
    assert format.id_of(key) == clip_id
    assert key.isascii()
    assert not set(key) & set("./ \\")


def test_shard_names() -> None:
    """Catches a chunk's shards that are not recognised as its own, and files taken for shards."""
    assert format.shard_name("train", 7, 2) == "train-00007-002.tar"
    for chunk in (0, 99999, 100000):
        assert format.chunk_of_shard(format.shard_name("val", chunk, 1000)) == chunk
    for name in ("train-7-2.tar", "x.tar", ".train-00007-002.ab.tmp.tar", "train-00007-002.tar.gz"):
        assert format.chunk_of_shard(name) is None


def _members(tar: Path) -> int:
    with tarfile.open(tar) as archive:
        return len(archive.getnames())


def _tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))
