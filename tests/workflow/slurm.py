"""A real Slurm on this machine: munge, a controller and two virtual nodes, all on loopback.

No systemd, no accounting data base. The two nodes are two daemons of one host; each has four CPUs
and two pretended GPUs (character devices that lead nowhere). Everything lies in one folder, but for
the two links in /etc/slurm: the job-step plugin strips SLURM_CONF from the environment of an inner
srun, which then looks there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scontrol", "scancel")
ETC = Path("/etc/slurm")
PORT = 16817  # of the controller; the nodes follow it
NODES = ("n1", "n2")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SrunPortRange=16900-16999
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=2,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=30
GresTypes=gpu
{nodes}
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=10 \
OverSubscribe=NO
PartitionName=spot Nodes=n[1-2] MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Sockets=1 "
    "CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8000 Gres=gpu:2 State=UNKNOWN"
)


def missing() -> str | None:
    """Why no Slurm can be started here; None where it can."""
    absent = [name for name in NEEDED if not shutil.which(name, path=_path())]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    if any((ETC / name).exists() for name in ("slurm.conf", "gres.conf")):
        return f"{ETC} already holds a configuration"
    return None


@dataclass(frozen=True)
class Slurm:
    """A running cluster."""

    folder: Path

    def command(
        self, *arguments: str, timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands; standard error is part of the output."""
        done = subprocess.run(
            arguments,
            env=os.environ | {"PATH": _path()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,  # an srun on a drained node waits for ever
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    def jobs(self) -> list[tuple[str, str, str]]:
        """Id, state and name of every job that has not ended."""
        listed = self.command("squeue", "--noheader", "--format=%i|%T|%j").stdout
        return [tuple(line.split("|", 2)) for line in listed.splitlines() if line]  # type: ignore[misc]

    def node_state(self, node: str) -> str:
        """State of a node as sinfo names it: idle, mixed, drained, ..."""
        return self.command("sinfo", "--noheader", f"--nodes={node}", "--format=%T").stdout.split()[
            0
        ]

    def completed(self) -> list[dict[str, str]]:
        """What Slurm has noted of each job that ended (JobId, Name, JobState, NodeList, ...)."""
        path = self.folder / "log" / "jobcomp.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(f.split("=", 1) for f in line.split() if "=" in f) for line in lines]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Start the daemons in `folder`, and stop them in the order that leaves none behind."""
    cluster = Slurm(folder)
    _write(folder)
    started: list[Path] = []
    try:
        _start_munge(folder)
        started.append(folder / "munge" / "munged.pid")
        cluster.command("slurmctld")
        started.append(folder / "run" / "slurmctld.pid")
        for node in NODES:
            cluster.command("slurmd", "-N", node)
            started.append(folder / "run" / f"slurmd-{node}.pid")
        _wait(lambda: all(cluster.node_state(node) == "idle" for node in NODES), "idle nodes", 30)
        yield cluster
    finally:
        _stop(cluster, started)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)


def _write(folder: Path) -> None:
    for name in ("etc", "state", "log", "run", "munge", "spool", "dev"):
        (folder / name).mkdir(parents=True, mode=0o755)
    host = socket.gethostname()
    nodes = [
        NODE.format(name=name, host=host, port=PORT + 4 + number)
        for number, name in enumerate(NODES)
    ]
    text = CONFIGURATION.format(host=host, folder=folder, port=PORT, nodes="\n".join(nodes))
    (folder / "etc" / "slurm.conf").write_text(text)
    for number in range(2):  # a count without device files would drain the node
        device = folder / "dev" / f"gpu{number}"
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    gres = f"AutoDetect=off\nName=gpu File={folder}/dev/gpu[0-1]\n"
    (folder / "etc" / "gres.conf").write_text(gres)
    ETC.mkdir(exist_ok=True)
    for name in ("slurm.conf", "gres.conf"):
        (ETC / name).unlink(missing_ok=True)  # a link to nowhere, of tests that were killed
        (ETC / name).symlink_to(folder / "etc" / name)


def _start_munge(folder: Path) -> None:
    place = folder / "munge"
    key = place / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    files = {
        "key-file": key,
        "socket": place / "munge.socket",
        "pid-file": place / "munged.pid",
        "log-file": place / "munged.log",
        "seed-file": place / "munged.seed",
    }
    options = [f"--{name}={path}" for name, path in files.items()]
    subprocess.run(["munged", *options, "--force"], env={"PATH": _path()}, check=True, timeout=30)


def _stop(cluster: Slurm, started: list[Path]) -> None:
    with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, TimeoutError):
        cluster.command("scancel", "--user=root")
        _wait(lambda: not cluster.jobs(), "an empty queue", 30)
    for pid_file in reversed(started):  # the nodes, the controller, munge
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            number = int(pid_file.read_text())
            os.kill(number, 15)
            _wait(lambda number=number: not Path(f"/proc/{number}").exists(), str(pid_file), 15)


def _wait(condition: object, what: str, seconds: float) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {seconds} s")
        time.sleep(0.1)


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
