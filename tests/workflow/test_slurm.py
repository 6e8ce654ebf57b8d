"""The workflow on a real Slurm of two virtual nodes, through the profiles of the project."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.runtime.files import read_json

from .slurm import Slurm, missing, running
from .submission import (
    RESULTS,
    Submission,
    checkpoint,
    edit,
    is_asked_to_stop,
    is_paused,
    submitting,
    trainings,
    variable,
)
from .workspace import Workspace, checkout, environment

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("slurm"),
]

RUNS = ("pixel", "sigma_mlp")  # the second on two nodes


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Two virtual nodes, `n1` and `n2`."""
    reason = missing()
    if reason and "CI" in os.environ and os.geteuid() == 0:  # .ci/run has installed it
        pytest.fail(f"no Slurm: {reason}")
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    with running(tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def cluster(slurm: Slurm) -> Iterator[Slurm]:
    """The same, left with an empty queue and both nodes at work, whatever a test did."""
    yield slurm
    slurm.empty()


def of_this_site(profile: dict[str, Any]) -> None:
    """What a site edits in its copy of the profile, and quicker polling."""
    profile["config"] = ["gres=gpu"]
    profile["slurm-status-command"] = "squeue"  # there is no accounting data base
    profile["slurm-init-seconds-before-status-checks"] = 4
    profile["latency-wait"] = 10
    # A Slurm job costs seconds: these small stages join others'. (Two have nothing to do.)
    profile["groups"] += ["manifest=download", "index=chunk", "segment=nothing", "severe=nothing"]
    profile["group-components"] += ["nothing=2"]


def on_two_nodes(params: dict[str, Any]) -> None:
    params["runs"]["sigma_mlp"]["trainer"].update(engine="ddp", nodes=2)


def on_one_node(params: dict[str, Any]) -> None:
    params["runs"]["sigma_mlp"]["trainer"].update(engine="ddp", nodes=1, devices=2)


def alone(params: dict[str, Any]) -> None:
    params["runs"]["sigma_mlp"]["trainer"].update(engine="single", nodes=1)


def weights(workspace: Workspace, run: str) -> dict[str, torch.Tensor]:
    return load_file(workspace.folder / RESULTS.run(run).weights)


@dataclass(frozen=True)
class Chain:
    """A checkout in which the whole chain ran through the Slurm profile."""

    workspace: Workspace
    said: str


@pytest.fixture(scope="module")
def chain(slurm: Slurm, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The tiny experiment of one run, less two benchmarks; a node is drained at first."""
    workspace = checkout(project, tmp_path_factory.mktemp("slurm") / "chain")
    workspace.compose("~runs.pixel", "~runs.random", "segmentation=none", "severe=none")
    edit(workspace.folder / "params.yaml", on_two_nodes)
    edit(workspace.folder / "workflow" / "profiles" / "slurm" / "config.yaml", of_this_site)
    try:
        with submitting(workspace, "slurm") as snakemake:
            snakemake.wait(slurm.jobs, "a job")
            slurm.command("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
            index = workspace.folder / "data" / "synthetic_tiny" / "shards" / "index.json"
            snakemake.wait(index.exists, "the data set, on the other node")
            slurm.command("scontrol", "update", "nodename=n1", "state=resume")
            return Chain(workspace, snakemake.finish())
    finally:
        slurm.empty()


def test_the_chain_runs_through_the_profile(chain: Chain) -> None:
    """Catches resources that Slurm refuses, a rule that needs this terminal's environment, a job
    per chunk, and a drained node that stops everything."""
    assert (chain.workspace.folder / RESULTS.report).is_file()
    submitted = chain.said.count("has been submitted with SLURM jobid")
    # downloads, chunks, pretrain, evaluate, report; none twice, and none that has nothing to do
    assert submitted == 5, chain.said


def test_two_nodes_learn_what_one_process_learns(chain: Chain, tmp_path: Path) -> None:
    """Catches ranks that see other clips, or whose gradients are not those of the whole batch."""
    log = (chain.workspace.folder / "logs" / "tiny" / "pretrain-sigma_mlp.log").read_text()
    assert "2 process(es) = 2 node(s) x 1 device(s), started by srun" in log
    workspace = chain.workspace.copy(tmp_path / "alone")
    workspace.run("rm", "-r", RESULTS.folder.as_posix())
    edit(workspace.folder / "params.yaml", alone)
    workspace.run(sys.executable, "-m", "pipeline", "pretrain", "--run", "sigma_mlp")
    one, two = weights(workspace, "sigma_mlp"), weights(chain.workspace, "sigma_mlp")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


class Interrupter:
    """Interrupts the trainings of a workspace, each at its next checkpoint."""

    def __init__(self, slurm: Slurm, workspace: Workspace, snakemake: Submission) -> None:
        self.slurm, self.workspace, self.snakemake = slurm, workspace, snakemake
        snakemake.wait(lambda: len(slurm.jobs()) == len(RUNS), "two jobs")
        purposes = {purpose.rsplit("_wildcards_")[1]: job for job, purpose in slurm.jobs().items()}
        self.jobs = {run: purposes[run] for run in RUNS}
        self._before = dict.fromkeys(RUNS, "")

    def pause(self) -> None:
        """Stop each training at its next checkpoint: fast ones shall not end before the signal."""
        waiting = set(RUNS)

        def stop_what_has_saved() -> bool:
            for run in list(waiting):
                if checkpoint(self.workspace, run) > self._before[run]:
                    self._signal(run, "STOP")
                    waiting.remove(run)
            return not waiting

        self.snakemake.wait(stop_what_has_saved, "a checkpoint of each run")

    def go_on(self) -> None:
        """Let paused trainings see their signals; who has left already is not paused."""
        for run in self.jobs:
            self.snakemake.wait(lambda run=run: self._goes_on(run), f"{run} to go on")

    def _goes_on(self, run: str) -> bool:
        """Ask a paused training to go on, as often as Slurm is too busy to pass that on."""
        paused = any(map(is_paused, trainings(self.workspace, run)))
        if paused:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._signal(run, "CONT")
        return not paused

    def come_near_the_time_limit(self) -> None:
        """Wait until Slurm has warned each paused job; it looks every 30 seconds."""
        for job in self.jobs.values():
            minutes = self.slurm.job(job)["RunTime"].split(":")
            limit = 60 * int(minutes[-3]) + int(minutes[-2]) + 2
            self.slurm.command("scontrol", "update", f"jobid={job}", f"TimeLimit={limit}")
        before = {job: self.slurm.job(job)["Restarts"] for job in self.jobs.values()}
        for run, job in self.jobs.items():
            self.snakemake.wait(
                lambda run=run, job=job: (
                    any(map(is_asked_to_stop, trainings(self.workspace, run)))
                    or self.slurm.job(job)["Restarts"] != before[job]  # it has answered already
                ),
                f"Slurm's warning to {run}",
            )

    def start_again(self, restarts: int) -> None:
        """Slurm lets requeued jobs wait for two minutes; start them now."""
        for run, job in self.jobs.items():
            self.snakemake.wait(
                lambda job=job: self._is(job, "PENDING", restarts), f"{run} in the queue again"
            )
            self._before[run] = checkpoint(self.workspace, run)
            self.slurm.command(
                "scontrol", "update", f"jobid={job}", "TimeLimit=600", "StartTime=now"
            )

    def _is(self, job: str, state: str, restarts: int) -> bool:
        known = self.slurm.job(job)
        return (known["JobState"], known["Restarts"]) == (state, str(restarts))

    def _signal(self, run: str, name: str) -> None:
        self.slurm.command("scancel", f"--signal={name}", self.jobs[run], timeout=20, check=False)


def test_what_slurm_interrupts_ends_with_the_same_result(
    cluster: Slurm, chain: Chain, tmp_path: Path
) -> None:
    """Catches a training that a time limit, a signal or a requeue makes begin anew, or fail; and
    GPUs that are not asked for."""
    whole, stopped = (
        chain.workspace.copy(tmp_path / "whole"),
        chain.workspace.copy(tmp_path / "cut"),
    )
    for workspace, place in ((whole, on_one_node), (stopped, on_two_nodes)):
        workspace.run("rm", "-r", RESULTS.folder.as_posix())
        workspace.compose("~runs.random", "trainer.epochs=200", "trainer.checkpoint_every=5")
        edit(workspace.folder / "params.yaml", place)
    with (
        training(whole) as uninterrupted,
        submitting(stopped, "slurm", "pretrained") as snakemake,
    ):
        interrupter = Interrupter(cluster, stopped, snakemake)
        interrupter.pause()
        for job in interrupter.jobs.values():
            assert cluster.job(job)["TresPerNode"] == "gres:gpu:1"
        seen = {variable(each, "CUDA_VISIBLE_DEVICES") for each in trainings(stopped, "pixel")}
        assert seen <= {"0", "1"}, seen
        assert seen
        interrupter.come_near_the_time_limit()
        interrupter.go_on()
        interrupter.start_again(restarts=1)

        interrupter.pause()
        cluster.command("scontrol", "requeue", interrupter.jobs["pixel"])
        cluster.command("scancel", "--signal=TERM", interrupter.jobs["sigma_mlp"])
        interrupter.go_on()
        interrupter.start_again(restarts=2)
        said = snakemake.finish()
        assert uninterrupted.wait(600) == 0
    assert said.count("has been submitted with SLURM jobid") == len(RUNS)
    for run in RUNS:
        result = RESULTS.run(run)
        first_steps = [
            s["first_step"] for s in read_json(stopped.folder / result.pretrained)["sessions"]
        ]
        assert len(first_steps) == 3, first_steps
        assert first_steps == sorted(set(first_steps))
        one, here = weights(whole, run), weights(stopped, run)
        assert all(torch.equal(one[name], here[name]) for name in one)
        assert (whole.folder / result.metrics).read_bytes() == (
            stopped.folder / result.metrics
        ).read_bytes()


def training(workspace: Workspace) -> subprocess.Popen[bytes]:
    """Train all runs in this workspace, without Slurm."""
    command = " && ".join(f"{sys.executable} -m pipeline pretrain --run {run}" for run in RUNS)
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=workspace.folder,
        env=environment(),
        stdout=(workspace.folder / "training.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )


STEPS = """
import sys, time
from pathlib import Path
from pipeline.runtime.interruption import ResumeLater, StopRequest, exit_or_requeue

counted = Path(sys.argv[1])
with StopRequest() as stop:
    for _ in stop.until(range(int(counted.read_text()) if counted.exists() else 0, 40)):
        counted.write_text(str(int(counted.read_text()) + 1 if counted.exists() else 1))
        time.sleep(0.25)
if stop.signal:
    exit_or_requeue(ResumeLater(stop.signal, f"after {counted.read_text()}, saved"), "counting")
"""


def test_a_preempted_job_is_started_again_and_a_cancelled_one_is_not(
    cluster: Slurm, project: Path, tmp_path: Path
) -> None:
    """Catches a job that ends by itself within the time of grace, which Slurm takes for a failure,
    and one that asks to be started again although its user has cancelled it."""
    program = tmp_path / "steps.py"
    program.write_text(STEPS, encoding="utf-8")

    def submit(name: str, *options: str) -> str:
        command = f"exec srun --nodes=1 --ntasks=1 {sys.executable} {program} {tmp_path / name}"
        common = ("--parsable", f"--chdir={project}", f"--output={tmp_path / name}.log")
        variables = f"--export=ALL,PYTHONPATH={project}"
        said = cluster.command("sbatch", *common, variables, *options, f"--wrap={command}").stdout
        return said.strip()

    preempted = submit("preempted", "--partition=spot", "--nodelist=n1")
    cancelled = submit("cancelled", "--partition=main", "--nodelist=n2")
    for name in ("preempted", "cancelled"):
        cluster.wait((tmp_path / name).exists, f"first step of {name}")
    cluster.command("scancel", cancelled)
    urgent = ("--partition=main", "--nodelist=n1", "--exclusive", "--output=/dev/null")
    cluster.command("sbatch", *urgent, "--wrap=true")

    cluster.wait(lambda: state(cluster, preempted) == ("PENDING", "1"), "pre-emption")
    done = int((tmp_path / "preempted").read_text())
    assert 0 < done < 40
    cluster.command("scontrol", "update", f"jobid={preempted}", "StartTime=now")
    cluster.wait(
        lambda: state(cluster, preempted) == ("COMPLETED", "1"), "the pre-empted job's end"
    )
    assert int((tmp_path / "preempted").read_text()) == 40
    cluster.wait(lambda: state(cluster, cancelled) == ("CANCELLED", "0"), "the cancelled job's end")


def state(cluster: Slurm, job: str) -> tuple[str, str]:
    known = cluster.job(job)
    return known["JobState"], known["Restarts"]


def of_this_scheduler(profile: dict[str, Any]) -> None:
    """What a site edits in its copy of the generic profile, and quicker polling."""
    for command in ("submit", "status"):
        key = f"cluster-generic-{command}-cmd"
        profile[key] = profile[key].replace(" pbs", " slurm")
    profile |= {"cluster-generic-cancel-cmd": "scancel", "config": ["gres=gpu"]}
    profile |= {"seconds-between-status-checks": 2, "latency-wait": 10}


def test_the_generic_profile_submits_by_commands_of_its_own(
    cluster: Slurm, chain: Chain, tmp_path: Path
) -> None:
    """Catches resources that do not reach the scheduler, and a failed job that counts as done."""
    workspace = chain.workspace.copy(tmp_path / "generic")
    edit(workspace.folder / "params.yaml", alone)  # so there is something to do, on one node
    profile = workspace.folder / "workflow" / "profiles" / "cluster-generic"
    edit(profile / "config.yaml", of_this_scheduler)
    pretrained = RESULTS.run("sigma_mlp").pretrained.as_posix()
    with submitting(workspace, "cluster-generic", pretrained) as snakemake:
        snakemake.wait(cluster.jobs, "a job")
        (number,) = cluster.jobs()
        said = snakemake.finish()
    assert f"external jobid '{number}'" in said
    job = cluster.job(number)
    wanted = {"JobState": "COMPLETED", "TimeLimit": "7-00:00:00", "MinMemoryNode": "5024M"}
    assert wanted.items() <= job.items(), job
    assert job["TresPerNode"] == "gres:gpu:1"
    assert (workspace.folder / pretrained).is_file()

    command = ("sh", (profile / "status.sh").as_posix(), "slurm")
    assert workspace.run(*command, number).stdout == "success\n"
    assert workspace.run(*command, "999999").stdout == "failed\n"
    failing = cluster.command("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 3").stdout
    cluster.wait(lambda: state(cluster, failing.strip())[0] == "FAILED", "a failed job")
    assert workspace.run(*command, failing.strip()).stdout == "failed\n"
