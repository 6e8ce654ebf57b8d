"""Which videos the folders of IntPhys, GRASP and InfLevel hold, and which belong together.

- IntPhys (Riochet et al. 2018), its `dev` part: `O1/01/1/scene/scene_001.png`, and beside `scene` a
  `status.json` whose header says whether the video is possible. Of a scene's four videos two are
  possible; each is matched with the impossible one that begins like it for the longest.
- GRASP (Jassim et al. 2023), level 2: `P_Gravity/000.mp4` is possible, `IP_Gravity/000.mp4` not.
- InfLevel-lab (Weihs et al. 2022): `gravity/center__gravity__COVER__OBJECT__ui.mp4`; the trial is
  two letters, and in `continuity` a direction comes after it. `vv`, `ii`, `ui` and `cv` are
  possible; matched are videos whose trials have the same first letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.manifest.folders import SUFFIXES
from pipeline.errors import UserError
from pipeline.evaluation.surprise.settings import PairFolder
from pipeline.runtime.files import read_json

PICTURES = (".png", ".jpg", ".jpeg")
POSSIBLE_TRIALS = {"vv", "ii", "ui", "cv"}
TRIALS = POSSIBLE_TRIALS | {"vi", "iv", "uv", "ci"}


@dataclass(frozen=True)
class Video:
    """One video; those of a matched pair begin alike."""

    id: str
    pair: str
    property: str
    possible: bool
    path: Path | None = None  # a file, or a folder of pictures; None: it is drawn


def files_of(video: Video) -> list[Path]:
    """Return the file, or the pictures in the order of their names; none where nothing is there."""
    if video.path is None or not video.path.exists():
        return []
    if video.path.is_file():
        return [video.path]
    return sorted(path for path in video.path.iterdir() if is_picture(path))


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its name."""
    return path.suffix.lower() in PICTURES


def videos(data: PairFolder) -> list[Video]:
    """Return the videos of a data set, a pair's beside each other.

    Raises:
        UserError: where there is no such folder, or none of the data set's videos in it.
    """
    root = Path(data.root)
    if not root.is_dir():
        raise UserError(
            f"there is no folder of {data.name}",
            place=str(root),
            remedy="docs/surprise.md says how to get it; or benchmarks/surprise=none",
        )
    listed = list(_LISTED[data.kind](root))
    if not listed:
        raise UserError(
            f"there is no pair of videos of {data.name} in this folder",
            place=str(root),
            remedy="docs/surprise.md says how its folders are called",
        )
    return sorted(listed, key=lambda video: (video.property, video.pair, not video.possible))


def _grasp(root: Path) -> Iterator[Video]:
    for folder in sorted(root.glob("P_*")):
        kind = folder.name.removeprefix("P_")
        for path in _files(folder):
            pair = f"{kind}/{path.stem}"
            other = root / f"IP_{kind}" / path.name
            yield Video(f"P_{pair}", pair, kind, possible=True, path=path)
            yield Video(f"IP_{pair}", pair, kind, possible=False, path=other)


def _inflevel(root: Path) -> Iterator[Video]:
    for kind in ("continuity", "gravity", "solidity"):
        for path in _files(root / kind):
            parts = path.stem.split("__")
            place = next((k for k, part in enumerate(parts) if part in TRIALS), None)
            if place is None:
                continue
            trial = parts[place]
            pair = f"{kind}/{'__'.join([*parts[:place], trial[0], *parts[place + 1 :]])}"
            is_possible = trial in POSSIBLE_TRIALS
            yield Video(f"{kind}/{path.stem}", pair, kind, possible=is_possible, path=path)


def _intphys(root: Path) -> Iterator[Video]:
    for status in sorted(root.glob("O[0-9]/*/1/status.json")):
        scene = status.parent.parent
        folders = sorted(path.parent for path in scene.glob("*/status.json"))
        possible = [folder for folder in folders if _is_possible(folder / "status.json")]
        impossible = [folder for folder in folders if folder not in possible]
        if len(possible) != 2 or len(impossible) != 2:
            raise UserError(
                f"{len(possible)} of its {len(folders)} videos are possible, two of four should be",
                place=str(scene),
            )
        kind = scene.parent.name
        alike = [[_frames_alike(p / "scene", i / "scene") for i in impossible] for p in possible]
        if alike[0][1] + alike[1][0] > alike[0][0] + alike[1][1]:
            impossible.reverse()
        for number, pair in enumerate(zip(possible, impossible, strict=True)):
            for folder, is_possible in zip(pair, (True, False), strict=True):
                name = f"{kind}/{scene.name}"
                yield Video(
                    f"{name}/{folder.name}",
                    f"{name}/{number}",
                    kind,
                    possible=is_possible,
                    path=folder / "scene",
                )


def _is_possible(status: Path) -> bool:
    try:
        return bool(read_json(status)["header"]["is_possible"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            "it does not say whether the video is possible",
            place=str(status),
            remedy="of IntPhys the part `dev` says it; `test` does not",
        ) from None


def _frames_alike(first: Path, second: Path) -> int:
    """Return how many frames two videos begin with that are equal."""
    pairs = zip(_files(first, PICTURES), _files(second, PICTURES), strict=False)
    count = 0
    for one, other in pairs:
        if one.read_bytes() != other.read_bytes() and not _are_equal(one, other):
            break
        count += 1
    return count


def _are_equal(one: Path, other: Path) -> bool:
    try:
        with Image.open(one) as first, Image.open(other) as second:
            return np.array_equal(np.asarray(first), np.asarray(second))
    except OSError:
        return False


def _files(folder: Path, suffixes: Sequence[str] = tuple(SUFFIXES)) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)


_LISTED: dict[str, Callable[[Path], Iterator[Video]]] = {
    "intphys": _intphys,
    "grasp": _grasp,
    "inflevel": _inflevel,
}
