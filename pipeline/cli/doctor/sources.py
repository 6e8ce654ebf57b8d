"""The list of videos, and what it takes to fetch those that it names."""

from __future__ import annotations

import csv
import datetime
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.doctor.workplace import version_of
from pipeline.configuration.schema import Params
from pipeline.data.fetch.remote import EXTRAS
from pipeline.data.manifest import addresses
from pipeline.errors import how_to_install

MOST_ROWS = 1_000_000  # that are looked at
OLD_DAYS = 90  # yt-dlp has to follow YouTube, which changes every few weeks
ARCHIVE = "!/"


@dataclass
class ListSummary:
    """What a list asks for: rows of each kind of source, schemes of addresses, seconds of clips."""

    rows: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    schemes: set[str] = field(default_factory=set)
    has_rar: bool = False
    timed: int = 0  # rows with both start and end
    seconds: float = 0.0  # of these
    missing_files: int = 0
    first_missing: str = ""

    def add(self, row: dict[str, str], folder: Path) -> None:
        """Count a row of a list that lies in a folder."""
        self.rows += 1
        kind = next((k for k in ("path", "url", "youtube_id", "synthetic") if row.get(k)), "")
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        source = row.get(kind) or ""
        self.has_rar |= ARCHIVE in source and ".rar" in source
        if kind == "url":
            self.schemes.add(addresses.scheme_of(source))
        if kind == "path" and ARCHIVE not in source and not (folder / source).is_file():
            self.missing_files += 1
            self.first_missing = self.first_missing or source
        try:
            seconds = float(row["end"]) - float(row["start"] or 0)
        except (KeyError, TypeError, ValueError):
            return
        self.timed += 1
        self.seconds += seconds


def summarised(list_path: Path) -> ListSummary:
    """Count what is in a list, without complaining: that is the manifest stage's work."""
    counted = ListSummary()
    with list_path.open(encoding="utf-8-sig", newline="", errors="replace") as handle:
        for row in csv.DictReader(handle):
            if counted.rows >= MOST_ROWS:
                break
            counted.add(row, list_path.parent)
    return counted


def listed(params: Params) -> Iterator[Finding]:
    """The list itself."""
    data = params.data
    if data.manifest is None:
        yield ok("list", "the embedded data set: nothing to fetch")
        return
    path = Path(data.manifest)
    if not path.is_file():
        remedy = "write it there, or give data.manifest another path (docs/sources.md)"
        yield missing("list", f"{path} is not there", remedy, needed=True)
        return
    counted = summarised(path)
    kinds = ", ".join(f"{count:,} {kind or 'no source'}" for kind, count in counted.kinds.items())
    if not counted.missing_files:
        yield ok("list", f"{path}: {kinds}")
    elif counted.missing_files == counted.rows:
        remedy = f"paths are relative to the list's folder, {path.parent}"
        problem = f"{path}: none of {counted.rows:,} files is there"
        yield missing("list", problem, remedy, needed=True)
    else:
        yield warning(
            "list",
            f"{path}: {kinds}; {counted.missing_files:,} files are not there, such as "
            f"{counted.first_missing}",
            "they will be recorded as missing; paths are relative to the list's folder",
        )


def fetching(params: Params) -> Iterator[Finding]:
    """Packages and programs for the kinds of sources; needed where the list has such rows."""
    path = Path(params.data.manifest or "")
    counted = summarised(path) if params.data.manifest and path.is_file() else ListSummary()
    yield from _stores(counted)
    yield _rar(counted)
    yield from _youtube(params, counted)


def _stores(counted: ListSummary) -> Iterator[Finding]:
    import fsspec

    for scheme in sorted({"s3", "gs"} | (counted.schemes - set(addresses.WEB))):
        try:
            fsspec.get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            extra = EXTRAS.get(scheme)
            remedy = how_to_install(extra) if extra else f"install it: {error}"
            needed = scheme in counted.schemes
            yield missing(f"{scheme}://", "no package", remedy, needed=needed)
        else:
            yield ok(f"{scheme}://", "fsspec can read it")


def _rar(counted: ListSummary) -> Finding:
    program = shutil.which("unrar") or shutil.which("bsdtar")
    if program:
        return ok("rar archives", Path(program).name)
    return missing(
        "rar archives",
        "neither unrar nor bsdtar",
        "for UCF101 and HMDB51: install libarchive-tools (Debian, Ubuntu), libarchive (conda)",
        needed=counted.has_rar,
    )


def _youtube(params: Params, counted: ListSummary) -> Iterator[Finding]:
    needed = bool(counted.kinds.get("youtube_id"))
    version = version_of("yt-dlp")
    if not version:
        yield missing("yt-dlp", "not installed", "make setup", needed=needed)
        return
    age = _days_old(version)
    if age is not None and age > OLD_DAYS:
        yield warning(
            "yt-dlp", f"{version}, {age} days old", "pip install -U yt-dlp: it must be new"
        )
    else:
        yield ok("yt-dlp", version)
    yield _javascript(params.data.download.youtube.runtimes, needed=needed)
    if version_of("yt-dlp-ejs"):
        yield ok("yt-dlp-ejs", version_of("yt-dlp-ejs"))
    else:
        yield missing(
            "yt-dlp-ejs",
            "not installed: most of YouTube's formats will be missing",
            "pip install 'yt-dlp[default]', which brings the version that fits",
            needed=needed,
        )
    cookies = params.data.download.youtube.cookies
    if cookies and not Path(cookies).is_file():
        remedy = "export one in Netscape's format, or set data.download.youtube.cookies to null"
        yield missing("cookies", f"{cookies} is not there", remedy, needed=needed)


def _javascript(allowed: Collection[str], *, needed: bool) -> Finding:
    """What yt-dlp itself finds when it looks for a runtime, and whether it is new enough for it."""
    import yt_dlp  # noqa: F401 - fills the table of runtimes
    from yt_dlp.globals import supported_js_runtimes

    subject = "JavaScript for yt-dlp"
    supported = {name: kind for name, kind in supported_js_runtimes.value.items() if kind}
    known = {name: kind for name, kind in supported.items() if name in allowed}
    runtimes = [info for kind in known.values() if (info := kind().info)]
    usable = [f"{info.name} {info.version}" for info in runtimes if info.supported]
    if usable:
        return ok(subject, ", ".join(usable))
    old = [f"{info.name} {info.version} (too old)" for info in runtimes]
    least = ", ".join(
        f"{name} {'.'.join(map(str, kind.MIN_SUPPORTED_VERSION))}" for name, kind in known.items()
    )
    return missing(
        subject,
        ", ".join(old) or "none",
        f"for YouTube, install at least {least} (data.download.youtube.runtimes)",
        needed=needed,
    )


def _days_old(version: str) -> int | None:
    """yt-dlp's versions are dates."""
    try:
        year, month, day = (int(part) for part in version.split(".")[:3])
        released = datetime.date(year, month, day)
    except ValueError:
        return None
    return (datetime.datetime.now(tz=datetime.UTC).date() - released).days
