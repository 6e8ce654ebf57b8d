"""Shards of a growing list: few change, and what they hold depends on the list alone."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.schema import Shards
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import parts
from pipeline.data.shards.shard_stage import pack

SIZE = 100  # bytes of a clip


@given(count=st.integers(0, 5000), largest=st.integers(1, 2000))
def test_every_clip_is_in_one_part(count: int, largest: int) -> None:
    """Would catch a clip that is dropped, an overfull shard, and a flood of small ones."""
    found = list(parts.lengths(count, largest))
    assert sum(found) == count
    assert found == sorted(found, reverse=True)
    assert not found or 0 < found[-1] <= found[0] <= largest
    assert len(found) <= count // largest + 9 + max(19, largest // 10 // 8 + 19)


@given(
    count=st.integers(0, 5000), more=st.integers(0, 500), largest=st.sampled_from([10, 100, 1000])
)
def test_what_is_added_leaves_the_full_parts_alone(count: int, more: int, largest: int) -> None:
    """Would catch lengths that depend on the total: every shard would be written again."""
    before, after = (list(parts.lengths(n, largest)) for n in (count, count + more))
    full = count // largest
    assert before[:full] == after[:full] == [largest] * full


def records(folder: Path, count: int) -> list[ClipRecord]:
    folder.mkdir(exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        path.write_bytes(number.to_bytes(2, "big") * (SIZE // 2))
        # Ids whose order is not that of the list.
        name = f"{number * 7919 % 10007:05d}"
        made.append(ClipRecord(id=name, outcome=Outcome.OK, file=str(path), frames=9, width=2))
    return made


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*.tar"))}


def age(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, ns=(1, 1))


def test_a_chunk_that_grows_writes_its_last_shards_and_ends_as_if_made_at_once(
    tmp_path: Path,
) -> None:
    """Would catch needless writing, a shard of former clips that stays, and shards that depend on
    what was there before."""
    settings = Shards(codec="h264", clips_per_shard=1000)
    place = tmp_path / "decoded.json"
    all_of_them = records(tmp_path / "clips", 640)
    grown, at_once = tmp_path / "grown", tmp_path / "at_once"
    pack(all_of_them[:633], grown, 0, settings, place)
    age(grown)
    packed = pack(all_of_them, grown, 0, settings, place)
    written = [name for name, stamp in stamps(grown).items() if stamp != 1]
    assert written == ["train-00000-009.tar"], "parts of 6 x 100, 3 x 10, 3: the last has 10 now"

    assert pack(all_of_them, at_once, 0, settings, place) == [
        clip.model_copy(update={"file": clip.file.replace("grown", "at_once")}) for clip in packed
    ]
    names = sorted(path.name for path in grown.iterdir())
    assert names == sorted(path.name for path in at_once.iterdir())
    for name in names:
        assert (grown / name).read_bytes() == (at_once / name).read_bytes(), name


def test_what_a_shard_is_made_of_decides_whether_it_is_made_again(tmp_path: Path) -> None:
    """Would catch a shard that outlives its clips, labels or codec, and a cut one that is kept."""
    settings = Shards(codec="h264", clips_per_shard=10)
    clips = records(tmp_path / "clips", 30)
    folder, place = tmp_path / "out", tmp_path / "decoded.json"

    def written(now: list[ClipRecord]) -> list[str]:
        age(folder)
        pack(now, folder, 0, settings, place)
        return [name[-7:-4] for name, stamp in stamps(folder).items() if stamp != 1]

    pack(clips, folder, 0, settings, place)
    assert written(clips) == []
    relabelled = [*clips[:12], clips[12].model_copy(update={"labels": {"a": "b"}}), *clips[13:]]
    assert written(relabelled) == ["001"]
    other = [*relabelled[:29], relabelled[29].model_copy(update={"sha256": ""})]
    assert written(other) == []
    os.truncate(folder / "train-00000-000.tar", 512)
    assert written(other) == ["000"]
    lost = [clips[0].model_copy(update={"outcome": Outcome.CORRUPT, "reason": "x"}), *other[1:]]
    assert written(lost) == ["000"], "the places of the others stay"
    assert written(lost[:20]) == []
    assert len(stamps(folder)) == 2
