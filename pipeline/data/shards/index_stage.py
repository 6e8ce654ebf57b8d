"""`python -m pipeline index`: list all shards, take the census, refuse what is not fit to use."""

from __future__ import annotations

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Data, Params
from pipeline.data.manifest import addresses
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome, in_order
from pipeline.data.shards import format, table_file
from pipeline.data.shards.index import DatasetIndex
from pipeline.data.shards.shard_stage import remove_shards
from pipeline.errors import UserError
from pipeline.runtime.files import read_json, remove_leftovers, write_json, write_text
from pipeline.runtime.spreadsheets import cell


def run(params: Params) -> None:
    """Merge the sharded manifests of all chunks into `index.json`; print the census.

    Where each clip is goes to `clips.arrow` (`shards.table_file`).

    What pretraining depends on, a hash of the pictures to learn from, goes to `pictures.json`.

    Raises UserError where more than `data.max_lost_share` of the clips is lost, or none is left
    to pretrain on. The lost clips are listed in `lost.csv` before that.
    """
    data = params.data
    _refuse_bad_address(data.shards.storage)
    layout = DataLayout(data.name)
    remove_leftovers(layout.index, layout.clip_table, layout.pictures, layout.lost)
    layout.index.unlink(missing_ok=True)  # a refused data set keeps no index of better days
    census, shards = Census(), []
    for chunk in range(data.chunks):
        manifest = ChunkManifest.read(layout.sharded(chunk))
        census.add(manifest.clips)
        shards += _summaries(layout.shards, manifest)
    census.lost.sort(key=lambda clip: clip.id)
    _write_lost(layout.lost, census.lost)
    _refuse_unfit(data, census, layout.lost)

    _remove_unlisted(layout.shards, {shard.name for shard in shards})
    shards.sort(key=lambda each: each.name)
    table_file.write(layout.shards, tuple(shards))
    splits, losses = dict(sorted(census.splits.items())), tuple(map(_loss, census.lost))
    index = DatasetIndex(
        layout.shards, data.name, data.shards.codec, tuple(shards), census.counts, splits, losses
    )
    pictures = index.pictures(data.pretrain_splits)
    _write_pictures(layout.pictures, pictures._asdict() | {"splits": list(data.pretrain_splits)})
    body = {
        "name": data.name,
        "codec": data.shards.codec,
        "shards": [_entry(shard) for shard in shards],
        "census": census.counts,
        "splits": splits,
        "lost": losses,
    }
    if data.shards.storage is not None:
        storage = {"address": data.shards.storage, "cache_gib": data.shards.storage_cache_gib}
        body["storage"] = storage
    write_json(layout.index, body)
    print(_summary_line(data.name, census, splits, len(shards)))


@dataclass
class Census:
    """How the clips of a data set ended. Only the lost ones are kept: there may be millions."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)  # of the clips that are there
    lost: list[ClipRecord] = field(default_factory=list)

    def add(self, clips: Sequence[ClipRecord]) -> None:
        """Count these clips, too."""
        for clip in clips:
            self.outcomes[clip.outcome] += 1
            if clip.outcome is Outcome.OK:
                self.splits[clip.split] += 1
            else:
                self.lost.append(clip)

    @property
    def counts(self) -> dict[str, int]:
        return in_order(self.outcomes)


def _entry(shard: format.ShardSummary) -> dict[str, object]:
    """Return a shard's entry: what it holds, not by which code, which may change no byte of it."""
    body = asdict(shard)
    del body["made_from"]
    return body


def _summaries(folder: Path, manifest: ChunkManifest) -> list[format.ShardSummary]:
    """Read the summary of every shard that holds a clip of this chunk; check the counts."""
    held = Counter(Path(c.file).name for c in manifest.clips if c.outcome is Outcome.OK)
    summaries = []
    for name, count in sorted(held.items()):
        path = format.summary_file(folder / name)
        remedy = f"run `python -m pipeline shard --chunk {manifest.chunk}` again"
        try:
            summary = format.ShardSummary(**read_json(path))
        except (OSError, ValueError, TypeError) as error:
            problem = f"the summary of shard {name} cannot be read: {error}"
            raise UserError(problem, place=str(path), remedy=remedy) from None
        if summary.clips != count:
            problem = f"shard {name} holds {summary.clips} clips, its chunk's manifest {count}"
            raise UserError(problem, place=str(path), remedy=remedy)
        summaries.append(summary)
    return summaries


def _refuse_unfit(data: Data, census: Census, place: Path) -> None:
    clips, lost = census.outcomes.total(), len(census.lost)
    if not clips:
        raise UserError(
            f"data set {data.name!r} has no clips", remedy="give data.manifest a list with rows"
        )
    reasons = census.counts.items()
    counts = ", ".join(f"{n} {name}" for name, n in reasons if name != Outcome.OK)
    if lost > data.max_lost_share * clips:
        share = lost / clips
        raise UserError(
            f"{lost} of {clips} clips of data set {data.name!r} are lost ({counts}): "
            f"{share:.1%}, more than data.max_lost_share = {data.max_lost_share:.1%}",
            place=f"{place.as_posix()} lists them, with reasons",
            remedy="repair or remove these clips, or accept the loss with "
            f"data.max_lost_share={_share_that_admits(share)}",
        )
    if not any(census.splits[split] for split in data.pretrain_splits):
        there = census.splits.items()
        splits = ", ".join(f"{name} {count}" for name, count in sorted(there)) or "none"
        lost_of = f"; lost: {counts}, see {place.as_posix()}" if lost else ""
        raise UserError(
            f"no clip of data set {data.name!r} is left to pretrain on: data.pretrain_splits is "
            f"{list(data.pretrain_splits)}, clips there are: {splits}{lost_of}",
            remedy="name a split that has clips, or repair the lost ones",
        )


def _refuse_bad_address(storage: str | None) -> None:
    if storage is not None and (fault := addresses.fault(storage)):
        raise UserError(
            f"the storage of shards {fault}",
            place=f"data.shards.storage: {storage}",
            remedy="give the address of the folder that the .tar files are in",
        )


def _share_that_admits(share: float) -> float:
    """Return `share` rounded up to two decimals, so that it may be typed."""
    return min(1.0, -(-share * 100 // 1) / 100)


def _loss(clip: ClipRecord) -> dict[str, str]:
    return {
        "id": clip.id,
        "outcome": clip.outcome.value,
        "reason": clip.reason,
        "stage": clip.stage,
        "split": clip.split,
    }


def _write_lost(path: Path, lost: Sequence[ClipRecord]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["id", "outcome", "reason", "stage", "split", "source"], lineterminator="\n"
    )
    writer.writeheader()
    rows = (_loss(clip) | {"source": clip.source} for clip in lost)
    writer.writerows({name: cell(text) for name, text in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _remove_unlisted(folder: Path, listed: set[str]) -> None:
    """Delete shards of chunks that no longer exist (`data.chunks` was larger before).

    And what killed writers of shards left: none is at work on a data set that is indexed.
    """
    remove_leftovers(*(folder / f"*-*-*{suffix}" for suffix in format.SUFFIXES))
    there = {
        path.name for path in folder.glob("*.tar") if format.chunk_of_shard(path.name) is not None
    }
    remove_shards(folder, there - listed)


def _write_pictures(path: Path, body: dict[str, object]) -> None:
    """Leave the file as it is where it says so already: its time stamp says when that changed."""
    with contextlib.suppress(OSError, ValueError):
        if read_json(path) == body:
            return
    write_json(path, body)


def _summary_line(name: str, census: Census, splits: dict[str, int], shards: int) -> str:
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in census.counts.items())
    where = ", ".join(f"{split} {count:,}" for split, count in splits.items())
    return f"{name}: {census.outcomes.total():,} clips: {outcomes}; {where}; {shards} shards"
