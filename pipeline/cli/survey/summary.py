"""What is to be told of a list's or a folder's videos: counts, quantiles, classes, a proposal."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cli.doctor.estimates import Footage
from pipeline.cli.survey import listing, proposal
from pipeline.cli.survey.listing import ClassCount
from pipeline.cli.survey.probing import Probe, probe
from pipeline.cli.survey.proposal import Cost, Geometry
from pipeline.data.fetch.parallel import map_as_completed
from pipeline.data.records import Outcome
from pipeline.runtime.progress import Progress, binary_bytes

QUANTILES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}
SHOWN_FILES, SHOWN_VALUES, SHOWN_CLASSES = 3, 4, 3  # that are named; others are counted


@dataclass(frozen=True)
class Proposal:
    """A geometry, the overrides of `compose` that give it, and its cost."""

    geometry: Geometry
    overrides: Sequence[str]
    cost: Cost


@dataclass(frozen=True)
class Survey:
    """All that the terminal and the page show."""

    source: str
    clips: int
    files: int  # of this machine
    notes: Sequence[str]
    passed_over: Mapping[str, int]  # rows, by where they are
    probes: Mapping[Path, Probe]  # of the files of the sample
    numbers: Mapping[str, Sequence[float]]  # title -> a value for each clip or readable file
    classes: Sequence[ClassCount]
    proposal: Proposal | None  # None where no file can be read

    @property
    def commands(self) -> list[str]:
        """What to type to train on such clips; nothing where there is no proposal."""
        if self.proposal is None:
            return []
        overrides = self.proposal.overrides
        compose = f"python -m pipeline compose {shlex.join(overrides)}"
        if not Path(self.source).is_dir():
            return [compose]
        listed = next(o for o in overrides if o.startswith("data.manifest="))
        folder, target = shlex.quote(self.source), listed.partition("=")[2]
        return [f"python -m pipeline manifest folder --annotations {folder} -o {target}", compose]

    @property
    def readable(self) -> list[Probe]:
        """The probes of the files that can be read."""
        return [each for each in self.probes.values() if each.outcome is Outcome.OK]

    @property
    def unreadable(self) -> dict[Path, Probe]:
        """The files that cannot be read."""
        return {path: p for path, p in self.probes.items() if p.outcome is not Outcome.OK}


def survey(source: Path, most_files: int, overrides: Sequence[str]) -> Survey:
    """Read a list or a folder, and probe a sample of its files.

    Args:
        source: a CSV of clips, or a folder.
        most_files: how many are probed; which ones depends on the ids alone.
        overrides: of `compose`, without a geometry.

    Raises:
        UserError: the list cannot be used, nothing is there, or the overrides do not compose.
    """
    listed = listing.listing_of(source)
    files = listing.sampled(listed.rows, len(listed.rows))
    chosen = dict(list(files.items())[:most_files])
    probes = _probed(list(chosen))
    readable = [each for each in probes.values() if each.outcome is Outcome.OK]
    seconds = listing.clip_seconds(chosen, probes)
    return Survey(
        source=source.as_posix(),
        clips=len(listed.rows),
        files=len(files),
        notes=listed.notes,
        passed_over=listing.passed_over(listed.rows),
        probes=probes,
        numbers={
            "seconds of clips": seconds,
            "frames a second": [each.rate for each in readable],
            "shorter side, pixels": [each.short_side for each in readable],
        },
        classes=listing.class_counts(listed.rows),
        proposal=_proposal(overrides, readable, seconds, len(listed.rows)),
    )


def _proposal(
    overrides: Sequence[str], readable: Sequence[Probe], seconds: Sequence[float], clips: int
) -> Proposal | None:
    """Propose a geometry where a file can be read; overrides of the same keys make room for it."""
    if not readable or not seconds:
        return None
    rates, sides = [each.rate for each in readable], [each.short_side for each in readable]
    geometry = proposal.geometry(seconds, rates, sides)
    keys = {each.partition("=")[0] for each in geometry.overrides()}
    others = [each for each in overrides if each.partition("=")[0] not in keys]
    everything = [*others, *geometry.overrides()]
    aspect = float(np.mean([max(each.width, each.height) / each.short_side for each in readable]))
    footage = Footage(clips, float(np.mean(seconds)), float(np.mean(rates)), aspect)
    return Proposal(geometry, everything, proposal.cost(proposal.composed(everything), footage))


def _probed(paths: Sequence[Path]) -> dict[Path, Probe]:
    """Probe files side by side; return them in their order."""
    probes: dict[Path, Probe] = {}
    unreadable = 0
    with Progress("survey", len(paths), "files") as progress:
        for path, each in map_as_completed(probe, paths, os.cpu_count() or 1):
            probes[path] = each
            unreadable += each.outcome is not Outcome.OK
            progress.advance(1, unreadable=unreadable)
    return {path: probes[path] for path in paths}


def lines(survey: Survey) -> Iterator[str]:
    """Yield what the terminal shows: less than a screen, however long the list is."""
    probed = f"{len(survey.probes):,} probed, {len(survey.unreadable):,} unreadable"
    yield f"{survey.source}: {survey.clips:,} clips of {survey.files:,} files ({probed})"
    yield from (f"  {note}" for note in survey.notes)
    for place, count in survey.passed_over.items():
        yield f"  passed over: {count:,} clips {place}"
    for path, each in list(survey.unreadable.items())[:SHOWN_FILES]:
        yield f"  unreadable: {path.name} ({each.outcome}: {each.reason})"
    if (others := len(survey.unreadable) - SHOWN_FILES) > 0:
        yield f"  and {others:,} more"
    if survey.readable:
        yield f"{'':24}" + "".join(f"{name:>9}" for name in QUANTILES)
    for title, values in survey.numbers.items():
        if values:
            quantiles = np.quantile(values, list(QUANTILES.values()))
            yield f"{title:24}" + "".join(f"{round(float(each), 2):>9,g}" for each in quantiles)
    for title, counts in kinds(survey).items():
        yield f"{title:24}{_commonest(counts)}"
    yield from map(_class_line, survey.classes)
    if survey.proposal is not None:
        yield from _proposal_lines(survey.proposal)
    else:
        yield "no proposal: no file can be read whose duration is known"


def kinds(survey: Survey) -> dict[str, Counter[str]]:
    """Count sizes and codecs of the readable files."""
    if not survey.readable:
        return {}
    return {
        "sizes, pixels": Counter(f"{each.width}x{each.height}" for each in survey.readable),
        "codecs": Counter(each.codec or "unknown" for each in survey.readable),
    }


def _commonest(counts: Counter[str]) -> str:
    shown = [f"{name} ({count:,})" for name, count in counts.most_common(SHOWN_VALUES)]
    others = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {others:,} more" if others else "")


def _class_line(count: ClassCount) -> str:
    few = (
        f"{count.fewest:,}" if count.fewest == count.most else f"{count.fewest:,} to {count.most:,}"
    )
    text = f"{count.classes:,} classes of {few} clips, {count.clips:,} in all"
    if count.unseen:
        more = ", ..." if len(count.unseen) > SHOWN_CLASSES else ""
        named = ", ".join(count.unseen[:SHOWN_CLASSES]) + more
        text += f"; {len(count.unseen):,} are in no training clip: {named}"
    return f"{f'{count.column}, {count.split}':24}{text}"


def _proposal_lines(made: Proposal) -> Iterator[str]:
    clip, cost = made.geometry, made.cost
    every = "consecutive" if clip.stride == 1 else f"{clip.stride} apart"
    yield (
        f"proposal: {clip.frames} frames, {every} ({clip.seconds:.2g} s), of {clip.size} x "
        f"{clip.size} pixels, in tubes of {' x '.join(map(str, clip.tube))}"
    )
    operations = ", ".join(f"{name} {value:,.3g}" for name, value in cost.gflops.items())
    yield (
        f"  costs {cost.tokens:,} tokens a clip; GFLOPs a clip and step: {operations or 'none'}; "
        f"shards about {binary_bytes(cost.shard_bytes)}"
    )
