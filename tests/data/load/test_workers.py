"""Loader workers and where their sockets lie."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from pipeline.data.load import workers

PROJECT = Path(__file__).parents[3]
# In a process of its own: `tempfile` looks at TMPDIR once.
TAKE_ONE = """
import torch
from torch.utils.data import Dataset
from pipeline.data.load.workers import load_in_order
from pipeline.errors import UserError

class Squares(Dataset):
    def __getitem__(self, step):
        return torch.tensor([step * step])

if __name__ == "__main__":
    try:
        print([int(item) for item in load_in_order(Squares(), range(4), {workers})])
    except UserError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("too_long", "count", "said"),
    [
        (0, 1, "[0, 1, 4, 9]"),
        (1, 1, "too long a name for loader workers"),
        (1, 0, "[0, 1, 4, 9]"),
    ],
    ids=["as long as can be", "a byte longer", "without workers"],
)
def test_workers_refuse_a_temporary_folder_in_which_they_would_hang(
    too_long: int, count: int, said: str
) -> None:
    """Would catch a limit that is a byte off: workers that hang, or a folder refused in vain."""
    with tempfile.TemporaryDirectory(dir="/tmp") as outer:
        length = workers.LONGEST_SOCKET_PATH - workers.SOCKET + too_long
        folder = Path(outer) / ("x" * (length - len(outer) - 1))
        folder.mkdir()
        assert len(os.fsencode(folder)) == length
        script = Path(outer) / "take.py"
        script.write_text(TAKE_ONE.replace("{workers}", str(count)))
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert said in done.stdout, done.stderr


IN_MEMORY = {"item": "as the module has it"}


class InMemory(Dataset[str]):
    """What the memory of the process says that makes the items."""

    def __getitem__(self, step: int) -> str:
        return IN_MEMORY["item"]


@pytest.mark.skipif(sys.platform != "linux", reason="no fork but on Linux")
def test_workers_that_use_an_accelerator_are_no_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches forks of a process that has used CUDA, in which CUDA fails."""
    monkeypatch.setitem(IN_MEMORY, "item", "changed")
    device = torch.device("cpu")
    assert [*workers.load_in_order(InMemory(), range(1), 1)] == ["changed"]
    made = [*workers.load_in_order(InMemory(), range(1), 1, accelerator=device)]
    assert made == ["as the module has it"]
