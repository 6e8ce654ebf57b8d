"""Charades (Sigurdsson et al. 2016): CSV files of videos, each with several actions.

`Charades_v1_train.csv`, `Charades_v1_test.csv`: `id,subject,scene,quality,relevance,verified,
script,objects,descriptions,actions,length`, with actions as `c092 11.90 21.20;c147 0.00 12.60`
(class, from and to which second). `Charades_v1_classes.txt`: `c000 Holding some clothes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.manifest.annotations import files
from pipeline.data.manifest.annotations.files import MULTI, Clip, Problems, find, find_one

COLUMNS = ("actions",)


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the videos; the label is all that occurs in one, by the order of the classes."""
    with Problems() as problems:
        classes = _classes(folder, problems)
        for split in ("train", "test"):
            (path,) = find(folder, f"Charades_v1_{split}.csv", f"Charades*_{split}.csv")[-1:]
            for line, row in files.table(path, ("id", "actions"), problems):
                video, actions = row["id"], row["actions"]
                labels = _labels(actions)
                if not re.fullmatch(r"\w+", video):
                    problems.add(path, line, f"id {video[:40]!r} cannot be used")
                elif labels is None:
                    form = "is not `c000 0.00 1.00;...`"
                    problems.add(path, line, f"actions {actions[:60]!r} {form}")
                elif unknown := {label for label in labels if classes and label not in classes}:
                    problems.add(path, line, f"no such class: {sorted(unknown)[0]}")
                else:
                    label = MULTI.join(classes.get(c, c) for c in sorted(labels))
                    yield Clip(video, video, split, label, group=video, extra={"actions": actions})


def _labels(actions: str) -> set[str] | None:
    """Return the classes of actions, each of which takes some time; None where it is none."""
    labels = set()
    for action in filter(None, actions.split(";")):
        match = re.fullmatch(r"(c\d{3}) \d+(?:\.\d+)? \d+(?:\.\d+)?", action.strip())
        if match is None:
            return None
        labels.add(match[1])
    return labels


def _classes(folder: Path, problems: Problems) -> dict[str, str]:
    path = find_one(folder, "Charades_v1_classes.txt")
    pattern = rf"(c\d{{3}}) [^\s{MULTI}][^{MULTI}]*"
    named = files.matches(path, pattern, "`c000 name`", problems) if path else ()
    return {match[1]: match[0] for _, match in named}
