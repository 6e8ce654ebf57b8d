"""The workflow on a real Slurm of two virtual nodes, through `workflow/profiles/slurm`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.configuration.layout import ExperimentLayout

from .slurm import Slurm, missing, running
from .workspace import Workspace, checkout, environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]

RESULTS = ExperimentLayout("tiny")
PROFILE = (
    "--profile=workflow/profiles/slurm",
    "--slurm-status-command=squeue",  # there is no accounting data base here
    "--slurm-init-seconds-before-status-checks=3",
    "--latency-wait=5",
    "--set-resources",
    "decode:mem_mb=1500",  # the virtual nodes have 8,000 MB
    "report:mem_mb=3000",
)
TWO_NODES = ("trainer.engine=ddp", "trainer.nodes=2")
LONGER = ("trainer.epochs=60", "trainer.checkpoint_every=5")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Two virtual nodes, `n1` and `n2`."""
    reason = missing()
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    with running(tmp_path_factory.mktemp("slurm") / "cluster") as slurm:
        yield slurm


@contextlib.contextmanager
def submitting(workspace: Workspace, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Snakemake at work on the cluster; ended with the block, whatever happens in it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *options, *PROFILE],
        cwd=workspace.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240):
    """Wait until a condition holds; fail where Snakemake ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"snakemake ended early:\n{process.communicate()[0]}")
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def weights(workspace: Workspace, run: str) -> dict[str, torch.Tensor]:
    return load_file(workspace.folder / RESULTS.run(run).weights)


def checkpoint(workspace: Workspace, run: str) -> str:
    """The newest checkpoint of a run."""
    folder = workspace.folder / RESULTS.run(run).checkpoints
    return max((path.name for path in folder.glob("step-*.pt.sha256")), default="")


def run_again_now(cluster: Slurm, job: str, process: subprocess.Popen[str]) -> None:
    """Slurm lets a requeued job wait for two minutes: wait until it is queued, and start it."""
    wait_for(lambda: (job, "PENDING") in {each[:2] for each in cluster.jobs()}, process)
    cluster.command("scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_for(lambda: (job, "RUNNING") in {each[:2] for each in cluster.jobs()}, process)


def test_the_chain_runs_through_the_profile(
    cluster: Slurm, project: Path, finished: Workspace, tmp_path: Path
) -> None:
    """Catches resources that Slurm refuses, a rule that needs this terminal's environment, a
    drained node that stops everything, and two nodes that learn something else than one."""
    workspace = checkout(project, tmp_path / "cluster")
    workspace.compose(*TWO_NODES)
    with submitting(workspace) as process:
        wait_for(cluster.jobs, process)
        cluster.command("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        index = workspace.folder / "data" / "synthetic_tiny" / "shards" / "index.json"
        try:
            wait_for(index.exists, process)
        finally:
            cluster.command("scontrol", "update", "nodename=n1", "state=resume")
        said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
    assert (workspace.folder / RESULTS.report).is_file()
    log = (workspace.folder / "logs" / "tiny" / "pretrain-sigma_mlp.log").read_text()
    assert "2 process(es) = 2 node(s) x 1 device(s), started srun" in log
    for run in ("sigma_mlp", "pixel", "random"):
        one, here = weights(finished, run), weights(workspace, run)
        for name, tensor in one.items():
            torch.testing.assert_close(here[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["one node", "two nodes"])
def test_what_slurm_interrupts_ends_with_the_same_result(
    cluster: Slurm, finished: Workspace, tmp_path: Path, kind: str
) -> None:
    """Catches a training that a signal, a requeue or a time limit makes begin anew, or fail."""
    run = "pixel" if kind == "one node" else "sigma_mlp"
    overrides = (*LONGER, *(TWO_NODES if kind == "two nodes" else ()))
    target = RESULTS.run(run).pretrained.as_posix()
    whole, stopped = finished.copy(tmp_path / "whole"), finished.copy(tmp_path / "stopped")
    for workspace in (whole, stopped):
        workspace.compose(*overrides)
        workspace.run("rm", "-r", RESULTS.folder.as_posix())
    whole.run(sys.executable, "-m", "pipeline", "pretrain", "--run", run)  # torch's own launcher

    with submitting(stopped, target) as process:
        wait_for(lambda: checkpoint(stopped, run), process)
        ((job, *_),) = cluster.jobs()
        for interruption in (
            ("scancel", "--signal=TERM", job),
            ("scontrol", "requeue", job),
        ):
            before = checkpoint(stopped, run)
            cluster.command(*interruption)
            run_again_now(cluster, job, process)
            wait_for(lambda before=before: checkpoint(stopped, run) > before, process)
        said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
    one, here = weights(whole, run), weights(stopped, run)
    assert all(torch.equal(one[name], here[name]) for name in one)
    metrics = RESULTS.run(run).metrics
    assert (whole.folder / metrics).read_bytes() == (stopped.folder / metrics).read_bytes()
