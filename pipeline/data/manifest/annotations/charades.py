"""Charades (Sigurdsson et al. 2016): CSV files of videos, each with several actions.

`Charades_v1_train.csv`, `Charades_v1_test.csv`: `id,subject,scene,quality,relevance,verified,
script,objects,descriptions,actions,length`, with actions as `c092 11.90 21.20;c147 0.00 12.60`
(class, from and to which second). `Charades_v1_classes.txt`: `c000 Holding some clothes`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.manifest.annotations.clip import (
    MULTI,
    Clip,
    Problems,
    find,
    find_one,
    lines,
    text,
)

COLUMNS = ("actions",)


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the videos; the label is all that occurs in one, by the order of the classes."""
    with Problems() as problems:
        classes = _classes(folder, problems)
        for split in ("train", "test"):
            (path,) = find(folder, f"Charades_v1_{split}.csv", f"Charades*_{split}.csv")[-1:]
            table = csv.DictReader(io.StringIO(text(path)))
            for column in ("id", "actions"):
                if column not in (table.fieldnames or ()):
                    problems.add(path, 1, f"the header has no {column}")
                    return
            for row in table:
                video, actions = str(row["id"]).strip(), str(row["actions"] or "").strip()
                found = _found(actions)
                if not re.fullmatch(r"\w+", video):
                    problems.add(path, table.line_num, f"id {video[:40]!r} cannot be used")
                elif found is None:
                    form = "is not `c000 0.00 1.00;...`"
                    problems.add(path, table.line_num, f"actions {actions[:60]!r} {form}")
                elif unknown := {label for label in found if classes and label not in classes}:
                    problems.add(path, table.line_num, f"no such class: {sorted(unknown)[0]}")
                else:
                    label = MULTI.join(classes.get(c, c) for c in sorted(found))
                    extra = {"actions": actions}
                    yield Clip(video, video, split, label, group=video, extra=extra)


def _found(actions: str) -> set[str] | None:
    """Return the classes of actions, each of which takes some time; None where it is none."""
    found = set()
    for action in filter(None, actions.split(";")):
        match = re.fullmatch(r"(c\d{3}) \d+(?:\.\d+)? \d+(?:\.\d+)?", action.strip())
        if match is None:
            return None
        found.add(match[1])
    return found


def _classes(folder: Path, problems: Problems) -> dict[str, str]:
    path = find_one(folder, "Charades_v1_classes.txt")
    classes = {}
    for number, line in lines(path) if path else ():
        if path and (not re.match(r"c\d{3} \S", line) or MULTI in line):
            problems.add(path, number, f"{line[:60]!r} is not `c000 name`")
        classes[line[:4]] = line
    return classes
