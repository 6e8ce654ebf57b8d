"""A table of encoders that others have trained grows: what is in it stays as it is."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from pipeline.configuration import composition
from pipeline.runtime.files import read_json, sha256_file

from .workspace import Workspace

transformers = pytest.importorskip("transformers", reason="Transformers is missing")
pytestmark = pytest.mark.system

SMALL = (
    *("experiment=encoders", "data.chunks=1", "data.clip.frames=4", "evaluation.baselines=false"),
    *("data.synthetic.train=24", "data.synthetic.val=8", "data.synthetic.test=12"),
    *("data.labels=[motion]", "data.finetune_labels=[motion]", "benchmarks/few_shot=none"),
)
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION |= {"image_size": 32, "patch_size": 16, "intermediate_size": 16}
# What is made of the whole table, and what jobs share while they run.
OF_ALL = ("metrics.json", "evaluation.json", "report.html", "figures", "params", "views", "logs")
NEW_RUN = {"pretrain": 1, "evaluate": 1, "retrieve": 1, "report": 1}
NEW_DATA = {
    **dict.fromkeys([f"{stage}_again" for stage in ("manifest", "download", "decode")], 1),
    **dict.fromkeys(["shard_again", "index_again", "report"], 1),
    **dict.fromkeys(["evaluate_again", "retrieve_again"], 3),
}


def write_encoders(folder: Path) -> None:
    """Two image encoders of random weights, as Transformers writes them."""
    for number, name in enumerate(("first", "second")):
        torch.manual_seed(number)
        config = transformers.SiglipVisionConfig(**VISION)
        transformers.SiglipVisionModel(config).save_pretrained(folder / name)


def compose(workspace: Workspace, *overrides: str) -> None:
    with contextlib.chdir(workspace.folder):
        text = composition.compose([*overrides, *SMALL])
    (workspace.folder / "params.yaml").write_text(text, encoding="utf-8")


def made(workspace: Workspace) -> dict[str, tuple[int, str]]:
    """When each file of data and results was written, and its hash."""
    files = {}
    for root in ("data", "results/encoders"):
        for path in sorted((workspace.folder / root).rglob("*")):
            name = path.relative_to(workspace.folder)
            if path.is_file() and not set(name.parts) & set(OF_ALL):
                files[str(name)] = (path.stat().st_mtime_ns, sha256_file(path))
    return files


def test_a_new_row_and_a_new_column_leave_the_old_cells(fresh: Workspace) -> None:
    """Catches a further encoder or data set for which an old cell is computed again, which on real
    data takes hours; and one that the table lacks in the end."""
    write_encoders(fresh.folder)
    first, both = "encoders=[first]", "encoders={first: first, second: second}"
    one, two = "data=synthetic_tiny", "data={synthetic_tiny: synthetic_tiny, again: synthetic_tiny}"
    own = "runs.second.pooling=own"
    further = ("evaluation_data.again.synthetic.seed=5", "evaluation_data.again.chunks=1")
    compose(fresh, first, one)
    fresh.snakemake()
    before = made(fresh)
    assert len(before) > 20
    steps = (((both, one, own), NEW_RUN), ((both, two, own, *further), NEW_DATA))
    for overrides, planned in steps:
        compose(fresh, *overrides)
        assert fresh.planned() == planned
        fresh.snakemake()
        after = made(fresh)
        assert {name: after.get(name) for name in before} == before
        assert len(after) > len(before)
        before = after
    assert fresh.planned() == {}
    table = read_json(fresh.folder / "results/encoders/evaluation.json")
    (further,) = table["further"]
    for scores in (table["scores"], further["scores"]):
        assert {row["run"] for row in scores} == {"random", "first", "second"}
