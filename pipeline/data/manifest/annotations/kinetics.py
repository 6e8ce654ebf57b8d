"""Kinetics-400, -600 and -700 (Kay et al. 2017): CSV files of segments of YouTube videos.

`label,youtube_id,time_start,time_end,split` and further columns, as DeepMind and the CVDF publish
them (train.csv, validate.csv or val.csv, test.csv; kinetics_train.csv, k400_train.csv, ...). Lists
of test clips have no labels, and older ones no column `split`: then the file's name says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.manifest.annotations.files import SPLITS, Clip, Problems, find, table

NEEDED = ("youtube_id", "time_start", "time_end")


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the clips of all CSV files of the folder."""
    seen: dict[str, Clip] = {}
    with Problems() as problems:
        for path in find(folder, "*.csv"):
            for line, clip in _clips(path, problems):
                before = seen.setdefault(clip.id, clip)
                if before is clip:
                    yield clip
                elif before != clip:
                    problems.add(path, line, f"{clip.id} is there before with other values")


def _clips(path: Path, problems: Problems) -> Iterator[tuple[int, Clip]]:
    named = re.search("train|valid|val|test", path.stem.lower())
    for line, row in table(path, NEEDED, problems):
        given = row.get("split") or (named[0] if named else "")
        split = SPLITS.get("val" if given == "valid" else given.lower())
        try:
            start, end = float(row["time_start"]), float(row["time_end"])
        except ValueError:
            start = end = -1.0
        if not re.fullmatch(r"[A-Za-z0-9_-]{11}", row["youtube_id"]):
            problems.add(path, line, f"youtube_id {row['youtube_id'][:30]!r} has not 11 letters")
        elif not 0 <= start < end:
            given = f"{row['time_start']!r} to {row['time_end']!r}"
            problems.add(path, line, f"time {given} is no part of a video, in seconds")
        elif split is None:
            problems.add(path, line, f"split {given!r} is none of train, val, test")
        else:
            name = f"{row['youtube_id']}_{round(start):06d}_{round(end):06d}"
            label = row.get("label", "")
            youtube_id = row["youtube_id"]
            yield line, Clip(name, name, split, label, youtube_id, start, end, youtube_id)
