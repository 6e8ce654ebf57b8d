"""What killed jobs left where files are fetched: removed, but for what can be gone on with."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from pipeline.runtime.claims import Claim
from pipeline.runtime.files import read_json

# How files are called while they are written (partial.py, youtube.py, claims.py, files.py), and of
# which target they are.
_WRITTEN = re.compile(
    r"(?P<part>.+)\.[0-9a-f]{12}\.part|\.(?P<claim>.+)\.claim"
    r"|\.(?P<note>.+)(?:\.part)?\.[0-9a-f]{8}\.tmp\.\w+|(?P<stem>.+)\.[0-9a-f]{12}\..+"
)


def sweep(folder: Path) -> None:
    """Remove what is left of killed jobs in the sub-folders of `folder`.

    A file belongs to who has the claim on its target, so each is looked at with that claim. The
    part of a file that its note names stays: fetching goes on there.
    """
    for inner in sorted(path for path in folder.glob("??") if path.is_dir()):
        left: dict[Path, list[Path]] = defaultdict(list)
        for path in inner.iterdir():
            if match := _WRITTEN.fullmatch(path.name):
                name = match["part"] or match["claim"] or match["note"] or f"{match['stem']}.video"
                left[inner / name].append(path)
        for target, paths in left.items():
            claim = Claim(target)
            if not claim.take():
                continue
            try:
                for path in paths:
                    if path not in (claim.path, _resumable(target)):
                        path.unlink(missing_ok=True)
            finally:
                claim.release()


def _resumable(target: Path) -> Path | None:
    """Return the part that fetching goes on with, if there is one."""
    try:
        return target.with_name(read_json(target.with_name(f"{target.name}.part.json"))["part"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
