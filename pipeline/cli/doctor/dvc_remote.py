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
from pathlib import Path
from typing import Any

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.configuration.schema import Params
from pipeline.errors import first_line

SUBJECT = "DVC remote"
PATIENCE_S = 60.0
SET = "to share results: dvc remote add --default NAME ADDRESS (docs/versions.md)"


def remote(_params: Params) -> Iterator[Finding]:
    """The default remote. Optional: without one, nothing but `dvc push` and `dvc pull` fails."""
    command = [sys.executable, "-m", "pipeline.cli.doctor.dvc_remote"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        remedy = "is its address right, and are you logged in to it?"
        yield missing(SUBJECT, f"does not answer in {PATIENCE_S:.0f} s", remedy)
        return
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        yield missing(SUBJECT, last[:200], "look at `dvc doctor`")
        return
    if answer["problem"]:
        yield missing(SUBJECT, answer["problem"], answer["remedy"])
    elif not answer["name"]:
        yield warning(SUBJECT, "none is set", SET)
    else:
        yield ok(SUBJECT, f"{answer['name']}: {answer['address']}")


def ask() -> dict[str, str]:
    """Return `name` and `address` of the default remote, or what the `problem` is."""
    from dvc.config import NoRemoteError  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    answer = {"name": "", "address": "", "problem": "", "remedy": ""}
    try:
        with Repo() as repo:
            remote = repo.cloud.get_remote()
            address = f"{remote.fs.protocol}:{remote.path}"
            answer |= {"name": remote.name, "address": address}
            if remote.fs.protocol == "local":
                return answer | _of_folder(Path(remote.path))
            _reach(remote)
    except NoRemoteError:
        return answer
    except NotDvcRepoError:
        return answer | {"problem": "DVC is not set up here", "remedy": "work in a git clone"}
    except (DvcException, OSError, ImportError) as error:
        remedy = "is its address right, and are you logged in to it?"
        return answer | {
            "problem": f"cannot be reached: {first_line(error)}"[:200],
            "remedy": remedy,
        }
    except Exception as error:  # noqa: BLE001 - each store's library has exceptions of its own
        problem = f"cannot be reached: {type(error).__name__}: {error}".splitlines()[0]
        return answer | {"problem": problem[:200], "remedy": "see the store's documentation"}
    return answer


def _reach(remote: Any) -> None:
    """Ask a store for its folder. That it is not there is of no matter: a new store is empty.

    fsspec says 'not found' of a server that does not answer, too; the cause tells them apart.
    """
    try:
        remote.fs.info(remote.path)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None


def _of_folder(folder: Path) -> dict[str, str]:
    """A folder need not be there yet, but it must be possible to make it."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"doctor")
    except OSError as error:
        return {
            "problem": f"{folder} cannot be written to: {error.strerror}",
            "remedy": "is the disk mounted, and may you write there?",
        }
    return {}


if __name__ == "__main__":
    print(json.dumps(ask()))
