"""UCF101 (Soomro et al. 2012): three splits, as lists of paths (`ucfTrainTestlist`).

`classInd.txt`: `1 ApplyEyeMakeup`; `trainlist01.txt`: `ApplyEyeMakeup/v_..._g08_c01.avi 1`;
`testlist01.txt`: the paths alone. The folder in the path is the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.data.manifest.annotations.clip import Clip, Problems, find, id_of, lines


def read(folder: Path, fold: int) -> Iterator[Clip]:
    """Yield the clips of one of the three splits."""
    with Problems() as problems:
        classes = _classes(folder, problems)
        for split in ("train", "test"):
            (path,) = find(folder, f"{split}list{fold:02d}.txt")[-1:]
            for number, line in lines(path):
                match = re.fullmatch(r"(\w+)/(v_\w+?)(?:_c\d+)?\.avi(?: +(\d+))?", line)
                if match is None:
                    wanted = "`Class/v_Class_g01_c01.avi`, then a number in lists of train"
                    problems.add(path, number, f"{line[:60]!r} is not {wanted}")
                    continue
                label, group, index = match.groups()
                if label not in classes.values():
                    problems.add(path, number, f"{label!r} is not in classInd.txt")
                elif index and classes.get(index) != label:
                    said = f"class {index} is {classes.get(index)!r} in classInd.txt"
                    problems.add(path, number, f"{said}, not {label!r}")
                else:
                    name = line.split()[0]
                    clip_id = id_of(PurePosixPath(name).stem)
                    yield Clip(clip_id, name, split, label, group=group)


def _classes(folder: Path, problems: Problems) -> dict[str, str]:
    (path,) = find(folder, "classInd.txt")[-1:]
    classes = {}
    for number, line in lines(path):
        index, _, name = line.partition(" ")
        if not index.isdecimal() or not name.strip():
            problems.add(path, number, f"{line[:40]!r} is not `number class`")
        classes[index] = name.strip()
    return classes
