"""A real Slurm on this machine: munge, a controller and two virtual nodes, all on loopback.

No systemd, no accounting data base. The two nodes are two daemons of one host; each claims 16 CPUs,
64 GB and two GPUs (character devices that lead nowhere). Everything lies in one folder, but for two
links in /etc/slurm: the job-step plugin strips SLURM_CONF from the environment of an inner srun,
which then looks there. The daemons end with the process that started them, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = (
    "munged",
    "slurmctld",
    "slurmd",
    "srun",
    "sbatch",
    "squeue",
    "scontrol",
    "scancel",
    "setpriv",
)
ETC = Path("/etc/slurm")
LINKS = ("slurm.conf", "gres.conf")
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
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 Sockets=1 "
    "CoresPerSocket=16 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:2 State=UNKNOWN"
)


def missing() -> str | None:
    """Why no Slurm can be started here; None where it can."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    if any(not (ETC / name).is_symlink() and (ETC / name).exists() for name in LINKS):
        return f"{ETC} already holds a configuration"
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            return f"port {PORT} is taken, perhaps by the same tests"
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

    def jobs(self) -> dict[str, str]:
        """Id of every job that has not ended -> its comment: rule_pretrain_wildcards_pixel."""
        listed = self.command("squeue", "--noheader", "--format=%i|%k").stdout
        return dict(line.split("|", 1) for line in listed.splitlines())

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job (JobState, Restarts, TresPerNode, ...), `MinJobAge` long."""
        said = self.command("scontrol", "--oneliner", "show", "job", number).stdout
        return dict(field.split("=", 1) for field in said.split() if "=" in field)

    def node_state(self, node: str) -> str:
        """State of a node as sinfo names it: idle, mixed, drained, ..."""
        said = self.command("sinfo", "--noheader", f"--nodes={node}", "--format=%T").stdout
        return said.split()[0]

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 300) -> None:
        """Wait until a condition holds.

        Raises:
            TimeoutError: with what there is in the queue.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                queue = self.command("squeue", check=False).stdout
                raise TimeoutError(f"no {what} within {seconds} s\n{queue}")
            time.sleep(0.2)

    def empty(self) -> None:
        """Cancel every job and wait until it is gone; have both nodes take jobs again."""
        for node in NODES:
            self.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        for hard in ((), ("--signal=KILL",)):
            with contextlib.suppress(TimeoutError):
                self.command("scancel", *hard, "--user=root")
                self.wait(lambda: not self.jobs(), "empty queue", 60)
                break


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Start the daemons in `folder`, and stop them in the order that leaves none behind."""
    cluster = Slurm(folder)
    _write(folder)
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_daemon(folder, "munged", "--foreground", "--force", *_munge(folder)))
        cluster.wait((folder / "munge" / "munge.socket").exists, "munge", 60)
        started.append(_daemon(folder, "slurmctld", "-D"))
        started.extend(_daemon(folder, "slurmd", "-D", "-N", node) for node in NODES)
        cluster.wait(lambda: _idle(cluster), "idle nodes", 120)
        yield cluster
    finally:
        if len(started) > 1:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, TimeoutError):
                cluster.empty()
        for daemon in reversed(started):  # the nodes, the controller, munge
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
            daemon.kill()
            daemon.wait()
        for name in LINKS:
            (ETC / name).unlink(missing_ok=True)


def _idle(cluster: Slurm) -> bool:
    said = cluster.command("sinfo", "--noheader", "--Node", "--format=%T", check=False)
    return said.returncode == 0 and set(said.stdout.split()) == {"idle"}


def _daemon(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A daemon in the foreground, in a session of its own; it ends with this process."""
    with (folder / "log" / f"{name}.out").open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", name, *arguments],
            env=os.environ | {"PATH": _path()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


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
    for name in LINKS:
        (ETC / name).unlink(missing_ok=True)  # a link to nowhere, of tests that were killed
        (ETC / name).symlink_to(folder / "etc" / name)


def _munge(folder: Path) -> list[str]:
    """Write a key; return munged's options."""
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
    return [f"--{name}={path}" for name, path in files.items()]


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
