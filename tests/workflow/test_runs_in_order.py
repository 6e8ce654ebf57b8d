"""Runs that need others: clusters of another run's features, and a run that goes on from one."""

from __future__ import annotations

import json
import sys

import pytest

from pipeline.configuration.layout import ExperimentLayout

from .workspace import Workspace

pytestmark = pytest.mark.system

RESULTS = ExperimentLayout("tiny")
RUNS = ("pixel", "clusters", "clusters_again")  # in their order
CHAIN = (
    "data.chunks=1",
    "evaluation=probes",
    "severe=none",
    "segmentation=none",
    "~runs.sigma_mlp",
    "~runs.random",
    "+objective@runs.clusters.objective=clusters_demo",
    "+objective@runs.clusters_again.objective=clusters_demo",
    *(
        override
        for run in RUNS[1:]
        for override in (
            f"+runs.{run}.model=${{model}}",
            f"+runs.{run}.trainer=${{trainer}}",
            f"runs.{run}.objective.target.clusters=8",
        )
    ),
    "+runs.clusters_again.init=clusters",
    "runs.clusters_again.objective.target.features.run=clusters",
)


def test_each_is_trained_after_those_that_it_needs(fresh: Workspace) -> None:
    """Catches an order that is not kept, a chain that ends early, and one that is never done."""
    fresh.compose(*CHAIN)
    planned = fresh.snakemake("--dry-run").stdout
    assert "after pixel, clusters" in planned
    said = fresh.snakemake().stdout
    ended = [said.index(f"wrote results/tiny/runs/{run}/model") for run in RUNS]
    assert ended == sorted(ended)
    assert fresh.planned() == {}
    page = (fresh.folder / RESULTS.report).read_text(encoding="utf-8")
    assert "begun with the weights of clusters" in page
    manifest = fresh.folder / RESULTS.run("clusters_again").pretrained
    body = json.loads(manifest.read_text(encoding="utf-8"))
    assert body["init"]["run"] == "clusters"
    assert list(body["inherited"]["needs"]) == ["clusters"]
    traced = fresh.run(sys.executable, "-m", "pipeline", "trace", str(manifest))
    assert "results/tiny/runs/clusters/model.safetensors" in traced.stdout

    fresh.compose(*CHAIN, "runs.pixel.objective.mask.ratio=0.5")
    assert fresh.planned()["pretrain"] == len(RUNS)
