"""What DVC keeps of a run, and what it looks away from."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pipeline.configuration.stages import STAGES

IN_RUN = "results/${name}/runs/${item.run}/"


def test_dvcignore_lets_through_just_what_is_versioned(project: Path) -> None:
    """Catches an output that DVC could not see, and a leftover of this machine in the report's
    inputs, which a clone would not have."""
    stages = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    outs = {"data"} | {
        next(iter(out)).removeprefix(IN_RUN).replace("${item.data}", "*")
        for stage in (stage.get("do", stage) for stage in stages.values())
        for out in [*stage["outs"], *stage.get("plots", ())]
        if next(iter(out)).startswith(IN_RUN)
    }
    text = (project / ".dvcignore").read_text(encoding="utf-8")
    assert "\n/results/*/runs/*/*\n" in text
    assert set(re.findall(r"(?m)^!/results/\*/runs/\*/(\S+)$", text)) == outs


def test_stages_of_the_data_keep_what_they_were_made_of(project: Path) -> None:
    """Catches a stage whose provenance a clone would lack."""
    stages = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in ("manifest", "download", "decode", "shard", "index"):
        per_chunk = bool(STAGES[name].per)
        path = f"data/${{data.name}}/made/{name}{'' if per_chunk else '.json'}"
        assert path in {next(iter(out)) for out in stages[name]["outs"]}
