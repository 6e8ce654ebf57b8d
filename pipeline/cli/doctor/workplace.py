"""What every stage stands on: Python, git, Snakemake, DVC; Slurm where there is one."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.project.making import Record, of_package
from pipeline.configuration.schema import Params
from pipeline.errors import how_to_install

TIMEOUT_S = 20.0


def programs(_params: Params) -> Iterator[Finding]:
    """Python, git and the two programs that run the stages."""
    yield ok("Python", platform.python_version())
    for package in ("snakemake", "dvc", "hydra-core"):
        version = version_of(package)
        if version:
            yield ok(package, version)
        else:
            yield missing(package, "not installed", "make setup", needed=True)
    git = output_of(["git", "--version"])
    if git is None:
        yield missing("git", "not found", "install git: DVC and provenance need it", needed=True)
    elif output_of(["git", "rev-parse", "--is-inside-work-tree"]) is None:
        yield warning(
            "git",
            f"{git.removeprefix('git version ')}, but this folder is no repository",
            "work in a clone: without git DVC does not start, and results do not say of which code",
        )
    else:
        yield ok("git", git.removeprefix("git version "))


def project(_params: Params) -> Iterator[Finding]:
    """Whether the files of a project, which lies beside no code, are those of the package."""
    record = Record.load(Path())
    if not record.version:
        return
    if record.package == of_package():
        yield ok("project's files", f"of version {record.version}")
    else:
        found = f"of version {record.version}; the installed package has others"
        yield warning("project's files", found, "sigma-pipeline upgrade")


def slurm(_params: Params) -> Iterator[Finding]:
    """Slurm's commands, its controller and accounting, Snakemake's plugin. All optional."""
    lacking = [name for name in ("sbatch", "squeue", "scancel", "srun") if not shutil.which(name)]
    if len(lacking) == 4:
        yield missing("Slurm", "not on this machine", "only needed to run on a cluster")
        return
    if lacking:
        yield missing("Slurm", f"no {', '.join(lacking)}", "install Slurm's client commands")
        return
    version = (output_of(["sbatch", "--version"]) or "of unknown version").removeprefix(
        "slurm-wlm "
    )
    partitions = output_of(["sinfo", "--noheader", "--format=%P"])
    if partitions is None:
        yield warning(
            "Slurm",
            f"{version}, but its controller does not answer",
            "look at `sinfo`; on a cluster, try from a login node",
        )
        return
    yield ok("Slurm", f"{version}, partitions {', '.join(partitions.split())}")
    if output_of(["sacct", "--noheader", "--allocations"]) is None:
        yield warning(
            "Slurm's accounting",
            "sacct fails",
            "add `slurm-status-command: squeue` to the profile (docs/clusters.md)",
        )
    plugin = "snakemake-executor-plugin-slurm"
    if version_of(plugin):
        yield ok("Snakemake for Slurm", version_of(plugin))
    else:
        remedy = how_to_install("slurm")
        yield missing("Snakemake for Slurm", f"no {plugin}", remedy)


def version_of(package: str) -> str:
    """Return the installed version of a package; empty where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def output_of(command: Sequence[str]) -> str | None:
    """Return what a program prints; None where it is not there, fails or does not end."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
