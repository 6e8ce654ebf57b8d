"""Starting the processes of a run.

A process that is alone, but configured to be one of several, starts them:
`trainer.devices` processes on this machine, or `trainer.nodes` times as many by `srun` within an
allocation. It then only passes on: their output to its own, signals to them, and the exit status
of the first that failed. `torchrun` itself would turn every status into 1 (so that nobody could
tell "go on later" from a failure) and end each error with a traceback of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from pipeline.configuration.schema import Trainer
from pipeline.errors import UserError
from pipeline.runtime import watchdog
from pipeline.runtime.processes import ProcessInfo

FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
GRACE = 30.0  # seconds in which the others may end by themselves, once one process has failed


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
    started = Path(sys.argv[0])
    if started.parts[-2:] != ("pipeline", "__main__.py") and started.name != "sigma-pipeline":
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
