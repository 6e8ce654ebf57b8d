"""Whether DVC has a remote, and whether that answers.

`python -m pipeline.cli.doctor.dvc_remote` asks it; the doctor does so in a process of its own,
since a store that does not answer may take minutes to say so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.configuration.schema import Params
from pipeline.errors import UserError, first_line

SUBJECT = "DVC remote"
TIMEOUT_S = 60.0
LOGIN = "is its address right, and are you logged in to it?"
SET = "to share results: dvc remote add --default NAME ADDRESS (docs/versions.md)"


def remote(_params: Params) -> Iterator[Finding]:
    """The default remote. Optional: without one, nothing but `dvc push` and `dvc pull` fails."""
    command = [sys.executable, "-m", "pipeline.cli.doctor.dvc_remote"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        yield Finding(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        yield missing(SUBJECT, f"does not answer in {TIMEOUT_S:.0f} s", LOGIN)
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        yield missing(SUBJECT, last[:200], "look at `dvc doctor`")


def ask() -> Finding:
    """Say what the default remote is, or what the problem with it is."""
    from dvc.config import NoRemoteError  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    try:
        with Repo() as repo:
            remote = repo.cloud.get_remote()
            if remote.fs.protocol == "local":
                _check_folder(Path(remote.path))
            else:
                _reach(remote)
            return ok(SUBJECT, f"{remote.name}: {remote.fs.protocol}:{remote.path}")
    except NoRemoteError:
        return warning(SUBJECT, "none is set", SET)
    except NotDvcRepoError:
        return missing(SUBJECT, "DVC is not set up here", "work in a git clone")
    except UserError as error:
        return missing(SUBJECT, error.problem, error.remedy)
    except (DvcException, OSError, ImportError) as error:
        return missing(SUBJECT, f"cannot be reached: {first_line(error)}"[:200], LOGIN)
    except Exception as error:  # noqa: BLE001 - each store's library has exceptions of its own
        problem = f"cannot be reached: {type(error).__name__}: {error}".splitlines()[0]
        return missing(SUBJECT, problem[:200], "see the store's documentation")


def _reach(remote: Any) -> None:
    """Ask a store for its folder. That it is not there is of no matter: a new store is empty.

    fsspec says 'not found' of a server that does not answer, too; the cause tells them apart.
    """
    try:
        remote.fs.info(remote.path)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None


def _check_folder(folder: Path) -> None:
    """A folder need not be there yet, but it must be possible to make it."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"doctor")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to: {error.strerror}",
            remedy="is the disk mounted, and may you write there?",
        ) from None


if __name__ == "__main__":
    print(json.dumps(asdict(ask())))
