"""`python -m pipeline trace`: from a result to the list, with every hash compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.configuration.layout import DataLayout, ExperimentLayout

from .workspace import Workspace

pytestmark = pytest.mark.system

DATA = DataLayout("synthetic_tiny")
RESULTS = ExperimentLayout("tiny")
RUN = RESULTS.run("pixel")
SCORED = ("evaluation", "segmentation", "severe")
OF_THE_DATA = (
    *(DATA.index, DATA.manifest, DATA.sharded(0), DATA.sharded(1), DATA.decoded(1)),
    *(DATA.downloaded(0), DATA.chunk_list(1), Path("pipeline/conf/data/synthetic.yaml")),
)


def trace(
    workspace: Workspace, path: Path, *options: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pipeline", "trace", path.as_posix(), *options)
    done = workspace.run(*command, check=False)
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout
    return done


def told(said: str) -> dict[str, str]:
    """Return the verdict on each file."""
    lines = (line.split() for line in said.splitlines() if line and not line.startswith(" "))
    return {words[-1 if len(words) < 3 else 2]: words[0] for words in lines}


@pytest.mark.parametrize(
    "start",
    [
        *map(RUN.result, SCORED),
        RUN.weights,
        RUN.features,
        RESULTS.report,
    ],
    ids=str,
)
def test_every_result_leads_to_the_list(finished: Workspace, start: Path) -> None:
    """Catches a chain that breaks off, and a hash that is not of the file it stands for."""
    said = trace(finished, start, "--quick").stdout
    verdicts = told(said)
    for path in OF_THE_DATA:
        assert verdicts[path.as_posix()] == "fits", f"{path}\n{said}"
    assert "DIFFERS" not in said
    assert "not here" not in said
    assert "drawn, split train, such as train:" in said
    assert "88 clips" in said
    assert "made with" in said


def test_all_bytes_are_read_and_all_clips_listed(finished: Workspace) -> None:
    """Catches shards or videos that are passed over, and a clip without its source."""
    said = trace(finished, RESULTS.evaluation, "--sources").stdout
    assert "videos: 88 fits" in said
    assert "not read" not in said
    assert sum(line.split()[1:2] == ["train:7"] for line in said.splitlines()) == 1
    verdicts = told(said)
    for run in ("sigma_mlp", "pixel", "random"):
        assert f"pretrain of run {run}" in said
        layout = RESULTS.run(run)
        for path in map(layout.result, SCORED):
            assert verdicts[path.as_posix()] == "fits", path


def test_a_checkpoint_leads_to_its_shards(finished: Workspace) -> None:
    """Catches a checkpoint of which nobody can tell what it was trained on."""
    (path, *_) = sorted((finished.folder / RUN.checkpoints).glob("step-*.pt"))
    said = trace(finished, path.relative_to(finished.folder), "--quick").stdout
    assert told(said)[DATA.index.as_posix()] == "fits"
    assert "48 clips of train, no label" in said


@pytest.mark.parametrize("damaged", ["shard", "weights", "chunk", "index"])
def test_what_no_longer_fits_is_named(finished: Workspace, tmp_path: Path, damaged: str) -> None:
    """Catches a trace that vouches for files that have changed since."""
    copy = finished.copy(tmp_path / "copy")
    shard = sorted((copy.folder / DATA.shards).glob("*.tar"))[0]
    path = {
        "shard": shard,
        "weights": copy.folder / RUN.weights,
        "chunk": copy.folder / DATA.decoded(0),
        "index": copy.folder / DATA.index,
    }[damaged]
    with path.open("ab") as file:
        file.write(b"\n")
    if damaged == "index":  # it is looked for by its hash
        said = trace(copy, RUN.result("evaluation"), "--quick", status=1).stdout
        assert "no file here has the hash" in said
        return
    said = trace(copy, RUN.result("evaluation"), status=1).stdout
    assert told(said)[path.relative_to(copy.folder).as_posix()] == "DIFFERS"


def test_other_files_are_refused(finished: Workspace) -> None:
    """Catches a traceback, or a chain that is made up, for a file of another origin."""
    said = trace(finished, Path("README.md"), status=2).stdout
    assert "nothing is known" in said
    trace(finished, Path("nowhere.json"), status=2)


def test_every_file_says_what_made_it(finished: Workspace) -> None:
    """Catches a manifest, checkpoint, feature file or evaluation without inputs or provenance."""
    folder = finished.folder
    bodies = {}
    for stage, chunk in (("manifest", ""), ("index", ""), ("download", 0), ("shard", 1)):
        path = DATA.made(stage, chunk)
        bodies[path.as_posix()] = json.loads((folder / path).read_text(encoding="utf-8"))
        assert bodies[path.as_posix()]["settings"]["data.name"] == DATA.name
        assert all(len(each) == 64 for each in bodies[path.as_posix()]["inputs"].values())
    for path in (
        RUN.pretrained,
        *map(RUN.result, SCORED),
        RESULTS.evaluation,
    ):
        bodies[path.as_posix()] = json.loads((folder / path).read_text(encoding="utf-8"))
    with np.load(folder / RUN.features, allow_pickle=False) as file:
        bodies["features"] = {"provenance": json.loads(str(file["provenance"]))}
        assert {"clips", "weights", "code", "clip"} <= json.loads(str(file["key"])).keys()
    (path, *_) = (folder / RUN.checkpoints).glob("step-*.pt")
    checkpoint = torch.load(path, weights_only=True)
    bodies["checkpoint"] = {"provenance": checkpoint["sessions"][0]}
    assert {"data", "model", "objective"} <= json.loads(checkpoint["settings"]).keys()
    assert checkpoint["code"]
    for name, body in bodies.items():
        found = body["provenance"]
        assert {"revision", "dirty", "source_sha256"} == found["code"].keys(), name
        assert found["packages"]["torch"], name
        assert found["codecs"]["ffmpeg"], name
        assert found["hardware"]["cores"] > 0, name
