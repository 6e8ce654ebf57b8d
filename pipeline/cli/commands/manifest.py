"""`python -m pipeline manifest NAME --annotations DIR`: a data set's list of clips, from its files.

Without NAME, `manifest` is the stage that splits a list into chunks.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.manifest.annotations import DataSet
    from pipeline.data.manifest.annotations.files import Clip
    from pipeline.data.manifest.rows import Row

PROBED = 1000  # clips whose files are looked for, to find out how the files are called


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes beside what the stage does."""
    group = parser.add_argument_group("write a data set's list from its annotation files")
    group.add_argument("dataset", nargs="?", help="such as kinetics400, ssv2 (docs/sources.md)")
    group.add_argument(
        "--annotations", type=Path, metavar="DIR", help="folder of its files, or a list"
    )
    group.add_argument(
        "--videos",
        metavar="DIR",
        help="where the videos are: a folder, an address, or an archive as ARCHIVE!; without it, "
        "data sets from YouTube are asked for there",
    )
    group.add_argument("--file", metavar="PATTERN", help="how they are called, e.g. {name}.mp4")
    group.add_argument("--fold", type=int, default=1, help="which of three splits (UCF101, HMDB51)")
    group.add_argument(
        "--splits",
        metavar="FROM=TO,..",
        help="official splits to take, and as what, such as train=train,val=test; default: all",
    )
    group.add_argument(
        "--hold-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the training videos, that become split val; chosen by a hash of the video",
    )
    group.add_argument("-o", "--output", metavar="FILE", help="default: manifests/NAME.csv")


def run(options: argparse.Namespace) -> None:
    """Write the list and say what is in it."""
    from pipeline.data.manifest import video_list
    from pipeline.data.manifest.annotations import DATA_SETS
    from pipeline.runtime.files import atomic_path

    data_set = DATA_SETS.get(options.dataset)
    if data_set is None:
        raise UserError(
            f"there is no data set {options.dataset!r}", remedy=f"one of {', '.join(DATA_SETS)}"
        )
    if options.annotations is None:
        raise UserError("--annotations is missing: the folder of the data set's files")
    if not 1 <= options.fold <= data_set.folds:
        raise UserError(f"{options.dataset} has no split {options.fold}: --fold is 1 to 3")
    if not 0 <= options.hold_out < 1:
        raise UserError("--hold-out is a share: at least 0, less than 1")
    output = Path(options.output or f"manifests/{options.dataset}.csv")
    splits = _splits(options.splits)
    if options.dataset == "folder" and options.annotations.is_file():
        _copy(options.annotations, output, splits, options.hold_out)
        return
    clips = list(data_set.read(options.annotations, options.fold))
    kept = [clip for clip in clips if clip.split in splits]
    if not kept:
        raise UserError("no clip is left", remedy="see --splits", place=str(options.annotations))
    sources = _Sources(options, data_set, kept, output.parent)
    columns = ("id", "path", "url", "youtube_id", "start", "end", "label", "split")
    counts: Counter[str] = Counter()
    with atomic_path(output) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(
                handle, [*columns, *data_set.columns], restval="", lineterminator="\n"
            )
            writer.writeheader()
            for clip in kept:
                split = splits[clip.split]
                if split == "train" and _share(clip.group or clip.name) < options.hold_out:
                    split = "val"
                counts[split] += 1
                row = {"id": clip.id, "label": clip.label, "split": split, **clip.extra}
                writer.writerow(row | sources.of(clip))
        for _ in video_list.scan(temporary, output.parent):  # what the stage would refuse
            pass
    _say(output, [clip.label for clip in kept], counts, own=options.dataset == "folder")


def _copy(listed: Path, output: Path, splits: dict[str, str], hold_out: float) -> None:
    """Write a list of the user's own anew: checked, its paths relative to `output`."""
    from pipeline.data.manifest import video_list

    try:
        rows = video_list.read(listed)
    except UserError as error:
        if "there is no column 'id'" in str(error):
            error.remedy = (
                "give each row an `id`, or, of a list of paths and labels alone: "
                f"python -m pipeline manifest path-label --annotations {listed}"
            )
        raise
    kept = []
    for row in rows:
        if row.split not in splits:
            continue
        split = splits[row.split]
        if split == "train" and _share(row.source[1]) < hold_out:
            split = "val"
        kept.append(row._replace(split=split))
    if not kept:
        raise UserError("no clip is left", remedy="see --splits", place=str(listed))
    write_rows(output, kept)


def write_rows(output: Path, rows: Sequence[Row]) -> None:
    """Write a list of clips, their paths relative to it, and say what is in it."""
    from pipeline.data.manifest import video_list
    from pipeline.runtime.files import write_text

    placed = []
    for row in rows:
        path = row.path
        if path and not path.startswith("/"):
            path = Path(os.path.relpath(path, output.parent)).as_posix()
        placed.append(row._replace(path=path))
    write_text(output, video_list.to_csv(placed, list(placed[0].extra)))
    counts = Counter(row.split for row in placed)
    _say(output, [row.label for row in placed], counts, own=True)


def _say(output: Path, labels: list[str], counts: Counter[str], *, own: bool) -> None:
    """Say what was written, and what comes next; with all settings for videos of the user's own."""
    print(_summary(output, labels, counts))
    name = f"experiment=demo name={output.stem} data=folder data.name={output.stem} " if own else ""
    end = "" if own else " ..."
    print(f"next: python -m pipeline compose {name}data.manifest={output.as_posix()}{end}")


def _splits(text: str | None) -> dict[str, str]:
    """Return what each official split becomes; those that are not named are left out."""
    if not text:
        return {"train": "train", "val": "val", "test": "test"}
    splits = {}
    for pair in text.split(","):
        official, _, ours = pair.partition("=")
        if official not in ("train", "val", "test") or ours not in ("train", "val", "test"):
            raise UserError(
                f"--splits: {pair!r} is not FROM=TO", remedy="of train, val and test: val=test"
            )
        splits[official] = ours
    return splits


class _Sources:
    """Says where the video of each clip is."""

    def __init__(
        self, options: argparse.Namespace, data_set: DataSet, clips: list[Clip], folder: Path
    ) -> None:
        videos = options.videos
        if videos is None and data_set.in_place:
            place = options.annotations
            videos = str(place.parent if place.is_file() else place)
        self.base = videos and videos.rstrip("/")
        is_url = bool(videos) and "://" in videos
        self.folder = folder
        self.pattern = options.file or data_set.files[0]
        if videos is None:
            if not all(clip.youtube_id for clip in clips):
                raise UserError(
                    "--videos is missing: this data set's videos are not on YouTube",
                    remedy="give the folder, the address or the archive (ARCHIVE!) that has them",
                )
            if any(clip.start is None for clip in clips):
                raise UserError(
                    "the annotations do not say from when to when in the YouTube videos",
                    place=str(options.annotations),
                    remedy="FineGym: put finegym_annotation_info_v1.1.json beside the lists",
                )
        elif not (options.file or is_url or data_set.in_place) and Path(videos).is_dir():
            self.pattern = self._found(data_set.files, clips[:PROBED])
        self.of(clips[0])  # so that a pattern that cannot be filled in is refused at once

    def _found(self, patterns: Iterable[str], clips: list[Clip]) -> str:
        """Return the first way to call files in which one of the clips' files is there."""
        for pattern in patterns:
            if any(Path(self._file(pattern, clip)).is_file() for clip in clips):
                return pattern
        tried = ", ".join(self._file(pattern, clips[0]) for pattern in patterns)
        raise UserError(
            f"none of the first {len(clips):,} clips' files is there",
            place=tried,
            remedy="--file says how they are called: {name}, {split}, {label}, {youtube_id}",
        )

    def _file(self, pattern: str, clip: Clip) -> str:
        try:
            name = pattern.format(
                name=clip.name, split=clip.split, label=clip.label, youtube_id=clip.youtube_id
            )
        except (LookupError, ValueError):
            raise UserError(
                f"--file {pattern!r} cannot be filled in",
                remedy="it may hold {name}, {split}, {label} and {youtube_id}",
            ) from None
        return name if name.startswith("/") or "://" in name else f"{self.base}/{name}"

    def of(self, clip: Clip) -> dict[str, str]:
        """Return the columns that say where a clip's video is."""
        whole = {"start": _text(clip.start), "end": _text(clip.end)}
        if self.base is None:
            return {"youtube_id": clip.youtube_id} | whole
        file = self._file(self.pattern, clip)
        # A file that is called by the video alone is all of it; others are cut to the clip.
        part = whole if "{youtube_id}" in self.pattern and "{name}" not in self.pattern else {}
        if "://" in file:
            return {"url": file} | part
        if not file.startswith("/"):
            file = Path(os.path.relpath(file, self.folder)).as_posix()
        return {"path": file} | part


def _text(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}".rstrip("0").rstrip(".")


def _share(group: str) -> float:
    """Return a number from 0 to 1, spread evenly over groups, and the same on every machine."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64


def _summary(output: Path, texts: list[str], counts: Counter[str]) -> str:
    from pipeline.data.manifest.annotations.files import MULTI

    labels = Counter(label for text in texts for label in text.split(MULTI) if label)
    unlabelled = texts.count("")
    parts = ", ".join(f"{split} {count:,}" for split, count in sorted(counts.items()))
    without = f", {unlabelled:,} clips without" if unlabelled else ""
    few = ", ".join([name for name, _ in labels.most_common(3)] + ["..."] * (len(labels) > 3))
    shown = f" ({few})" if few else ""
    summary = (
        f"wrote {output}: {len(texts):,} clips ({parts}), {len(labels):,} labels{shown}{without}"
    )
    if len(labels) == 1 and len(texts) > 1:
        summary += "\nnote: there is one label only: a probe has nothing to tell apart"
    return summary
