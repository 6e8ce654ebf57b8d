"""Files are written whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.runtime.files import atomic_path, remove_leftovers, reserve, write_text


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_follow_the_umask(umask: int, tmp_path: Path) -> None:
    """Catches weights that only their owner can read: safetensors makes its files so."""
    before = os.umask(umask)
    try:
        write_text(tmp_path / "text", "words")
        with atomic_path(tmp_path / "weights.safetensors") as temporary:
            save_file({"weights": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask, path.name


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """Catches half a file in the place of a whole one, and temporary files left behind."""
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text("new") + "is no number"
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_and_nothing_of_others(tmp_path: Path) -> None:
    """Catches temporary files that stay for ever, and those of another job that are removed."""
    write = (
        "import os, signal, sys; from pathlib import Path\n"
        "from pipeline.runtime.files import atomic_path\n"
        "for path in sys.argv[1:]:\n"
        "    atomic_path(path).__enter__().touch()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    names = ("1.json", "pictures/a.png", "10.json", "1.csv")
    paths = [tmp_path / name for name in names]
    done = subprocess.run([sys.executable, "-c", write, *map(str, paths)], check=False)
    assert done.returncode == -signal.SIGKILL
    write_text(paths[0], "whole")
    left = [next(path.parent.glob(f".{path.stem}.*.tmp{path.suffix}")) for path in paths]
    remove_leftovers(paths[0], paths[1].parent, tmp_path / "none" / "x.json")
    assert [path.exists() for path in left] == [False, False, True, True]
    assert paths[0].read_text() == "whole"


@pytest.mark.parametrize("is_linux", [True, False])
def test_a_reserved_file_has_its_length(
    is_linux: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an array that cannot be mapped into its file, on macOS alone or everywhere."""
    if not is_linux:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with (tmp_path / "array").open("w+b") as file:
        reserve(file.fileno(), 4097)
        assert os.fstat(file.fileno()).st_size == 4097
        assert file.read() == bytes(4097)
