"""HMDB51 (Kuehne et al. 2011): three splits, as one list per class (`testTrainMulti_7030_splits`).

`brush_hair_test_split1.txt`: lines `NAME.avi 0`, 1 or 2. 1 is training, 2 testing; 0 is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.manifest.annotations.files import Clip, Problems, find, id_of, matches

USES = {"1": "train", "2": "test"}


def read(folder: Path, fold: int) -> Iterator[Clip]:
    """Yield the clips of one of the three splits."""
    ending = f"_test_split{fold}.txt"
    with Problems() as problems:
        for path in find(folder, f"*{ending}"):
            label = path.name.removesuffix(ending)
            form = "`NAME.avi 0`, 1 or 2"
            for _, match in matches(path, r"(\S.*\.avi)\s+([012])", form, problems):
                if match[2] in USES:
                    name = match[1]
                    clip_id = id_of(f"{label}-{name.removesuffix('.avi')}")
                    # NAME is the film's, the class, and six properties with the clip's number.
                    group = name.partition(f"_{label}_")[0]
                    yield Clip(clip_id, name, USES[match[2]], label, group=group)
