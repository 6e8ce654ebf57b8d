"""The table of clips: the same clips as the lists, whoever reads them."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import clip_table, table_file
from pipeline.data.shards.clip_table import ClipTable, at, counts, ids_of, labels_of, with_ids
from pipeline.data.shards.encode import Member
from pipeline.data.shards.format import ClipEntry, ShardSummary, summary_file
from pipeline.data.shards.writer import open_shard
from pipeline.errors import UserError
from pipeline.runtime.files import read_json

SPLITS = ("train", "test", "val")
CLIPS = 700  # of several record batches


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[ShardSummary, ...]]:
    """Shards whose clips follow one another in no order of theirs, and their table."""
    folder = tmp_path_factory.mktemp("shards")
    shards = []
    for number in range(7):
        split = SPLITS[number % 3]
        with open_shard(folder, split, number, 0, "h264") as shard:
            for n in range(number, CLIPS, 7):
                labels = {"what": f"ü{n % 5}"} if n % 2 else {}
                record = ClipRecord(
                    id=f"clip {n:03d}", outcome=Outcome.OK, frames=8 + n, fps=30 / (1 + n % 2),
                    width=4, height=6, split=split, labels=labels,
                )  # fmt: skip
                shard.add(record, [Member.of("mp4", f"pictures of {n}".encode())])
        shards.append(ShardSummary(**read_json(summary_file(shard.path))))
    table_file.write(folder, tuple(shards))
    return folder, tuple(shards)


def listed(folder: Path, shards: tuple[ShardSummary, ...]) -> list[ClipEntry]:
    """What the lists say, parsed one by one."""
    entries = [entry for shard in shards for entry, _ in table_file.listed(folder, shard)]
    return sorted(entries, key=lambda entry: entry.id)


def test_says_what_the_lists_say(made: tuple[Path, tuple[ShardSummary, ...]]) -> None:
    """Catches a field that is lost or changed on its way through the table, and another order."""
    table, entries = ClipTable.open(*made), listed(*made)
    assert len(table) == len(entries) == CLIPS
    assert list(table) == entries
    assert [table[k] for k in range(-CLIPS, CLIPS)] == entries * 2
    assert list(table[3:600:7]) == entries[3:600:7]
    assert [table[3:600:7][k] for k in (0, -1)] == [entries[3], entries[3:600:7][-1]]
    assert list(table[5:].at([9, 600, 0])) == [entries[14], entries[605], entries[5]]
    with pytest.raises(IndexError):
        table[CLIPS]


@pytest.mark.parametrize("splits", [["train"], ["test", "val"], ["nothing"], list(SPLITS)])
def test_splits(made: tuple[Path, tuple[ShardSummary, ...]], splits: list[str]) -> None:
    """Catches clips of another split, and a choice out of a choice that begins from the whole."""
    table = ClipTable.open(*made).of_splits(splits)
    entries = [entry for entry in listed(*made) if entry.split in splits]
    assert list(table) == entries
    assert list(table[10:20]) == entries[10:20]
    assert list(at(table, [2, 1] if entries else [])) == entries[2:0:-1]


def test_places_by_a_column(
    made: tuple[Path, tuple[ShardSummary, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches clips under another value than their label, also where the column comes in pieces,
    and counts that the order of the clips changes."""
    table = ClipTable.open(*made).of_splits(["train", "val"])
    monkeypatch.setattr(clip_table, "_TOGETHER", 1)
    places = clip_table.places_by(table, "what")
    values = [entry.labels.get("what", "") for entry in table]
    assert {value: found.tolist() for value, found in places.items()} == {
        value: [k for k, each in enumerate(values) if each == value] for value in {*values}
    }
    mixed = at(table, np.concatenate([*places.values()]))
    assert list(mixed) != list(table)
    assert counts(mixed, "fps") == counts(table, "fps")
    listed_places = clip_table.places_by(list(table), "what")
    assert all((listed_places[value] == found).all() for value, found in places.items())


def test_columns_are_those_of_the_clips(made: tuple[Path, tuple[ShardSummary, ...]]) -> None:
    """Catches a count, an id or a label that differs from what reading every clip would give."""
    table = ClipTable.open(*made).of_splits(["train", "val"])[7:]
    entries = list(table)
    for field in ("fps", "codec", "split", "frames"):
        assert counts(table, field) == counts(entries, field)
    assert sorted(counts(table, "shard").values()) == sorted(counts(entries, "shard").values())
    assert list(ids_of(table)) == list(ids_of(entries))
    assert labels_of(table) == labels_of(entries)
    assert clip_table.ids_sha256(table) == clip_table.ids_sha256(entries)
    some = [entries[40].id, entries[3].id]
    assert list(with_ids(table, some)) == with_ids(entries, some) == [entries[40], entries[3]]
    for clips in (table, entries):
        with pytest.raises(KeyError, match="nobody"):
            with_ids(clips, [some[0], "nobody"])


@pytest.mark.parametrize("damage", ["absent", "cut", "garbage", "other shards", "other columns"])
def test_without_a_table_of_these_shards(
    made: tuple[Path, tuple[ShardSummary, ...]], tmp_path: Path, damage: str
) -> None:
    """Catches a data set of before that is not read any more, and a table that is out of date."""
    folder, shards = made
    for path in folder.glob("*.clips.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table, whole = tmp_path / table_file.FILE, (folder / table_file.FILE).read_bytes()
    if damage == "cut":
        table.write_bytes(whole[:-100])
    elif damage == "garbage":
        table.write_bytes(b"nothing of Arrow's")
    elif damage == "other shards":
        table_file.write(tmp_path, (*shards[:-1], replace(shards[-1], sha256="0" * 64)))
    elif damage == "other columns":
        batch = pa.record_batch({"id": ["a"]})
        with pa.ipc.new_file(str(table), batch.schema) as writer:
            writer.write_batch(batch)
    table_in_memory = ClipTable.open(tmp_path, shards)
    assert list(table_in_memory) == listed(tmp_path, shards)
    assert list(table_in_memory.of_splits(["val"])) == [
        entry for entry in listed(tmp_path, shards) if entry.split == "val"
    ]


def test_damaged_within(made: tuple[Path, tuple[ShardSummary, ...]], tmp_path: Path) -> None:
    """Catches a traceback of Arrow's where the place and the remedy belong."""
    folder, shards = made
    content = bytearray((folder / table_file.FILE).read_bytes())
    with pa.OSFile(str(folder / table_file.FILE)) as file:
        assert pa.ipc.open_file(file).num_record_batches == -(-CLIPS // table_file.ROWS)
    middle = len(content) // 2
    content[200:middle] = b"\xff" * (middle - 200)
    (tmp_path / table_file.FILE).write_bytes(content)
    try:
        table = ClipTable.open(tmp_path, shards)
    except UserError:
        return
    with pytest.raises(UserError, match="table of clips cannot be read") as caught:
        list(table)
    assert "index stage" in caught.value.remedy


def test_equal_clips_are_equal_bytes(
    made: tuple[Path, tuple[ShardSummary, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches bytes that change from run to run, and rows that do with what is sorted at a time."""
    folder, shards = made
    entries, before = listed(folder, shards), (folder / table_file.FILE).read_bytes()
    for piece in (table_file.ROWS, table_file._PIECE):
        monkeypatch.setattr(table_file, "_PIECE", piece)
        table_file.write(folder, shards)
        assert list(ClipTable.open(folder, shards)) == entries
    assert (folder / table_file.FILE).read_bytes() == before


def test_other_processes(made: tuple[Path, tuple[ShardSummary, ...]]) -> None:
    """Catches a table that a forked worker or a process of its own reads something else from."""
    table = ClipTable.open(*made).of_splits(["train"])
    entries = list(table)
    assert list(pickle.loads(pickle.dumps(table))) == entries  # noqa: S301 - our own
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        for _ in range(5):
            assert pool.map(table.__getitem__, range(len(table))) == entries


def test_verify_compares_it_with_the_lists(
    made: tuple[Path, tuple[ShardSummary, ...]], tmp_path: Path
) -> None:
    """Catches a list that was changed after the table was made."""
    folder, shards = made
    for path in (*folder.glob("*.clips.jsonl"), folder / table_file.FILE):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert table_file.agrees_with_lists(tmp_path, shards)
    path = next(tmp_path.glob("*.clips.jsonl"))
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | {"offset": 1}) + "\n" + "".join(others))
    assert not table_file.agrees_with_lists(tmp_path, shards)
