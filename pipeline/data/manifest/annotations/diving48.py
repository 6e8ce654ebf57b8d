"""Diving48 (Li et al. 2018), version 2: JSON lists of dives.

`Diving48_V2_train.json`, `Diving48_V2_test.json`: entries `{"vid_name": "8mSB9IvtPSc_00187",
"label": 40, "start_frame": 0, "end_frame": 168}`; a video is one dive, and the frames are all of
its. `Diving48_vocab.json`: for each class take-off, somersaults, twists and position.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.manifest.annotations.files import (
    Clip,
    Problems,
    find,
    find_one,
    from_json,
    id_of,
)


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the dives of both splits."""
    vocabulary = find_one(folder, "Diving48_vocab.json")
    classes = from_json(vocabulary, list) if vocabulary else None
    with Problems() as problems:
        for split in ("train", "test"):
            (path,) = find(folder, f"Diving48_V2_{split}.json", f"Diving48*_{split}.json")[-1:]
            for number, entry in enumerate(from_json(path, list), 1):
                name = entry.get("vid_name") if isinstance(entry, dict) else None
                label = entry.get("label") if isinstance(entry, dict) else None
                if not isinstance(name, str) or not isinstance(label, int):
                    problems.add(path, f"entry {number}", "has no vid_name, or no label (a number)")
                elif classes is not None and not 0 <= label < len(classes):
                    problems.add(path, f"entry {number}", f"class {label} is not in the vocabulary")
                else:
                    called = f"{label} {'-'.join(classes[label])}" if classes else str(label)
                    group = name.rpartition("_")[0]
                    yield Clip(id_of(name), name, split, called, group=group)
