"""Write into dvc.yaml what Snakemake's rules take from the code: `make deps`.

The params and the source files of each stage, out of `pipeline.configuration.stages`. All else in
dvc.yaml is written by hand and stays as it is, comments too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.configuration import stages
from pipeline.files import write_text


def mirrored(text: str) -> str:
    """Return the text of dvc.yaml with every stage's params and source files renewed."""
    head, *parts = re.split(r"(?m)^(?=  \w+:$)", text)
    return head + "".join(_stage(part) for part in parts)


def _stage(part: str) -> str:
    name = part.split(":", 1)[0].strip()
    if name not in stages.STAGES:
        return part
    part = re.sub(r"(?m)^      - pipeline/.*\n", "", part)  # source files, of deps
    part = re.sub(r"(?m)(?<=^    params:\n)(?:      - .*\n)+", _listed(_params(name)), part)
    return re.sub(r"(?m)^    outs:\n", _listed(stages.sources(name)) + "    outs:\n", part, count=1)


def _params(stage: str) -> list[str]:
    return stages.keys(stage, run="${item.run}")


def _listed(lines: list[str]) -> str:
    return "".join(f"      - {line}\n" for line in lines)


if __name__ == "__main__":
    path = stages.PROJECT / "dvc.yaml"
    write_text(path, mirrored(path.read_text(encoding="utf-8")))
