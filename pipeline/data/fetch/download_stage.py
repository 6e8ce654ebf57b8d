"""`python -m pipeline download --chunk K`: fetch, or make, the videos of a chunk.

A source that several clips share (segments of one video, members of one archive) is fetched once,
in whichever chunks they are. What is there already, from the same source, is not fetched again;
what was lost is tried again, but for a YouTube video that is gone for good.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.fetch import leftovers
from pipeline.data.fetch.fetched import Fetched, verify_sha256
from pipeline.data.fetch.sources import Source, SourceFetcher, source_of
from pipeline.data.manifest import chunk_list, local_files, redaction
from pipeline.data.manifest.video_list import Row
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError
from pipeline.runtime import claims
from pipeline.runtime.files import remove_leftovers
from pipeline.runtime.journal import Journal
from pipeline.runtime.progress import Progress

# How decode may call what is the half of a video.
CUT = {Outcome.CORRUPT, Outcome.TOO_SHORT, Outcome.NO_VIDEO_STREAM, Outcome.NOT_A_VIDEO}


def run(params: Params, chunk: int) -> None:
    """Get the chunk's videos, then write the chunk's downloaded manifest.

    Raises:
        UserError: there is no list of this chunk's videos.
    """
    layout = DataLayout(params.data.name)
    listed = layout.chunk_list(chunk)
    if not listed.is_file():
        raise UserError(
            "there is no list of this chunk's videos",
            place=str(listed),
            remedy="python -m pipeline manifest",
        )
    rows = chunk_list.read(listed, layout.manifest)
    sources = [source_of(row, params.data) for row in rows]
    videos = layout.videos(chunk)
    with claims.held(videos, f"waiting for the job that downloads chunk {chunk}"):
        remove_leftovers(videos, layout.downloaded(chunk))
        if chunk == 0:  # one job does it for all: the folders may hold a million files
            for kind in ("web", "youtube", "archives"):
                leftovers.sweep(layout.shared(kind))
        damaged = _damaged(layout.decoded(chunk))
        note = layout.local_files(chunk)
        state = local_files.state(note)
        with (
            Journal(videos / "journal.jsonl") as journal,
            Progress(f"download {chunk}", len(set(sources)), "videos") as progress,
        ):
            fetcher = SourceFetcher(params.data, videos, journal, progress, damaged)
            got = fetcher.fetch(rows)
    clips = [_record(row, source, got[source]) for row, source in zip(rows, sources, strict=True)]
    local_files.write_note(note, state, sources, fetcher.seen)
    ChunkManifest(stage="download", chunk=chunk, clips=clips).write(layout.downloaded(chunk))


def _damaged(decoded: Path) -> frozenset[str]:
    """Return the clips whose files could not be decoded to their end, when that was last tried."""
    try:
        clips = ChunkManifest.read(decoded).clips
    except (UserError, ValueError):  # it was never tried, or by another version
        return frozenset()
    return frozenset(clip.id for clip in clips if clip.stage == "decode" and clip.outcome in CUT)


def _record(row: Row, source: Source, fetched: Fetched) -> ClipRecord:
    """Join a row of the list with what became of its source.

    Of a file that is just the clip's part of a video, all is wanted, from its beginning on.

    Every column that this project does not know may be a label: which of them are is a setting
    of the evaluation, and changing it must not change what was downloaded.
    """
    fetched = verify_sha256(fetched, row.sha256)
    kind, value = source
    # The shards keep this, and should be the same bytes on every machine.
    shown = Path(os.path.relpath(value)).as_posix() if kind == "path" else value
    start, end = row.start, row.end
    if fetched.cut:
        start, end = None, None if end is None else end - (start or 0.0)
    labels = {name: row.column(name) for name in ("label", *row.extra)}
    return ClipRecord(
        id=row.id,
        outcome=fetched.outcome,
        reason=redaction.redact_text(fetched.reason),
        stage="" if fetched.outcome is Outcome.OK else "download",
        file=fetched.file,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        split=row.split,
        labels={name: value for name, value in labels.items() if value},
        source=shown,
        start=start,
        end=end,
    )
