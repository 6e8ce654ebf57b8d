"""`python -m pipeline trace FILE`: where a result is from, back to the addresses of its videos."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pipeline.cli.lineage.chain import Step

SUMMARY = "say where a result is from, file by file, and check every hash"
SHOWN = 8  # hosts or folders of sources; and of equal files, such as shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="such as results/.../evaluation.json"
    )
    parser.add_argument("--quick", action="store_true", help="do not read shards and videos")
    parser.add_argument("--sources", action="store_true", help="list every clip with its source")


def run(options: argparse.Namespace) -> int:
    """Print the chain; return 1 where a file is not the one that another was made from,
    or is looked for in vain."""
    from pipeline.cli.lineage.chain import Chain, Verdict

    start = Path(os.path.relpath(options.file))
    walk = Chain(with_bulk=not options.quick)
    bulk: list[Step] = []
    downloaded: list[Path] = []
    last: Mapping[str, Any] = {}
    for step in walk.steps(start):
        if step.link.bulk and step.verdict is not Verdict.DIFFERS:
            bulk.append(step)
            continue
        _print(step, last)
        if step.reading:
            last = step.reading.made_with or last
        if step.path is not None and step.path.parent.name == "downloaded":
            downloaded.append(step.path)
    for what, counts in _by_kind(bulk).items():
        numbers = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())
        print(f"{'':10}{'':14}{what}s: {numbers}")
    for line in _sources(downloaded, every=options.sources):
        print(line)
    verdicts = ", ".join(f"{walk.counts[v]:,} {v}" for v in Verdict if walk.counts[v])
    print(f"compared with what was noted: {verdicts or 'nothing'}")
    return 1 if walk.counts[Verdict.DIFFERS] or walk.counts[Verdict.UNKNOWN] else 0


def _print(step: Step, last: Mapping[str, Any]) -> None:
    link, reading = step.link, step.reading
    what = reading.what if reading else link.what
    place = step.path if step.path is not None else f"(no file here has the hash {link.sha256})"
    print(f"{step.verdict:10}{step.sha256[:12]:14}{place}  {what}")
    if step.verdict == "DIFFERS":
        print(f"{'':24}{link.what}: was {(link.sha256 or '')[:12]}")
    if reading is None:
        return
    for note in reading.notes:
        print(f"{'':24}{note}")
    if reading.made_with and reading.made_with != last:
        print(f"{'':24}made with {_made_with(reading.made_with)}")
    if reading.settings:
        print(f"{'':24}settings: {reading.settings}")


def _made_with(provenance: Mapping[str, Any]) -> str:
    """Return one line on code, main packages and hardware; the files hold all of it."""
    code, packages = provenance.get("code") or {}, provenance.get("packages") or {}
    revision = code.get("revision")
    words = [f"revision {revision[:12]}" if revision else "code outside git"]
    if code.get("dirty"):
        words[0] += " and changes"
    words[0] += f" (sources {code.get('source_sha256', '')[:12]})"
    words += [f"{name} {packages[name]}" for name in ("python", "torch") if name in packages]
    words += [f"{name} {version}" for name, version in (provenance.get("codecs") or {}).items()]
    hardware = provenance.get("hardware") or {}
    accelerators = Counter(hardware.get("accelerators") or ())
    words += [f"{count} x {name}" for name, count in accelerators.items()]
    if hardware and not accelerators:
        words.append(f"{hardware.get('cores')} cores of {hardware.get('cpu')}")
    return ", ".join(words)


def _by_kind(bulk: Sequence[Step]) -> dict[str, Counter[str]]:
    kinds: dict[str, Counter[str]] = {}
    for step in bulk:
        kinds.setdefault(step.link.what, Counter())[str(step.verdict)] += 1
    return kinds


def _sources(manifests: Sequence[Path], *, every: bool) -> Iterator[str]:
    """Tell the sources of all clips: each, or how many there are of each host or folder."""
    places: Counter[str] = Counter()
    first: dict[str, str] = {}
    for path in manifests:
        for clip in json.loads(path.read_text(encoding="utf-8"))["clips"]:
            source = clip.get("source", "")
            if every:
                part = [str(clip[end]) for end in ("start", "end") if clip.get(end) is not None]
                yield "  ".join([clip["id"], source, "-".join(part), clip.get("sha256", "")])
            place = _place(source)
            places[place] += 1
            first.setdefault(place, source)
    if places and not every:
        yield f"sources of {places.total():,} clips (--sources lists them):"
        for place, count in places.most_common(SHOWN):
            yield f"  {count:>10,}  {place}, such as {first[place]}"
        if len(places) > SHOWN:
            rest = places.total() - sum(count for _, count in places.most_common(SHOWN))
            yield f"  {rest:>10,}  of {len(places) - SHOWN:,} other places"


def _place(source: str) -> str:
    address = urlsplit(source)
    if address.scheme and address.netloc:
        return f"{address.scheme}://{address.netloc}"
    if ":" in source and "/" not in source:
        return f"drawn, split {source.split(':')[0]}"
    folder = os.path.dirname(source)  # noqa: PTH120 - a million of them
    return folder or ("YouTube" if source else "unknown")
