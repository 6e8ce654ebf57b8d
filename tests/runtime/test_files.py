"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.runtime.files import atomic_path, write_text


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
