"""What was trained is not trained again: after a remark, another label, there and back again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.runtime.files import read_json, sha256_file

from .workspace import Workspace

pytestmark = pytest.mark.system

TINY = ExperimentLayout("tiny")


def trained(workspace: Workspace, experiment: ExperimentLayout, run: str) -> tuple[str, list[Any]]:
    """Return the hash of a run's weights, and the steps that each process trained."""
    layout = experiment.run(run)
    sessions = read_json(workspace.folder / layout.pretrained)["sessions"]
    weights = sha256_file(workspace.folder / layout.weights)
    return weights, [(each["first_step"], each["last_step"]) for each in sessions]


def test_there_and_back_again(finished: Workspace, tmp_path: Path) -> None:
    """Catches a remark that trains, and settings A, B, A, B of which one is trained twice."""
    work = finished.copy(tmp_path / "work")
    first = trained(work, TINY, "pixel")
    source = work.folder / "pipeline/method/masked_video.py"
    source.write_text(f"# a remark\n{source.read_text(encoding='utf-8')}", encoding="utf-8")
    assert "Nothing to be done" in work.snakemake("pretrained").stdout

    changed = "runs.pixel.objective.mask.ratio=0.5"
    work.compose(changed)
    assert "of finished training would be repeated" in work.snakemake("-n", "pretrained").stdout
    work.snakemake("pretrained")
    second = trained(work, TINY, "pixel")
    assert second != first
    for overrides, before in (((), first), ((changed,), second)):
        work.compose(*overrides)
        planned = work.snakemake("-n", "pretrained").stdout
        assert "trained before: nothing is repeated" in planned
        assert "would be repeated" not in planned
        said = work.snakemake("pretrained").stdout
        assert "brought back" in said
        assert trained(work, TINY, "pixel") == before


def test_a_label_and_a_name_train_nothing(finished: Workspace, tmp_path: Path) -> None:
    """Catches a corrected label that costs more than the probes that read it, and a training that
    is repeated because data set and experiment are called otherwise."""
    work = finished.copy(tmp_path / "work")
    rows = listed(work.folder)
    write_list(work.folder, rows)
    given = ("data=folder", "data.manifest=list.csv", "data.chunks=1", "data.clip.stride=1")
    given += ("data.labels=[label]", "~runs.sigma_mlp", "~runs.random", "evaluation.finetune=null")
    work.compose("name=mine", "data.name=mine", *given)
    work.snakemake("evaluated")
    mine = ExperimentLayout("mine")
    layout, before = mine.run("pixel"), trained(work, mine, "pixel")
    answers = (work.folder / layout.predictions).read_bytes()

    rows[-1]["label"] = rows[0]["label"]
    write_list(work.folder, rows)
    planned = work.snakemake("-n", "evaluated").stdout
    assert "At most" in planned
    said = work.snakemake("evaluated").stdout
    assert "nothing is left to train" in said
    assert f"reusing {layout.features}" in said
    assert trained(work, mine, "pixel") == before
    assert (work.folder / layout.predictions).read_bytes() != answers

    work.compose("name=renamed", "data.name=renamed", *given)
    said = work.snakemake("pretrained").stdout
    assert f"copied from {layout.folder}" in said
    assert trained(work, ExperimentLayout("renamed"), "pixel") == before


def listed(folder: Path) -> list[dict[str, str]]:
    """Some of the finished chain's videos, as rows of a list: the last one is of the test split."""
    videos = {path.stem: path for path in (folder / "downloads").rglob("*.mp4")}
    rows = []
    for file in sorted(
        (folder / DataLayout("synthetic_tiny").manifest.parent).glob("chunks/*.csv")
    ):
        with file.open(encoding="utf-8") as lines:
            rows += list(csv.DictReader(lines))
    found = []
    for split, count in (("train", 16), ("val", 4), ("test", 8)):
        chosen = [row for row in rows if row["split"] == split and row["id"] in videos][:count]
        assert len(chosen) == count
        found += [
            {
                "id": row["id"],
                "path": videos[row["id"]].relative_to(folder).as_posix(),
                "split": split,
                "label": f"class {number % 2}",
            }
            for number, row in enumerate(chosen)
        ]
    return found


def write_list(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write `list.csv`."""
    with (folder / "list.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
