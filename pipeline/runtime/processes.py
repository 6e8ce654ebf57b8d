"""Which process of a run this is.

A process learns its rank from the variables of `torchrun` (or any launcher that sets the same),
from those of a step of `srun`, or it is alone.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from pipeline.configuration.schema import Trainer
from pipeline.errors import UserError

OWN_LAUNCHER = "this command"  # the launcher of processes that this module starts
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
