"""`python -m pipeline shard --chunk K`: pack a chunk's decoded clips into tar shards.

A shard that is there already, of the same clips and settings, is left as it is: what an interrupted
job has finished, and most of a chunk that a few clips were added to (`shards.parts`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params, Shards
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.data.shards import format, parts
from pipeline.data.shards.encode import encode
from pipeline.data.shards.parts import Part
from pipeline.data.shards.writer import open_shard
from pipeline.errors import UserError
from pipeline.runtime.files import remove_leftovers
from pipeline.runtime.progress import Progress


def run(params: Params, chunk: int) -> None:
    """Read the chunk's decoded manifest, write its shards, then its sharded manifest."""
    layout = DataLayout(params.data.name)
    decoded = ChunkManifest.read(layout.decoded(chunk))
    remove_leftovers(layout.sharded(chunk))
    layout.sharded(chunk).unlink(missing_ok=True)  # it describes the shards about to be replaced
    packed = pack(decoded.clips, layout.shards, chunk, params.data.shards, layout.decoded(chunk))
    ChunkManifest(stage="shard", chunk=chunk, clips=packed).write(layout.sharded(chunk))


def pack(
    clips: list[ClipRecord], folder: Path, chunk: int, settings: Shards, place: Path
) -> list[ClipRecord]:
    """Write the shards of one chunk; return its records, with `file` the shard of each clip.

    `clips` are in the order of the list; lost ones are passed on as they are. Shards of an earlier
    run of this chunk that are none of its parts any more are removed. `place` is the manifest that
    errors point to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(*(folder / f"*-{chunk:05d}-*{suffix}" for suffix in format.SUFFIXES))
    packed: dict[str, ClipRecord] = {}
    present: set[str] = set()
    total = sum(clip.outcome is Outcome.OK for clip in clips)
    with Progress(f"shard {chunk}", total=total, unit="clips") as progress:
        for part in parts.of_chunk(clips, settings.clips_per_shard):
            path = folder / format.shard_name(part.split, chunk, part.number)
            made_from = part.made_from(settings)
            if parts.is_made(path, made_from):
                progress.advance(len(part.clips))
            else:
                _write(part, folder, chunk, made_from, settings, place, progress)
            present.add(path.name)
            for clip in part.clips:
                packed[clip.id] = clip.model_copy(update={"file": path.as_posix()})
    remove_shards(folder, {name for name in shards_of_chunk(folder, chunk) if name not in present})
    return [packed.get(clip.id, clip) for clip in clips]


def _write(
    part: Part,
    folder: Path,
    chunk: int,
    made_from: str,
    settings: Shards,
    place: Path,
    progress: Progress,
) -> None:
    with open_shard(folder, part.split, chunk, part.number, settings.codec, made_from) as writer:
        for clip in part.clips:
            writer.add(clip, encode(_decoded_bytes(clip, place), clip, settings))
            progress.advance()


def shards_of_chunk(folder: Path, chunk: int) -> list[str]:
    """Return the names of the shards that lie in `folder` for a chunk."""
    return [path.name for path in folder.glob("*.tar") if format.chunk_of_shard(path.name) == chunk]


def remove_shards(folder: Path, names: set[str]) -> None:
    """Delete shards and the two files beside each."""
    for name in names:
        shard = folder / name
        for path in (format.summary_file(shard), format.clips_file(shard), shard):
            path.unlink(missing_ok=True)


def _decoded_bytes(clip: ClipRecord, place: Path) -> bytes:
    """Read a decoded clip, which must be the one that its record describes."""
    remedy = f"delete {place.as_posix()} and run again: the chunk's missing clips are decoded anew"
    try:
        video = Path(clip.file).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"the decoded file of clip {clip.id!r} cannot be read: {reason}",
            place=clip.file,
            remedy=remedy,
        ) from None
    if clip.sha256 and hashlib.sha256(video).hexdigest() != clip.sha256:
        raise UserError(
            f"the decoded file of clip {clip.id!r} has changed since it was made",
            place=clip.file,
            remedy=f"delete the file, then {remedy}",
        )
    return video
