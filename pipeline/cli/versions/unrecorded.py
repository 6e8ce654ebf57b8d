"""Results that lie here without Snakemake's knowing of them: pulled, copied, or made by hand.

Of a file that it has no record of, Snakemake compares time stamps alone: after `dvc pull` into a
fresh clone it takes whatever is there for done, also where `params.yaml` has changed since.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import UserError

MEMORY = Path(".snakemake")  # beside the Snakefile
LONGEST = 254  # characters of a record's name in one folder (Snakemake 9)


def unrecorded(outputs: Iterable[Path], memory: Path = MEMORY) -> list[Path]:
    """Return the outputs that are there, but of which Snakemake neither has a record, nor is (or
    was, when it was killed) at work on them.

    Looks at names alone: a hundred thousand outputs take a second.
    """
    records = (memory / "metadata", memory / "incomplete")
    return [
        path
        for path in outputs
        if path.exists() and not any((folder / _name(path)).exists() for folder in records)
    ]


def _name(output: Path) -> str:
    """Where Snakemake keeps its record of an output: the path in base64, in folders where long."""
    name = urlsafe_b64encode(str(output).encode()).decode()
    parts = [name[i : i + LONGEST] for i in range(0, len(name), LONGEST)]
    return os.path.join(*(f"@{part}" for part in parts[:-1]), parts[-1])  # noqa: PTH118 - no Path


def refusal(outputs: Sequence[Path]) -> UserError:
    """Return what Snakemake says in place of `Nothing to be done`."""
    some = ", ".join(str(path) for path in outputs[:2])
    more = ", ..." if len(outputs) > 2 else ""
    are = "1 result is" if len(outputs) == 1 else f"{len(outputs):,} results are"
    return UserError(
        f"{are} here that Snakemake has no record of, so it cannot tell whether they are of these "
        "settings and this code",
        place=f"{some}{more}",
        remedy="after dvc pull, dvc checkout, git checkout or dvc exp apply: python -m pipeline "
        "versions bless; for results of other origin: snakemake --cores all --forceall, which "
        "takes up what is still good",
    )
