"""Lists of `path label`, as VideoMAE and those who followed it write them.

`train.csv`, `val.csv`, `test.csv`: a path and a class number on each line, between them a space or
a comma, without a header. A path may hold spaces: the label is what comes last; -1 is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.videos.annotations.clip import Clip, Problems, find_one, id_of, lines


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the clips of the lists that there are."""
    lists = {}
    for split in ("train", "val", "test"):
        if path := find_one(folder, f"{split}.csv", f"{split}.txt", f"*{split}*.csv"):
            lists[split] = path
    if not lists:
        raise UserError("there is no train.csv, val.csv or test.csv", place=str(folder))
    with Problems() as problems:
        for split, path in lists.items():
            for number, line in lines(path):
                match = re.fullmatch(r"(.*[^\s,])(?:\s+|, *)(-?\d+)", line)
                if match is None:
                    problems.add(path, number, f"{line[:60]!r} is not `path label`")
                    continue
                name, label = match.groups()
                clip_id = id_of(str(PurePosixPath(name).with_suffix("")))
                yield Clip(clip_id, name, split, "" if label == "-1" else label, group=name)
