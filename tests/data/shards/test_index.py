"""The index: the census, refusals, and reading clips back from any process."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.range_server import RangeServer
from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.data.shards import index, index_stage, shard_stage
from pipeline.data.shards.index import DatasetIndex, read_bytes
from pipeline.data.shards.verify import problems
from pipeline.errors import UserError
from pipeline.runtime.files import read_json

NAME = "little"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataLayout:
    """An empty project folder to run stages in."""
    monkeypatch.chdir(tmp_path)
    return DataLayout(NAME)


def params(**data: object) -> Params:
    changes = {"name": NAME, "chunks": 3, "max_lost_share": 0.2, "pretrain_splits": ["train"]}
    overrides = [f"data.{key}={json.dumps(value)}" for key, value in (changes | data).items()]
    text = composition.compose(["experiment=tiny", *overrides, "data.shards.clips_per_shard=2"])
    path = Path("params.yaml")
    path.write_text(text)
    return composition.load(path)


def decode(layout: DataLayout, chunk: int, clips: dict[str, str], lost: int = 0) -> None:
    """Write what the decode stage would: clips (id -> split), and some that were lost."""
    records = []
    for clip_id, split in clips.items():
        path = layout.clips(chunk) / f"{clip_id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"video of {clip_id}".encode())
        records.append(
            ClipRecord(
                id=clip_id, outcome=Outcome.OK, file=path.as_posix(), frames=8, split=split,
                width=4, height=4, labels={"what": clip_id[0]},
            )
        )  # fmt: skip
    for i in range(lost):
        records.append(
            ClipRecord(
                id=f"lost{chunk}{i}", outcome=Outcome.TOO_SHORT, reason="1 frame, fewer than 8",
                stage="decode", source="somewhere.mp4",
            )
        )  # fmt: skip
    ChunkManifest(stage="decode", chunk=chunk, clips=records).write(layout.decoded(chunk))


def build(layout: DataLayout, settings: Params) -> None:
    for chunk in range(settings.data.chunks):
        shard_stage.run(settings, chunk)
    index_stage.run(settings)


def decode_three_chunks(layout: DataLayout) -> None:
    decode(layout, 0, {"e": "train", "a": "train", "c": "train"}, lost=1)
    decode(layout, 1, {"b": "test", "d": "train"})
    decode(layout, 2, {})


def test_ids_of_any_characters(layout: DataLayout) -> None:
    """Catches a list of clips that falls apart at a character that Unicode calls a line end."""
    ids = ["a\u2028b", "c\x85d", "e\x0cf", "ü.mp4"]
    decode(layout, 0, dict.fromkeys(ids, "train"))
    build(layout, params(chunks=1))
    assert [c.id for c in DatasetIndex.load(layout.shards).clips(["train"])] == sorted(ids)


def test_whole(layout: DataLayout, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches clips that go missing between the stages, and wrong counts in the census."""
    decode_three_chunks(layout)
    build(layout, params())
    assert "6 clips: 5 ok, 1 too_short; test 1, train 4; 4 shards" in capsys.readouterr().out
    dataset = DatasetIndex.load(layout.shards)
    assert dataset.census == {"ok": 5, "too_short": 1}
    assert dataset.splits == {"test": 1, "train": 4}
    assert dataset.lost == (
        {
            "id": "lost00",
            "outcome": "too_short",
            "reason": "1 frame, fewer than 8",
            "stage": "decode",
            "split": "train",
        },
    )
    assert [shard.name for shard in dataset.shards] == [
        "test-00001-000.tar",
        "train-00000-000.tar",
        "train-00000-001.tar",
        "train-00001-000.tar",
    ]
    clips = dataset.clips(["train"])
    assert [clip.id for clip in clips] == ["a", "c", "d", "e"]
    assert [read_bytes(clip) for clip in clips] == [f"video of {c.id}".encode() for c in clips]
    assert [clip.id for clip in dataset.clips(["test", "train"])] == ["a", "b", "c", "d", "e"]
    assert list(dataset.clips(["val"])) == []
    assert list(problems(dataset)) == []
    sharded = ChunkManifest.read(layout.sharded(0))
    assert sharded.stage == "shard"
    assert sharded.counts == {"ok": 3, "too_short": 1}


def test_again_gives_the_same_bytes(layout: DataLayout) -> None:
    """Catches anything in the outputs that changes from run to run."""
    decode_three_chunks(layout)
    build(layout, params())
    before = {path: path.read_bytes() for path in _files(layout.derived)}
    build(layout, params())
    assert {path: path.read_bytes() for path in _files(layout.derived)} == before


def test_order_does_not_follow_the_chunks(layout: DataLayout) -> None:
    """Catches an order of clips that changes with data.chunks, and shards left from before."""
    decode_three_chunks(layout)
    build(layout, params())
    before = [clip.id for clip in DatasetIndex.load(layout.shards).clips(["train", "test"])]
    everything = {"d": "train", "b": "test", "c": "train", "a": "train", "e": "train"}
    decode(layout, 0, everything)
    build(layout, params(chunks=1))
    after = DatasetIndex.load(layout.shards)
    assert [clip.id for clip in after.clips(["train", "test"])] == before
    assert {path.name for path in layout.shards.glob("*.tar")} == {s.name for s in after.shards}


def test_too_many_lost(layout: DataLayout) -> None:
    """Catches a data set that shrinks without a word; the list must be there to be looked at."""
    decode_three_chunks(layout)
    build(layout, params())
    decode(layout, 2, {}, lost=2)
    with pytest.raises(UserError, match=r"3 of 8 clips .* are lost \(3 too_short\): 37\.5%") as e:
        build(layout, params())
    assert "data/little/lost.csv" in e.value.place
    assert "data.max_lost_share=0.38" in e.value.remedy
    assert not layout.index.exists()
    with layout.lost.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["id"] for row in rows] == ["lost00", "lost20", "lost21"]
    assert rows[0] == {
        "id": "lost00",
        "outcome": "too_short",
        "reason": "1 frame, fewer than 8",
        "stage": "decode",
        "split": "train",
        "source": "somewhere.mp4",
    }
    build(layout, params(max_lost_share=0.38))


@given(st.integers(1, 500), st.integers(1, 500))
def test_share_that_is_proposed_admits(lost: int, present: int) -> None:
    """Catches a remedy that does not help, because it was rounded down."""
    total = lost + present
    assert lost <= index_stage._share_that_admits(lost / total) * total


def test_nothing_to_pretrain_on(layout: DataLayout) -> None:
    """Catches a run that starts without clips; the splits that do have some are named."""
    decode(layout, 0, {"a": "test", "b": "test"})
    with pytest.raises(UserError, match=r"\['train'\], clips there are: test 2"):
        build(layout, params(chunks=1))


def test_no_clips_at_all(layout: DataLayout) -> None:
    """Catches a division by zero."""
    decode(layout, 0, {})
    with pytest.raises(UserError, match="has no clips"):
        build(layout, params(chunks=1))


def test_verify_finds_damage(layout: DataLayout) -> None:
    """Catches a check that looks at sizes only, or at the first shard only."""
    decode_three_chunks(layout)
    build(layout, params())
    dataset = DatasetIndex.load(layout.shards)
    first, second, third, fourth = (layout.shards / shard.name for shard in dataset.shards)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    changed = bytearray(third.read_bytes())
    changed[700] ^= 1
    third.write_bytes(changed)
    size = fourth.stat().st_size
    assert list(problems(dataset)) == [
        f"{first.name}: missing",
        f"{second.name}: {second.stat().st_size} bytes, not {second.stat().st_size + 1}",
        f"{third.name}: other bytes than when it was written",
    ]
    assert fourth.stat().st_size == size


def test_no_index(tmp_path: Path) -> None:
    """Catches a traceback where the place and the remedy belong."""
    with pytest.raises(UserError, match="no index") as caught:
        DatasetIndex.load(tmp_path)
    assert caught.value.place == str(tmp_path / "index.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "codec": "h264", "shards": [1]}'])
def test_damaged_index(text: str, tmp_path: Path) -> None:
    """Catches a traceback on a file that is something else."""
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError, match="not the index"):
        DatasetIndex.load(tmp_path)


def test_damaged_companions(layout: DataLayout) -> None:
    """Catches clips that silently vanish with a line of their list, where only lists are there."""
    decode_three_chunks(layout)
    build(layout, params())
    layout.clip_table.unlink()
    listing = layout.shards / "train-00000-000.clips.jsonl"
    lines = listing.read_text().splitlines(keepends=True)
    dataset = DatasetIndex.load(layout.shards)
    for text, problem in ((lines[0], "2 clips, but 1"), ("{}\n", "cannot be read")):
        listing.write_text(text)
        with pytest.raises(UserError, match=problem) as caught:
            dataset.clips(["train"])
        assert caught.value.place == str(listing)


def test_summary_of_another_run(layout: DataLayout) -> None:
    """Catches an index over shards that belong to another version of the chunk."""
    decode_three_chunks(layout)
    build(layout, params())
    summary = layout.shards / "train-00000-000.shard.json"
    summary.write_text(json.dumps(read_json(summary) | {"clips": 1}))
    with pytest.raises(UserError, match=r"holds 1 clips, its chunk's manifest 2") as caught:
        index_stage.run(params())
    assert "shard --chunk 0" in caught.value.remedy


def test_read_beyond_the_end(layout: DataLayout) -> None:
    """Catches a truncated shard that is read as a shorter video."""
    decode_three_chunks(layout)
    build(layout, params())
    clip = DatasetIndex.load(layout.shards).clips(["train"])[0]
    clip.shard.write_bytes(clip.shard.read_bytes()[: clip.offset + 3])
    index._open.cache_clear()
    with pytest.raises(UserError, match="ends before the end of clip 'a'"):
        read_bytes(clip)


def test_shards_in_a_storage(layout: DataLayout, tmp_path: Path) -> None:
    """Catches a storage that is not in the index, clips here that are read from afar, and an
    address that nothing is read from."""
    decode_three_chunks(layout)
    build(layout, params())
    here = layout.index.read_bytes()
    there = tmp_path / "there"
    there.mkdir()
    with RangeServer(there) as server:
        index_stage.run(params(**{"shards.storage": server.address}))
        clips = DatasetIndex.load(layout.shards).clips(["train", "test"])
        pictures = [read_bytes(clip) for clip in clips]
        assert server.requests.total() == 0
        for tar in layout.shards.glob("*.tar"):
            tar.rename(there / tar.name)
        clips = DatasetIndex.load(layout.shards).clips(["train", "test"])
        assert [read_bytes(clip) for clip in clips] == pictures
        assert server.requests.total() == len(clips)
    index_stage.run(params())
    assert layout.index.read_bytes() == here
    with pytest.raises(UserError, match="brackets") as caught:
        index_stage.run(params(**{"shards.storage": "s3://[::1/shards"}))
    assert "data.shards.storage" in caught.value.place


def test_handles_are_bounded_and_shared(layout: DataLayout) -> None:
    """Catches a handle per clip, a shared file position, and bytes that get mixed up."""
    decode(layout, 0, {f"clip{i:03d}": "train" for i in range(150)})
    build(layout, params(chunks=1))
    clips = list(DatasetIndex.load(layout.shards).clips(["train"]))
    assert len({clip.shard for clip in clips}) == 75
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(read_bytes, clips * 3))
    assert read == [f"video of {clip.id}".encode() for clip in clips] * 3
    assert _open_tars() <= index.OPEN_SHARDS


def _open_tars() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc here to count open files in")
    links = [fd for fd in folder.iterdir() if fd.is_symlink()]  # not the listing's own
    return sum(link.readlink().suffix == ".tar" for link in links)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
