"""Gets the sources of a chunk's clips, each by its kind, and each once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Data
from pipeline.data.fetch import archives, dispatch
from pipeline.data.fetch.archive_cache import ArchiveCache
from pipeline.data.fetch.archive_rar import TakesUnrar
from pipeline.data.fetch.archives import FETCHES, Unpacked
from pipeline.data.fetch.fetched import Fetched, failed, fetches, inspect, inspect_local
from pipeline.data.fetch.partial import target_path
from pipeline.data.manifest import redaction
from pipeline.data.manifest.local_files import Seen, stamp_of
from pipeline.data.manifest.video_list import Row
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime.journal import Journal
from pipeline.runtime.progress import Progress

LONGEST_REASON = 300  # letters; what is quoted of an address can be as long as a line of a list

Source = tuple[str, str]  # its kind and its value, as `source_of` gives them


def source_of(row: Row, data: Data) -> Source:
    """Return what is fetched for a clip; clips of equal sources share a file.

    An address is redacted: this is written down, and passed on. The row has the whole one.
    Of a YouTube video only the clip's part is fetched, so the part is in the value: `ID@10-20`.
    """
    kind, value = row.source
    part = row.start is not None or row.end is not None
    if kind == "youtube_id" and part and not data.download.youtube.whole:
        ends = ("" if second is None else f"{second:g}" for second in (row.start, row.end))
        return kind, f"{value}@{'-'.join(ends)}"
    return kind, redaction.redact(value) if kind == "url" else value


class SourceFetcher:
    """Gets the sources of one chunk; `videos` is the folder for what it makes itself."""

    def __init__(
        self,
        data: Data,
        videos: Path,
        journal: Journal,
        progress: Progress,
        damaged: Collection[str] = (),
    ) -> None:
        """`damaged`: clips that the decode stage found damaged when it last ran."""
        self.data, self.videos, self.journal, self.progress = data, videos, journal, progress
        self.damaged = damaged
        self.layout = DataLayout(data.name)
        self.got: dict[Source, Fetched] = {}
        self.seen: dict[str, Seen] = {}  # files of this machine that the list names, by path
        self.lost = 0
        self.archives = ArchiveCache(self.layout.shared("archives"), data.download)

    def fetch(self, rows: Iterable[Row]) -> dict[Source, Fetched]:
        """Return what became of each source."""
        by_kind: dict[str, dict[Source, list[Row]]] = {}
        for row in rows:
            source = source_of(row, self.data)
            kind = source[0]
            if kind in ("path", "url") and archives.split(source[1]):
                kind = "archives"
            by_kind.setdefault(kind, {}).setdefault(source, []).append(row)
        for kind, path in by_kind.get("path", {}):
            stamp = self._file((kind, path), path, self._local)
            self.seen[path] = (stamp, self.got[kind, path].sha256)
        self._synthetic(by_kind.get("synthetic", {}))
        self._addresses(by_kind.get("url", {}))
        for source, alike in by_kind.get("archives", {}).items():
            self._member(source, alike[0])
        self._youtube(by_kind.get("youtube_id", {}))
        return self.got

    def _file(self, source: Source, path: str, inspect_file: Callable[[Path], Fetched]) -> str:
        """Files stay where they are; a hash is believed until size or time change.

        Returns that stamp.
        """
        stamp = stamp_of(path)
        known = self._known(source, stamp)
        self._take(source, known or self._inspected(inspect_file, Path(path)), stamp, new=not known)
        return stamp

    def _local(self, path: Path) -> Fetched:
        return inspect_local(path, self.data.download.max_bytes)

    def _inspected(self, inspect_file: Callable[[Path], Fetched], path: Path) -> Fetched:
        try:
            return inspect_file(path)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            return failed(error)

    def _synthetic(self, rows_by_source: dict[Source, list[Row]]) -> None:
        if not rows_by_source:
            return
        from pipeline.data import synthetic

        settings = self.data.synthetic
        if settings is None:
            raise UserError("the list has synthetic clips", place="data.synthetic is not set")
        parts = {"version": synthetic.VERSION, **settings.model_dump(mode="json")}
        # How many clips there are of each split does not change any one of them.
        for count in ("train", "val", "test"):
            parts.pop(count)
        stamp = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        missing: dict[str, Source] = {}  # id of the clip -> its source
        for source, rows in rows_by_source.items():
            if known := self._known(source, stamp):
                self._take(source, known, stamp, new=False)
            else:
                missing[rows[0].id] = source
        texts = [{"id": name, "synthetic": value} for name, (_, value) in missing.items()]
        for name, path in synthetic.write_videos(settings, texts, self.videos):
            self._take(missing[name], inspect(path), stamp, new=True)

    def _addresses(self, rows_by_source: dict[Source, list[Row]]) -> None:
        """Fetch what is on the web, or in a store, into the folder that all chunks share."""
        if not rows_by_source:
            return
        from pipeline.data.fetch.request import Request

        missing: dict[Path, Source] = {}
        requests = []
        for source, rows in rows_by_source.items():
            known = self._known(source, "")
            hashes = frozenset(row.sha256 for row in rows if row.sha256)
            cut_short = self._cut_short(known, rows)
            if known and not cut_short and (not hashes or known.sha256 in hashes):
                self._take(source, known, "", new=False)
                continue
            target = target_path(self.layout.shared("web"), source[1])
            missing[target] = source
            requests.append(Request(rows[0].url, target, hashes, cut_short))

        def take(target: Path, fetched: Fetched) -> None:
            self._take(missing[target], fetched, "", new=True)

        dispatch.fetch(requests, self.data.download, take)

    def _cut_short(self, known: Fetched | None, rows: Iterable[Row]) -> str:
        """Return the hash of a file that came without a length, and cannot be decoded to its end.

        It may have been the half of one, so it is fetched again, though not for ever.
        """
        if known is None or not any(row.id in self.damaged for row in rows):
            return ""
        return known.sha256 if 0 < fetches(Path(known.file)) < FETCHES else ""

    def _member(self, source: Source, row: Row) -> None:
        """Get a file in an archive, which is unpacked whole if it was not yet."""
        unpacked: Unpacked | Fetched
        try:
            unpacked, member = self.archives.find(row.source[1])
        except TakesUnrar as error:  # of this archive alone
            unpacked, member = Fetched(Outcome.FAILED, f"{error.problem}: {error.remedy}"), ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            unpacked, member = failed(error), ""
        if isinstance(unpacked, Fetched):
            self._take(source, unpacked, "", new=True)
        else:
            path = unpacked.path(member).as_posix()
            self._file(source, path, lambda _: unpacked.fetched(member))

    def _youtube(self, rows_by_source: dict[Source, list[Row]]) -> None:
        if not rows_by_source:
            return
        from pipeline.data.fetch import youtube

        settings = self.data.download
        asked_as = f"cookies: {settings.youtube.cookies}"  # who logs in may see more
        missing: dict[Path, Source] = {}
        requests = []
        for source, rows in rows_by_source.items():
            known = self._known(source, "") or self._gone(source, asked_as)
            if known:
                self._take(source, known, "", new=False)
                continue
            row = rows[0]
            part = (row.start, row.end) if "@" in source[1] else (None, None)
            target = target_path(self.layout.shared("youtube"), f"youtube:/{source[1]}", ".video")
            missing[target] = source
            requests.append(youtube.YoutubeRequest(row.youtube_id, target, *part))
        rest = self.layout.shared("youtube") / "refused.json"
        for request, fetched in youtube.fetch_all(requests, settings, rest):
            source = missing[request.target]
            self._take(source, fetched, "", new=True)
            if fetched.outcome in youtube.FINAL:
                entry = {"outcome": fetched.outcome.value, "reason": fetched.reason}
                self.journal.add(_key(source), stamp=asked_as, **entry)

    def _gone(self, source: Source, asked_as: str) -> Fetched | None:
        """Return why a video will not be had, if that was found out before."""
        entry = self.journal.get(_key(source))
        if "outcome" not in entry or entry["stamp"] != asked_as:
            return None
        return Fetched(Outcome(entry["outcome"]), entry["reason"])

    def _known(self, source: Source, stamp: str) -> Fetched | None:
        """Return what the journal has of a source, if that is still there."""
        entry = self.journal.get(_key(source))
        if not entry or entry["stamp"] != stamp or "file" not in entry:
            return None
        path = Path(entry["file"])
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return None
        cut = entry.get("cut", False)
        return Fetched(Outcome.OK, "", entry["file"], entry["sha256"], entry["bytes"], cut)

    def _take(self, source: Source, fetched: Fetched, stamp: str, *, new: bool) -> None:
        # What a reason quotes is from outside: names, answers, addresses.
        printable = "".join(c if c.isprintable() else " " for c in fetched.reason)
        reason = " ".join(printable.split())
        if len(reason) > LONGEST_REASON:
            reason = reason[: LONGEST_REASON - 3] + "..."
        fetched = replace(fetched, reason=reason)
        self.got[source] = fetched
        if fetched.outcome is not Outcome.OK:
            self.lost += 1
        elif new:
            entry = {"file": fetched.file, "sha256": fetched.sha256, "bytes": fetched.bytes}
            cut = {"cut": True} if fetched.cut else {}
            self.journal.add(_key(source), stamp=stamp, **entry, **cut)
        self.progress.advance(1, lost=self.lost)


def _key(source: Source) -> str:
    """Return a source's key in the journal; an address may hold a password."""
    kind, value = source
    if "://" in value:
        value = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
    return f"{kind} {value}"
