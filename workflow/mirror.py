"""Write into dvc.yaml the settings that each stage reads: `make deps`.

They are those of Snakemake's rules, out of `pipeline.configuration.stages`. All else in dvc.yaml is
written by hand and stays as it is, comments too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.configuration import stages
from pipeline.runtime.files import write_text


def mirrored(text: str) -> str:
    """Return the text of dvc.yaml with every stage's params renewed."""
    head, *parts = re.split(r"(?m)^(?=  \w+:$)", text)
    return head + "".join(_stage(part) for part in parts)


def _stage(part: str) -> str:
    name = part.split(":", 1)[0].strip()
    if name not in stages.STAGES:
        return part
    lines = [f"      - {key}\n" for key in stages.keys(name, run="${item.run}")]
    lines.append(f"      - workflow/code.yaml:\n          - {name}\n")
    return re.sub(r"(?m)(?<=^    params:\n)(?:      .*\n)+", "".join(lines), part)


if __name__ == "__main__":
    path = stages.PROJECT / "dvc.yaml"
    write_text(path, mirrored(path.read_text(encoding="utf-8")))
