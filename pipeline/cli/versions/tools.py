"""Asking Snakemake and DVC, by their own commands, what they hold to be done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

LOCKS = Path(".snakemake") / "locks"


def is_locked() -> bool:
    """Whether a Snakemake is at work in this folder, or was killed."""
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def refuse_where_locked(what: str) -> None:
    """Raise UserError where a Snakemake is at work here, or was killed."""
    if is_locked():
        raise UserError(
            f"{what} has to wait: Snakemake is at work in this folder, or was killed",
            place=str(LOCKS),
            remedy="wait for it; after a kill: snakemake --cores all, which goes on "
            "(first python workflow/free_lock.py)",
        )


def planned() -> dict[str, int]:
    """Return how many jobs of each rule `snakemake -n` would run; empty where all is done.

    Raises:
        UserError: where it cannot say.
    """
    plan = snakemake("--dry-run", "--cores", "1", "--quiet", "rules", "host")
    if "Nothing to be done" in plan:
        return {}
    table = plan.rpartition("Job stats:")[2].partition("\n\n")[0].splitlines()[3:]
    rows = dict(line.split() for line in table if line.strip())
    return {rule: int(count) for rule, count in rows.items() if rule not in ("all", "total")}


def snakemake(*options: str) -> str:
    """Run Snakemake; return what it printed."""
    done = _run("snakemake", *options)
    if done.returncode:
        raise _failed("snakemake", options, done.stdout + done.stderr)
    return done.stdout + done.stderr


def dvc_status() -> dict[str, list[Any]]:
    """Return DVC's stages that are not as `dvc.lock` says, each with what has changed.

    Without the one that DVC is to run each time: `code`, where the package lies elsewhere.
    """
    done = _run("dvc", "status", "--json")
    if done.returncode:
        raise _failed("dvc", ("status",), done.stderr or done.stdout)
    status: dict[str, list[Any]] = json.loads(done.stdout)
    return {stage: found for stage, found in status.items() if found != ["always changed"]}


def dvc(*options: str) -> str:
    """Run DVC; return what it printed."""
    done = _run("dvc", *options)
    if done.returncode:
        raise _failed("dvc", options, done.stderr or done.stdout)
    return done.stdout


def changes(status: dict[str, list[Any]], most: int = 6) -> list[str]:
    """Return a line per stage that has changed: `evaluate@pixel: changed deps: params.yaml`."""
    lines = []
    for stage, entries in list(status.items())[:most]:
        words = []
        for entry in entries:
            if isinstance(entry, dict):
                for kind, files in entry.items():
                    names = files if isinstance(files, dict) else {str(files): ""}
                    words.append(f"{kind}: {', '.join(names)}")
            else:
                words.append(str(entry))
        lines.append(f"{stage}: {'; '.join(words)}")
    if len(status) > most:
        lines.append(f"... and {len(status) - most} more: dvc status")
    return lines


def _run(tool: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", tool, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _failed(tool: str, options: tuple[str, ...], output: str) -> UserError:
    """Repeat what a tool printed: its own message names the thing better than this one could."""
    text = output.strip()
    if text.startswith("error: "):  # the Snakefile's, which is ours
        problem, _, rest = text.removeprefix("error: ").partition("\n  where:  ")
        place, _, remedy = rest.partition("\n  remedy: ")
        return UserError(problem, place=place, remedy=remedy.splitlines()[0] if remedy else "")
    last = "\n  ".join(text.splitlines()[-8:])
    return UserError(f"`{' '.join([tool, *options])}` failed:\n  {last}")
