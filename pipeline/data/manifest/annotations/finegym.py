"""FineGym (Shao et al. 2020): Gym99, Gym288, and the subsets FX-S1 and UB-S1 of SEVERE.

`gym99_train_element_v1.1.txt`, `gym99_val_element.txt` (and gym288): lines of `ELEMENT CLASS`, with
ELEMENT as `YOUTUBEID_E_SSSSSS_EEEEEE_A_ssss_eeee`: an event of a video, an action of the event; in
the lists that go with mmaction2 and SEVERE (`gym99_train.txt`) followed by `.mp4`. Precise times
are in `finegym_annotation_info_v1.1.json`, in seconds: of the event in the video, of the action in
the event. `gym99_categories.txt`: `Clabel: 0; set: 1; Glabel: 1; (VT) round-off, ...`.

SEVERE (Thoker et al. 2022, "How Severe is Benchmark-Sensitivity in Video Self-Supervised
Learning?") takes for FX-S1 the Gym99 classes 6 to 16 (leaps, jumps and hops of the floor exercise,
11 classes) and for UB-S1 74 to 88 (circles on the uneven bars, 15 classes): as in the authors'
code, github fmthoker/SEVERE-BENCHMARK, commit 34dc467, datasets/gym_set_FX_S1.py, gym_set_UB_S1.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.data.manifest.annotations.files import (
    Clip,
    Problems,
    find,
    find_one,
    from_json,
    matches,
)

COLUMNS = ("event", "set")
SUBSETS = {"fx-s1": range(6, 17), "ub-s1": range(74, 89)}
_ELEMENT = r"([\w-]{11})_(E_\d{6}_\d{6})_(A_\d{4}_\d{4})(?:\.\w+)?[ ,]+(\d+)"
_CATEGORY = r"Clabel: *(\d+); *set: *(\d+); *Glabel: *\d+; *\((\w+)\) *(.*)"


class _Category(NamedTuple):
    name: str
    event: str
    set: str


def read(name: str, folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the clips of `gym99`, `gym288`, `fx-s1` or `ub-s1`; times where there is the JSON."""
    base = "gym99" if name in SUBSETS else name
    path = find_one(folder, "finegym_annotation_info*.json")
    times = from_json(path, dict) if path else {}
    with Problems() as problems:
        categories = _categories(folder, base, problems)
        for split in ("train", "val"):
            patterns = (f"{base}_{split}_element*.txt", f"{base}_{split}*.txt")
            (path,) = find(folder, *patterns)[-1:]
            for number, match in matches(path, _ELEMENT, "`ELEMENT CLASS`", problems):
                youtube_id, event, action, label = match.groups()
                if name in SUBSETS and int(label) not in SUBSETS[name]:
                    continue
                category = categories.get(label)
                if categories and category is None:
                    problems.add(path, number, f"class {label} is none of the categories")
                    continue
                start, end = _times(times, youtube_id, event, action)
                if times and start is None:
                    problems.add(path, number, "the annotation info has no such action")
                    continue
                clip = f"{youtube_id}_{event}_{action}"
                named = category.name if category else label
                extra = {"event": category.event, "set": category.set} if category else {}
                yield Clip(clip, clip, split, named, youtube_id, start, end, youtube_id, extra)


def _times(
    info: dict[str, Any], youtube_id: str, event: str, action: str
) -> tuple[float | None, float | None]:
    """Return the seconds from and to which an action takes in the video."""
    try:
        of_event = info[youtube_id][event]
        offset = float(of_event["timestamps"][0][0])
        stages = of_event["segments"][action]["timestamps"]  # a vault has several, in order
        return round(offset + float(stages[0][0]), 3), round(offset + float(stages[-1][1]), 3)
    except (LookupError, TypeError, ValueError):
        return None, None


def _categories(folder: Path, base: str, problems: Problems) -> dict[str, _Category]:
    path = find_one(folder, f"{base}_categories.txt")
    form = "`Clabel: 0; set: 1; Glabel: 1; (VT) name`"
    categories = {}
    for _, match in matches(path, _CATEGORY, form, problems) if path else ():
        label, group, event, name = match.groups()
        name = re.sub(" +", " ", name)
        categories[label] = _Category(f"{label} ({event}) {name}", event, group)
    return categories
