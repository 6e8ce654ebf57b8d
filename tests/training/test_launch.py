"""Who a process is, and how several are started, stopped, and end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params, Trainer
from pipeline.errors import UserError
from pipeline.runtime import joblog, launch, processes
from pipeline.runtime.files import read_json
from pipeline.runtime.interruption import EXIT_RESUME_LATER
from pipeline.runtime.processes import ProcessInfo, process_info

from .test_loop import TRAINER

Compose = Callable[..., Params]


def torchrun(rank: int, nodes: int, devices: int) -> dict[str, str]:
    """The variables of one of torchrun's processes."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(nodes * devices),
        "LOCAL_RANK": str(rank % devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "here",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
    }


def srun(rank: int, nodes: int, devices: int) -> dict[str, str]:
    """The variables of one task of a step; without a job's number nobody waits for its end."""
    return {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(nodes * devices),
        "SLURM_STEP_NUM_NODES": str(nodes),
        "SLURM_STEP_NODELIST": "n[1-4]",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank % devices),
    }


@given(nodes=st.integers(1, 40), devices=st.integers(1, 16), data=st.data())
def test_a_process_knows_its_place(nodes: int, devices: int, data: st.DataObject) -> None:
    """Catches ranks that are mixed up, and processes that would meet in different places."""
    rank = data.draw(st.integers(0, nodes * devices - 1))
    process = process_info(torchrun(rank, nodes, devices))
    expected = (rank, nodes * devices, rank % devices, devices)
    assert (process.rank, process.world, process.local_rank, process.local_world) == expected
    assert (process.nodes, process.master) == (nodes, ("here", 29500))
    if nodes * devices > 1:
        process = process_info(srun(rank, nodes, devices))
        assert (process.rank, process.world, process.local_rank, process.local_world) == expected
        assert process.nodes == nodes
        assert process.master == process_info(srun(0, nodes, devices)).master
        assert process.master is not None
        assert process.master[0] == "n1"
        assert 1024 < process.master[1] < 65536


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, srun(0, 1, 1)],
)
def test_a_process_may_be_alone(environment: dict[str, str]) -> None:
    """Catches a batch script, or a step of one task, that waits for processes nobody started."""
    assert process_info(environment) == ProcessInfo()


def test_half_a_place_is_an_error() -> None:
    """Catches a traceback of a missing variable, or a process that takes itself for rank 0."""
    environment = torchrun(0, 1, 2)
    del environment["MASTER_PORT"]
    with pytest.raises(UserError, match="but not MASTER_PORT"):
        process_info(environment)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-4]", "n1"),
        ("gpu[007-009,12],x1", "gpu007"),
        ("a,b[1-2]", "a"),
        ("r[3,5]-ib", "r3-ib"),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    """Catches a meeting at a name that Slurm's short form of a list does not mean."""
    assert processes.first_host(nodes) == first


def trainer(**changes: object) -> Trainer:
    """Checked settings of a trainer."""
    return Trainer.model_validate({**TRAINER.model_dump(), "engine": "ddp", **changes})


def test_another_world_than_configured_is_refused() -> None:
    """Catches a run that quietly trains on a batch, or a rate, that nobody asked for."""
    process = process_info(torchrun(1, 1, 2))
    processes.check_world(process, trainer(devices=2))
    for configured in (trainer(devices=4), trainer(nodes=2), trainer()):
        with pytest.raises(UserError, match="torchrun started 1 x 2 processes") as caught:
            processes.check_world(process, configured)
        assert f"says {configured.nodes} x {configured.devices}" in caught.value.problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "single", "devices": 2}, "is for one process"),
        ({"devices": 3}, "batch_size must be a multiple of"),
        ({"devices": 4, "accumulation": 4}, "accumulation = 16"),
        ({"engine": "deepspeed", "precision": "fp16"}, "has no precision 'fp16'"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], said: str) -> None:
    """Catches a mistake that would only be found on all nodes at once."""
    with pytest.raises(ValueError, match=said):
        trainer(**changes)


def test_logs_and_commands_of_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches processes that write over each other's log, or that start pytest once more."""
    log = tmp_path / "x.log"
    assert joblog.own_log(log, {}) == joblog.own_log(log, torchrun(0, 1, 2)) == log
    assert joblog.own_log(log, torchrun(1, 1, 2)) == tmp_path / "x.rank1.log"
    assert joblog.own_log(None, torchrun(1, 1, 2)) is None
    with pytest.raises(UserError, match="none of this package's commands"):
        launch.this_command()
    command = ["/x/pipeline/__main__.py", "pretrain", "--log", "a", "--run", "b", "--log=c"]
    monkeypatch.setattr(sys, "argv", command)
    expected = [sys.executable, "-m", "pipeline", "pretrain", "--run", "b"]
    assert launch.this_command() == expected
    monkeypatch.setattr(sys, "argv", ["/x/bin/sigma-pipeline", *command[1:]])
    assert launch.this_command() == expected


def script(text: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        f"import os, signal, sys, time\nrank = os.environ['RANK']\n{text}",
    ]


def test_the_status_of_the_first_that_failed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches others that are waited for without end, a lost status, and lost last words."""
    monkeypatch.setattr(launch, "GRACE", 0.5)
    assert launch.spawn(trainer(devices=2), script("print('I am', rank)")) == 0
    said = capfd.readouterr().err
    assert "I am 0\n" in said
    assert "I am 1\n" in said
    began = time.monotonic()
    fails = "if rank == '1':\n  print('gone'); sys.exit(75)\ntime.sleep(600)"
    assert launch.spawn(trainer(devices=2), script(fails)) == 75
    assert time.monotonic() - began < 300
    assert "gone\n" in capfd.readouterr().err
    killed = "if rank == '1': os.kill(os.getpid(), signal.SIGKILL)"
    assert launch.spawn(trainer(devices=2), script(killed)) == 128 + signal.SIGKILL
    assert "process 1 was ended by SIGKILL" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_every_process(number: signal.Signals, tmp_path: Path) -> None:
    """Catches a pre-emption that only the starting process hears of, and that ends it."""
    catches = (
        f"signal.signal({int(number)}, lambda *_: sys.exit(75))\n"
        f"open(os.path.join({str(tmp_path)!r}, rank), 'w').close()\n"
        # in short parts: no handler runs during one that a signal just preceded
        "for _ in range(6000): time.sleep(0.1)"
    )

    def signal_once_both_listen() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    listening = threading.Thread(target=signal_once_both_listen, daemon=True)
    listening.start()
    began = time.monotonic()
    assert launch.spawn(trainer(devices=2), script(catches)) == 75
    listening.join()
    assert time.monotonic() - began < 300


def test_several_nodes_need_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run on one node that takes itself for one on several."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match="not a Slurm allocation"):
        launch.spawn(trainer(nodes=2), ["true"])


@pytest.fixture
def tasks(workspace: Path, project: Path) -> Iterator[Callable[[], list[subprocess.Popen[str]]]]:
    """Start the run `pixel` as two tasks of srun would be started; dead when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> list[subprocess.Popen[str]]:
        with socket.create_server(("localhost", 0)) as server:
            port = str(server.getsockname()[1])
        pair = [
            subprocess.Popen(
                [sys.executable, "-m", "pipeline", "pretrain", "--run", "pixel"],
                cwd=workspace,
                env={
                    **os.environ,
                    "PYTHONPATH": str(project),
                    "OMP_NUM_THREADS": "1",
                    **srun(rank, 1, 2),
                    "SLURM_STEP_NODELIST": "localhost",
                    "MASTER_PORT": port,
                },
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for rank in range(2)
        ]
        started.extend(pair)
        return pair

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


PAIR = (
    "trainer.engine=ddp",
    "trainer.devices=2",
    "trainer.epochs=40",
    "trainer.checkpoint_every=1000",
)


@pytest.mark.system
def test_tasks_of_srun_stop_together_and_go_on(
    compose: Compose,
    tasks: Callable[[], list[subprocess.Popen[str]]],
) -> None:
    """Catches processes that do not find each other, a signal to one of them that leaves the other
    waiting or behind, and anything but rank 0 that speaks or writes."""
    params = compose(*PAIR)
    layout = RunLayout(params.name, "pixel")
    pair = tasks()
    while not layout.metrics.exists() or layout.metrics.read_bytes().count(b"\n") < 3:
        assert all(process.poll() is None for process in pair), pair[0].communicate()[1]
        time.sleep(0.01)
    pair[1].send_signal(signal.SIGUSR1)
    said = [process.communicate(timeout=300)[1] for process in pair]
    assert [process.returncode for process in pair] == [EXIT_RESUME_LATER] * 2, said
    assert "2 process(es) = 1 node(s) x 2 device(s), started by srun; engine ddp" in said[0]
    assert "SIGUSR1" in said[0]
    assert "pretrain" not in said[1]
    (checkpoint,) = layout.checkpoints.glob("*.pt")
    steps = int(checkpoint.stem.removeprefix("step-"))
    assert steps == layout.metrics.read_bytes().count(b"\n") < 60

    pair = tasks()
    said = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    sessions = read_json(layout.pretrained)["sessions"]
    assert [(s["first_step"], s["last_step"]) for s in sessions] == [(0, steps), (steps, 60)]
    assert [s["processes"] for s in sessions] == [2, 2]


@pytest.mark.system
def test_a_world_that_is_not_configured_ends_on_one_screen(
    compose: Compose, tasks: Callable[[], list[subprocess.Popen[str]]]
) -> None:
    """Catches eight tracebacks for one mistake, and a process that goes on alone."""
    compose()
    pair = tasks()
    said = [process.communicate(timeout=300)[1] for process in pair]
    assert [process.returncode for process in pair] == [2, 2]
    assert "srun started 1 x 2 processes" in said[0]
    assert said[0].count("\n") == 3
    assert said[1] == ""


def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path, project: Path) -> None:
    """Catches processes that train on for seconds, with nobody to hear them, after kill -9."""
    text = f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w'); time.sleep(600)"
    program = (
        "from tests.training.test_launch import launch, script, trainer\n"
        f"launch.spawn(trainer(devices=2), script({text!r}))"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=project)
    try:
        while len(list(tmp_path.iterdir())) < 2:
            assert starter.poll() is None
            time.sleep(0.05)
    finally:
        starter.kill()
        starter.wait()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    deadline = time.monotonic() + 60  # a busy machine; alone it takes some milliseconds
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
