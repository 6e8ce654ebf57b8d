"""UCF101 (Soomro et al. 2012): three splits, as lists of paths (`ucfTrainTestlist`).

`classInd.txt`: `1 ApplyEyeMakeup`; `trainlist01.txt`: `ApplyEyeMakeup/v_..._g08_c01.avi 1`;
`testlist01.txt`: the paths alone. The folder in the path is the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.data.manifest.annotations.files import Clip, Problems, find, id_of, matches

FORM = "`Class/v_Class_g01_c01.avi`, then a number in lists of train"


def read(folder: Path, fold: int) -> Iterator[Clip]:
    """Yield the clips of one of the three splits."""
    with Problems() as problems:
        (path,) = find(folder, "classInd.txt")[-1:]
        named = matches(path, r"(\d+) +(\S.*)", "`number class`", problems)
        classes = {match[1]: match[2] for _, match in named}
        for split in ("train", "test"):
            (path,) = find(folder, f"{split}list{fold:02d}.txt")[-1:]
            pattern = r"((\w+)/(v_\w+?)(?:_c\d+)?\.avi)(?: +(\d+))?"
            for number, match in matches(path, pattern, FORM, problems):
                name, label, group, index = match.groups()
                if label not in classes.values():
                    problems.add(path, number, f"{label!r} is not in classInd.txt")
                elif index and classes.get(index) != label:
                    listed = f"class {index} is {classes.get(index)!r} in classInd.txt"
                    problems.add(path, number, f"{listed}, not {label!r}")
                else:
                    clip_id = id_of(PurePosixPath(name).stem)
                    yield Clip(clip_id, name, split, label, group=group)
