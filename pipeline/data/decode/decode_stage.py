"""`python -m pipeline decode --chunk K`: check and transcode each video of a chunk.

One video at a time, with one thread: the workflow runs one job per core.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Decode, Params
from pipeline.data.decode import transcode
from pipeline.data.decode.transcode import Segment
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError
from pipeline.runtime.files import remove_leftovers, sha256_file
from pipeline.runtime.journal import Journal
from pipeline.runtime.progress import Progress

# Limits decide whether a clip is made, not what it looks like.
LIMITS = {"time_limit_s", "memory_limit_mib"}
# Outcomes that another try may change.
TRANSIENT = {Outcome.TIMED_OUT, Outcome.FAILED}


def run(params: Params, chunk: int) -> None:
    """Decode the chunk's videos that are there, then write the chunk's decoded manifest.

    Raises:
        UserError: the chunk was not downloaded.
    """
    layout = DataLayout(params.data.name)
    downloaded = layout.downloaded(chunk)
    if not downloaded.is_file():
        raise UserError(
            "this chunk was not downloaded yet",
            place=str(downloaded),
            remedy=f"python -m pipeline download --chunk {chunk}",
        )
    clips = ChunkManifest.read(downloaded).clips
    folder = layout.clips(chunk)
    remove_leftovers(folder, layout.decoded(chunk))
    records, lost = [], 0
    with (
        Journal(folder / "journal.jsonl") as journal,
        Progress(f"decode {chunk}", len(clips), "videos") as progress,
    ):
        for clip in clips:
            record = _decoded(clip, folder, params.data.decode, journal)
            records.append(record)
            lost += record.outcome is not Outcome.OK
            progress.advance(1, lost=lost)
    _remove_others(folder, records)
    ChunkManifest(stage="decode", chunk=chunk, clips=records).write(layout.decoded(chunk))


def _decoded(clip: ClipRecord, folder: Path, settings: Decode, journal: Journal) -> ClipRecord:
    """Return the clip's record after this stage; do nothing that was done before."""
    if clip.outcome is not Outcome.OK:
        return clip
    fingerprint = _fingerprint(clip, settings)
    target = folder / f"{clip.id}.mp4"
    entry = journal.get(clip.id)
    if entry.get("fingerprint") == fingerprint and _still_true(entry["changes"], target):
        return clip.model_copy(update=_typed(entry["changes"]))
    changes = _transcode(clip, target, settings)
    journal.add(clip.id, fingerprint=fingerprint, changes=changes)
    return clip.model_copy(update=_typed(changes))


def _transcode(clip: ClipRecord, target: Path, settings: Decode) -> dict[str, Any]:
    """Make one clip; return what is to change in its record."""
    source = Path(clip.file)
    lost = {"stage": "decode", "file": "", "sha256": "", "bytes": 0}
    if not source.is_file():
        return lost | {"outcome": Outcome.MISSING, "reason": "the file was there, but is no longer"}
    # Without waiting for the disk as `runtime.files` does: that takes longer than a small clip, and
    # on going on the journal's size and, in the shard stage, its hash tell whether it is whole.
    temporary = target.with_name(f".{clip.id}.tmp.mp4")
    try:
        made = transcode.transcode(source, temporary, Segment(clip.start, clip.end), settings)
        if made.outcome is not Outcome.OK:
            return lost | {"outcome": made.outcome, "reason": made.reason}
        sha256, size = sha256_file(temporary), temporary.stat().st_size
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return asdict(made) | {"file": target.as_posix(), "sha256": sha256, "bytes": size}


def _fingerprint(clip: ClipRecord, settings: Decode) -> str:
    """Hash everything that the clip's bytes depend on."""
    parts = [
        transcode.VERSION,
        clip.sha256,
        clip.start,
        clip.end,
        settings.model_dump(mode="json", exclude=LIMITS),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _still_true(changes: dict[str, Any], target: Path) -> bool:
    if changes["outcome"] == Outcome.OK:
        return target.is_file() and target.stat().st_size == changes["bytes"]
    return changes["outcome"] not in TRANSIENT


def _typed(changes: dict[str, Any]) -> dict[str, Any]:
    return changes | {"outcome": Outcome(changes["outcome"])}


def _remove_others(folder: Path, records: Iterable[ClipRecord]) -> None:
    """Remove clips that the chunk no longer has."""
    kept = {Path(record.file).name for record in records if record.outcome is Outcome.OK}
    for path in folder.glob("*.mp4"):
        if path.name not in kept:
            path.unlink()
