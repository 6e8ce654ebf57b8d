"""Something-Something v2 (Goyal et al. 2017): JSON files of templates with brackets.

`something-something-v2-train.json`, `-validation.json`, `-test.json` and `-labels.json` (from 20BN)
or `train.json`, `validation.json`, `test.json`, `labels.json`, `test-answers.csv` (from Qualcomm).
Entries are `{"id": "1", "label": "...", "template": "Holding [something]", "placeholders": [...]}`,
of test `{"id": "1"}`. Labels maps each template without brackets to its number; answers are lines
of `id;template`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.data.manifest.annotations.files import (
    Clip,
    Problems,
    find,
    find_one,
    from_json,
    matches,
)

PREFIX = "something-something-v2-"
FILES = {"train": "train", "validation": "val", "test": "test"}


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the clips of the three splits; those of test have labels where there are answers."""
    labels = _labels(folder)
    with Problems() as problems:
        answers = _answers(folder, problems)
        find(folder, f"{PREFIX}train.json", "train.json")  # else it says so
        for name, split in FILES.items():
            path = find_one(folder, f"{PREFIX}{name}.json", f"{name}.json")
            if path is None:
                continue
            for number, entry in enumerate(from_json(path, list), 1):
                if problem := _problem(entry, split):
                    problems.add(path, f"entry {number}", problem)
                    continue
                video = str(entry["id"])
                template = entry.get("template", answers.get(video, "") if split == "test" else "")
                label = template.replace("[", "").replace("]", "")
                if labels and label and label not in labels:
                    problems.add(path, f"entry {number}", f"{label!r} is none of the labels")
                    continue
                yield Clip(video, video, split, label, group=video)


def _problem(entry: Any, split: str) -> str:
    if not isinstance(entry, dict) or not str(entry.get("id", "")).isdecimal():
        return "has no id, a number"
    if split != "test" and not isinstance(entry.get("template"), str):
        return f"{entry['id']} has no template"
    return ""


def _labels(folder: Path) -> set[str]:
    path = find_one(folder, f"{PREFIX}labels.json", "labels.json")
    return set(from_json(path, dict)) if path else set()


def _answers(folder: Path, problems: Problems) -> dict[str, str]:
    path = find_one(folder, "*test-answers.csv")
    answers = matches(path, r"(\d+);\s*(.*)", "`id;label`", problems) if path else ()
    return {match[1]: match[2] for _, match in answers}
