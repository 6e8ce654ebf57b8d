"""`python -m pipeline shard --chunk K`: pack a chunk's decoded clips into tar shards.

A chunk packs in seconds, so an interrupted job packs all of it again; the bytes are the same.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params, Shards
from pipeline.errors import UserError
from pipeline.progress import Progress
from pipeline.records import ChunkManifest, ClipRecord, Outcome
from pipeline.shards import format
from pipeline.shards.writer import open_shard


def run(params: Params, chunk: int) -> None:
    """Read the chunk's decoded manifest, write its shards, then its sharded manifest."""
    layout = DataLayout(params.data.name)
    decoded = ChunkManifest.read(layout.decoded(chunk))
    layout.sharded(chunk).unlink(missing_ok=True)  # it describes the shards about to be replaced
    packed = pack(decoded.clips, layout.shards, chunk, params.data.shards, layout.decoded(chunk))
    ChunkManifest(stage="shard", chunk=chunk, clips=packed).write(layout.sharded(chunk))


def pack(
    clips: list[ClipRecord], folder: Path, chunk: int, settings: Shards, place: Path
) -> list[ClipRecord]:
    """Write the shards of one chunk; return its records, with `file` the shard of each clip.

    Lost clips are passed on as they are. Shards of an earlier run of this chunk that are not
    written again are removed. `place` is the manifest that errors point to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[ClipRecord]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.id):
        if clip.outcome is Outcome.OK:
            splits[clip.split].append(clip)
    packed: dict[str, ClipRecord] = {}
    written: set[str] = set()
    total = sum(map(len, splits.values()))
    with Progress(f"shard {chunk}", total=total, unit="clips") as progress:
        for split, members in sorted(splits.items()):
            for part, start in enumerate(range(0, len(members), settings.clips_per_shard)):
                with open_shard(folder, split, chunk, part, settings.codec) as writer:
                    for clip in members[start : start + settings.clips_per_shard]:
                        writer.add(clip, _decoded_bytes(clip, place))
                        packed[clip.id] = clip.model_copy(update={"file": writer.path.as_posix()})
                        progress.advance()
                written.add(writer.path.name)
    remove_shards(folder, {name for name in shards_of_chunk(folder, chunk) if name not in written})
    return [packed.get(clip.id, clip) for clip in clips]


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
