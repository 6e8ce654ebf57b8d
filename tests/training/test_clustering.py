"""Clusters of another run's features: found once, exactly, and the targets of a training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.cli.lineage.chain import problems
from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.method.targets.clusters import nearest
from pipeline.runtime.files import read_json, sha256_file
from pipeline.training import pretrain_stage
from pipeline.training.clustering import KMeans

Compose = Callable[..., Params]
RUN = (
    "+objective@runs.clusters.objective=clusters_demo",
    "+runs.clusters.model=${model}",
    "+runs.clusters.trainer=${trainer}",
    "runs.clusters.objective.target.clusters=8",
    "runs.clusters.objective.target.tubes_per_cluster=32",
    "trainer.checkpoint_every=1",
)
LAYOUT = RunLayout("tiny", "clusters")


def learned() -> tuple[str, str, bytes]:
    files = (LAYOUT.weights, LAYOUT.clusters)
    return (*map(sha256_file, files), LAYOUT.metrics.read_bytes())


def test_killed_and_resumed_it_ends_as_uninterrupted(compose: Compose) -> None:
    """Catches clusters that are found anew by a training that goes on, or are others then."""
    params = compose(*RUN)
    pretrain_stage.run(params, "pixel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KMeans, "go_over", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain_stage.run(params, "clusters")
    assert not LAYOUT.clusters.exists()
    pretrain_stage.run(params, "clusters")
    whole = learned()
    manifest = read_json(LAYOUT.pretrained)
    assert manifest["clusters_sha256"] == whole[1]
    assert manifest["teacher_sha256"]
    assert problems(LAYOUT.pretrained) == []

    for path in (*sorted(LAYOUT.checkpoints.glob("step-*.pt"))[-1:], LAYOUT.pretrained):
        path.unlink()
    (LAYOUT.checkpoints / "finished.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KMeans, "go_over", killed)
        pretrain_stage.run(params, "clusters")  # they lie there
    assert learned() == whole

    LAYOUT.clusters.unlink()
    (LAYOUT.checkpoints / "finished.json").unlink()
    pretrain_stage.run(params, "clusters")  # the same ones again
    assert learned() == whole


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_diagnostics_tell_how_clusters_are_used(compose: Compose) -> None:
    """Catches a run whose collapse would not be seen."""
    params = compose(*RUN, "trainer.epochs=4")
    pretrain_stage.run(params, "pixel")
    pretrain_stage.run(params, "clusters")
    lines = [json.loads(line) for line in LAYOUT.metrics.read_text().splitlines()]
    assert all(0.5 < line["assignment_entropy"] <= 1 for line in lines)
    assert all(0 < line["prototypes_used"] <= 1 for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_too_few_tubes_are_told(compose: Compose) -> None:
    """Catches a traceback of scikit-learn."""
    params = compose(*RUN, "runs.clusters.objective.target.clusters=100000")
    pretrain_stage.run(params, "pixel")
    with pytest.raises(UserError, match="cannot be put into 100,000 clusters"):
        pretrain_stage.run(params, "clusters")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("objective/loss@runs.clusters.objective.loss=mse",), "use loss 'cross_entropy'"),
        (("objective/loss@runs.pixel.objective.loss=cross_entropy",), "target 'pixel' has none"),
        (("runs.clusters.objective.target.features.run=gone",), "names gone, which is no run"),
        (("+runs.clusters.objective.target.features.layer=2",), "layer"),
    ],
)
def test_what_makes_no_sense_is_refused(
    overrides: tuple[str, ...], message: str, compose: Compose
) -> None:
    """Catches a training that would fail, or learn from something else than it says."""
    with pytest.raises(UserError, match=message):
        compose(*RUN, *overrides)


def test_k_means_finds_groups_and_is_deterministic() -> None:
    """Catches clusters that depend on the order of calls, and a nearest that is not."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 6)).astype(np.float32) * 10
    labels = rng.integers(5, size=4000)
    samples = (centres[labels] + rng.normal(size=(4000, 6)) * 0.1).astype(np.float32)
    found = []
    for _ in range(2):
        k_means = KMeans(5, seed=1)
        for _ in range(3):
            k_means.go_over(samples, threads=1)
        found.append(k_means.centroids)
    assert np.array_equal(*found)
    ids = nearest(torch.from_numpy(samples), torch.from_numpy(found[0]))
    distances = torch.cdist(torch.from_numpy(samples), torch.from_numpy(found[0]))
    assert torch.equal(ids, distances.argmin(1))
    pairs = {(int(a), int(b)) for a, b in zip(ids, labels, strict=True)}
    assert len({a for a, _ in pairs}) == len(pairs)  # no cluster has tubes of two groups


@pytest.mark.system
def test_one_process_equals_two(compose: Compose, project: Path) -> None:
    """Catches clusters of the tubes of one process alone, and means over unequal shares."""
    pretrain_stage.run(compose(*RUN), "pixel")
    pretrain_stage.run(compose(*RUN), "clusters")
    alone = (load_file(LAYOUT.clusters)["centroids"], losses())
    shutil.rmtree(LAYOUT.folder)
    compose(*RUN, "trainer.engine=ddp", "trainer.devices=2")
    command = [sys.executable, "-m", "pipeline", "pretrain", "--run", "clusters"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(project)}, check=True)
    torch.testing.assert_close(load_file(LAYOUT.clusters)["centroids"], alone[0])
    assert losses() == pytest.approx(alone[1], rel=1e-5)


def losses() -> list[float]:
    return [json.loads(line)["loss"] for line in LAYOUT.metrics.read_text().splitlines()]
