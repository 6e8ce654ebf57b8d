"""Which process of a run this is, and starting the others.

A process learns its rank from the variables of `torchrun` (or any launcher that sets the same),
from those of a step of `srun`, or it is alone. Alone, but configured to be several, it starts them:
`trainer.devices` processes on this machine, or `trainer.nodes` times as many by `srun` within an
allocation. It then only passes on: their output to its own, signals to them, and the exit status
of the first that failed. `torchrun` itself would turn every status into 1 (so that nobody could
tell "go on later" from a failure) and end each error with a traceback of its own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO

from pipeline.configuration.schema import Trainer
from pipeline.errors import UserError
from pipeline.runtime import watchdog
from pipeline.runtime.joblog import own_rank

FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
OWN_LAUNCHER = "this command"  # the launcher of processes that this module starts
GRACE = 30.0  # seconds in which the others may end by themselves, once one process has failed
PORTS = (20_000, 40_000)  # where the processes of a Slurm step meet, by the number of the job


@dataclass(frozen=True)
class ProcessInfo:
    """Where a process stands among all `world` processes of a run (ranks count from 0)."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # on its node
    local_world: int = 1
    launcher: str = ""  # of several processes
    master: tuple[str, int] | None = None  # address and port at which rank 0 is met

    @property
    def nodes(self) -> int:
        """Machines, each with as many processes."""
        return self.world // self.local_world


def process_info(environment: Mapping[str, str]) -> ProcessInfo:
    """Read where this process stands from the variables of its launcher.

    Raises:
        UserError: where a launcher says only half of it.
    """
    if "WORLD_SIZE" in environment and "RANK" in environment:
        return _torchrun(environment)
    # In a batch script SLURM_PROCID is set, too; only a step of several tasks has started us all.
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return _srun(environment)
    return ProcessInfo()


def resolve_master(process: ProcessInfo) -> ProcessInfo:
    """Return the same process, with an address of rank 0 that this machine can look up.

    Slurm's name of a node need not be the name of a host: then its controller knows the address.

    Raises:
        UserError: where it does not, either; torch would try for `trainer.timeout_s`.
    """
    if process.launcher != "srun" or process.master is None:
        return process
    node, port = process.master
    with suppress(OSError):
        socket.getaddrinfo(node, port)
        return process
    command = ["scontrol", "show", "node", node]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        match = None
    else:
        match = re.search(r"\bNodeAddr=(\S+)", done.stdout)
    if match is None or match[1] == node:
        raise UserError(
            f"node {node}, where the first process is, has no address that is known here",
            place="srun",
            remedy="set MASTER_ADDR to an address of it before you start Snakemake, or the job",
        )
    return replace(process, master=(match[1], port))


def check_world(process: ProcessInfo, trainer: Trainer) -> None:
    """Refuse a world that is not the configured one, or that cannot share the batch.

    Raises:
        UserError: naming both sides.
    """
    if (process.nodes, process.local_world) != (trainer.nodes, trainer.devices):
        raise UserError(
            f"{process.launcher} started {process.nodes} x {process.local_world} processes "
            f"(nodes x devices), but the configuration says {trainer.nodes} x {trainer.devices}",
            place="trainer.nodes, trainer.devices",
            remedy="start as many as are configured, or set both to what is started",
        )
    if trainer.engine == "single" and process.world > 1:
        raise UserError(
            f"engine 'single' is for one process, and these are {process.world}",
            place="trainer.engine",
            remedy="set trainer.engine to ddp, fsdp or deepspeed",
        )
    if trainer.batch_size % (process.world * trainer.accumulation):
        raise UserError(
            f"a batch of {trainer.batch_size} clips cannot be shared equally by {process.world} "
            f"processes in {trainer.accumulation} part(s) each",
            place="trainer.batch_size, trainer.accumulation",
            remedy=f"use a multiple of {process.world * trainer.accumulation}",
        )


def should_spawn(process: ProcessInfo, trainer: Trainer) -> bool:
    """Whether this process is alone, but not meant to be."""
    return not process.launcher and trainer.nodes * trainer.devices > 1


def spawn(trainer: Trainer, command: Sequence[str]) -> int:
    """Run `command` once per process; return 0, or the status of the first that failed.

    Raises:
        UserError: where several nodes are configured outside a Slurm allocation.
    """
    if trainer.nodes == 1:
        return _spawn_locally(command, trainer.devices)
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(
            f"{trainer.nodes} nodes are configured, and this is not a Slurm allocation",
            place="trainer.nodes",
            remedy="run under sbatch or salloc, start it by torchrun on every node, or set "
            "trainer.nodes=1",
        )
    srun = [
        "srun",
        f"--nodes={trainer.nodes}",
        f"--ntasks-per-node={trainer.devices}",
        f"--cpus-per-task={trainer.threads}",
        "--kill-on-bad-exit=1",
        "--unbuffered",
    ]
    return _wait([_popen([*srun, *command], {})])


def this_command() -> list[str]:
    """The command that started this process, less its log file: what is printed comes back here.

    Raises:
        UserError: where it is not a command of this package.
    """
    if Path(sys.argv[0]).parts[-2:] != ("pipeline", "__main__.py"):
        raise UserError(
            "several processes are configured, and this is none of this package's commands",
            place="trainer.nodes, trainer.devices",
            remedy="start it as python -m pipeline pretrain, or by torchrun or srun",
        )
    arguments = iter(sys.argv[1:])
    kept = [sys.executable, "-m", "pipeline"]
    for argument in arguments:
        if argument == "--log":
            next(arguments, None)
        elif not argument.startswith("--log="):
            kept.append(argument)
    return kept


def own_log(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file into which this process copies what it prints: one for each rank."""
    rank = own_rank(environment)
    return path if path is None or rank == "0" else path.with_suffix(f".rank{rank}{path.suffix}")


def _torchrun(environment: Mapping[str, str]) -> ProcessInfo:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in environment]
    if missing:
        raise UserError(
            f"RANK and WORLD_SIZE are set, but not {', '.join(missing)}",
            place="environment",
            remedy="start by torchrun, which sets all of them, or unset RANK and WORLD_SIZE",
        )
    rank, world, local_rank, local_world = (int(environment[name]) for name in names[:4])
    master = (environment["MASTER_ADDR"], int(environment["MASTER_PORT"]))
    launcher = "torchrun" if "TORCHELASTIC_RUN_ID" in environment else OWN_LAUNCHER
    return ProcessInfo(rank, world, local_rank, local_world, launcher, master)


def _srun(environment: Mapping[str, str]) -> ProcessInfo:
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES", 1)))
    if world % nodes:
        raise UserError(
            f"srun started {world} tasks on {nodes} nodes, which cannot be as many on each",
            place="srun",
            remedy="give srun --ntasks-per-node",
        )
    address = environment.get("MASTER_ADDR") or first_host(
        environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "127.0.0.1"))
    )
    job, step = (int(environment.get(f"SLURM_{name}_ID", 0)) for name in ("JOB", "STEP"))
    port = int(environment.get("MASTER_PORT", PORTS[0] + (job * 16 + step) % PORTS[1]))
    rank, local_rank = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
    return ProcessInfo(rank, world, local_rank, world // nodes, "srun", (address, port))


def first_host(nodes: str) -> str:
    """The first name in Slurm's short form of a list of nodes: `gpu[07-09,12],x1` is gpu07."""
    match = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def _spawn_locally(command: Sequence[str], devices: int) -> int:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # The store is this process's: so its port is free for certain, and no rank has to be first.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    ranks = (str(rank) for rank in range(devices))
    return _wait([_popen(command, {**shared, "RANK": r, "LOCAL_RANK": r}) for r in ranks])


def _popen(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a signal to our group reaches them once, through us
    )


def _wait(processes: Sequence[subprocess.Popen[str]]) -> int:
    """Wait until all have ended; where one fails, the others get `GRACE` seconds to.

    They are killed at once with this process: nobody would take their output and their status.
    """
    for process in processes:
        dog = watchdog.started(process.pid)
    failed = 0
    deadline = float("inf")
    with ExitStack() as stack:
        stack.callback(_kill, processes)
        stack.enter_context(_signals_to(processes))
        threads = [threading.Thread(target=_copy, args=(p.stdout,)) for p in processes]
        for thread in threads:
            thread.start()
        while True:
            statuses = [process.poll() for process in processes]
            if not failed and (failed := next(filter(None, statuses), 0)):
                deadline = time.monotonic() + GRACE
                if failed < 0:
                    _say_killed(statuses.index(failed), -failed)
            if None not in statuses:
                break
            if time.monotonic() > deadline:
                _kill(processes)
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        for process in processes:
            dog.ended(process.pid)
    return failed if failed >= 0 else 128 - failed  # killed by a signal: as a shell says it


def _say_killed(number: int, by: int) -> None:
    name = signal.Signals(by).name
    memory = " (too little memory?)" if name == "SIGKILL" else ""
    print(f"process {number} was ended by {name}{memory}", file=sys.stderr, flush=True)


def _copy(stream: IO[str]) -> None:
    for line in stream:
        sys.stderr.write(line)
        sys.stderr.flush()


def _kill(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()


@contextmanager
def _signals_to(processes: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Pass on what asks a run to stop, while open."""

    def forward(number: int, _frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, forward) for number in FORWARDED_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
