"""`python -m pipeline download --chunk K`: fetch, or make, the videos of a chunk.

A source that several clips share (segments of one video) is fetched once. What is there already,
from the same source, is not fetched again; what was lost is tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Data, Params
from pipeline.errors import UserError
from pipeline.progress import Progress
from pipeline.records import ChunkManifest, ClipRecord, Outcome
from pipeline.videos import download, manifest
from pipeline.videos.download import Fetched
from pipeline.videos.journal import Journal
from pipeline.videos.manifest import Row

Source = tuple[str, str]  # its kind and its value, as `Row.source` gives them


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
    rows = _rows(listed)
    with (
        Journal(layout.videos(chunk) / "journal.jsonl") as journal,
        Progress(f"download {chunk}", len({row.source for row in rows}), "videos") as progress,
    ):
        got = _Chunk(params.data, layout.videos(chunk), journal, progress).fetch(rows)
    clips = [_record(row, got[row.source]) for row in rows]
    ChunkManifest(stage="download", chunk=chunk, clips=clips).write(layout.downloaded(chunk))


def _rows(listed: Path) -> list[Row]:
    """Read a chunk's list; unlike the user's, it may be empty."""
    if listed.read_bytes().count(b"\n") <= 1:
        return []
    return manifest.read(listed, folder="")


class _Chunk:
    """Gets the sources of one chunk."""

    def __init__(self, data: Data, folder: Path, journal: Journal, progress: Progress) -> None:
        self.data, self.folder, self.journal, self.progress = data, folder, journal, progress
        self.got: dict[Source, Fetched] = {}
        self.lost = 0

    def fetch(self, rows: Iterable[Row]) -> dict[Source, Fetched]:
        """Return what became of each source."""
        wanted: dict[str, dict[Source, list[Row]]] = {"path": {}, "url": {}, "synthetic": {}}
        for row in rows:
            wanted[row.source[0]].setdefault(row.source, []).append(row)
        for (kind, path), _ in wanted["path"].items():
            self._local(kind, path)
        self._synthetic(wanted["synthetic"])
        self._web(wanted["url"])
        return self.got

    def _local(self, kind: str, path: str) -> None:
        """Local files stay where they are; a hash is believed until size or time change."""
        try:
            status = os.stat(path)  # noqa: PTH116 - a string, as in the list
            stamp = f"{status.st_size}:{status.st_mtime_ns}"
        except (OSError, ValueError):
            stamp = ""
        known = self._known((kind, path), stamp)
        self._take((kind, path), known or download.local(Path(path)), stamp, new=not known)

    def _synthetic(self, wanted: dict[Source, list[Row]]) -> None:
        if not wanted:
            return
        from pipeline.videos import synthetic

        settings = self.data.synthetic
        if settings is None:
            raise UserError("the list has synthetic clips", place="data.synthetic is not set")
        parts = {"version": synthetic.VERSION, **settings.model_dump(mode="json")}
        # How many clips there are of each split does not change any one of them.
        for count in ("train", "val", "test"):
            parts.pop(count)
        stamp = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        missing: dict[str, Source] = {}  # id of the clip -> its source
        for source, rows in wanted.items():
            if known := self._known(source, stamp):
                self._take(source, known, stamp, new=False)
            else:
                missing[rows[0].id] = source
        texts = [{"id": name, "synthetic": value} for name, (_, value) in missing.items()]
        for name, path in synthetic.write_videos(settings, texts, self.folder):
            self._take(missing[name], download.inspect(path), stamp, new=True)

    def _web(self, wanted: dict[Source, list[Row]]) -> None:
        missing: dict[Path, Source] = {}
        for source, rows in wanted.items():
            known = self._known(source, "")
            hashes = {row.sha256 for row in rows if row.sha256}
            if known and (not hashes or known.sha256 in hashes):
                self._take(source, known, "", new=False)
            else:
                missing[self.folder / _file_name(source[1])] = source
        if missing:
            asyncio.run(self._web_all(missing))

    async def _web_all(self, missing: dict[Path, Source]) -> None:
        from pipeline.videos import web  # httpx takes a while to import

        requests = [web.Request(source[1], target) for target, source in missing.items()]
        async for request, fetched in web.fetch_all(requests, self.data.download):
            self._take(missing[request.target], fetched, "", new=True)

    def _known(self, source: Source, stamp: str) -> Fetched | None:
        """Return what the journal has of a source, if that is still there."""
        entry = self.journal.get(" ".join(source))
        if not entry or entry["stamp"] != stamp:
            return None
        path = Path(entry["file"])
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return None
        return Fetched(Outcome.OK, "", entry["file"], entry["sha256"], entry["bytes"])

    def _take(self, source: Source, fetched: Fetched, stamp: str, *, new: bool) -> None:
        self.got[source] = fetched
        if fetched.outcome is not Outcome.OK:
            self.lost += 1
        elif new:
            entry = {"file": fetched.file, "sha256": fetched.sha256, "bytes": fetched.bytes}
            self.journal.add(" ".join(source), stamp=stamp, **entry)
        self.progress.advance(1, lost=self.lost)


def _file_name(url: str) -> str:
    """Return a name for a file from the web: unlike any other's, and known again by people."""
    name = Path(unquote(urlsplit(url).path.rpartition("/")[2]))
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", name.stem)[:60]
    suffix = name.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", name.suffix) else ""
    return f"{stem}-{hashlib.sha256(url.encode()).hexdigest()[:16]}{suffix}"


def _record(row: Row, fetched: Fetched) -> ClipRecord:
    """Join a row of the list with what became of its source.

    Every column that this project does not know may be a label: which of them are is a setting
    of the evaluation, and changing it must not change what was downloaded.
    """
    fetched = download.promised(fetched, row.sha256)
    kind, value = row.source
    # The shards keep this, and should be the same bytes on every machine.
    source = Path(os.path.relpath(value)).as_posix() if kind == "path" else value
    labels = {name: row.column(name) for name in ("label", *row.extra)}
    return ClipRecord(
        id=row.id,
        outcome=fetched.outcome,
        reason=fetched.reason,
        stage="" if fetched.outcome is Outcome.OK else "download",
        file=fetched.file,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        split=row.split,
        labels={name: value for name, value in labels.items() if value},
        source=source,
        start=row.start,
        end=row.end,
    )
