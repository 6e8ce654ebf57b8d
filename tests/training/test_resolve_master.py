"""The processes of a Slurm step meet under an address, not under a name that only Slurm knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.runtime.processes import ProcessInfo, resolve_master


def process(node: str) -> ProcessInfo:
    return ProcessInfo(rank=1, world=2, launcher="srun", master=(node, 20_000))


def knowing(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: str) -> None:
    """Have a scontrol that answers so; the real one is tried in tests/workflow/test_slurm.py."""
    command = folder / "scontrol"
    command.write_text(f"#!/bin/sh\necho '{answer}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_host_keeps_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches a controller that is asked by every process of a large job."""
    knowing(monkeypatch, tmp_path, "   NodeAddr=10.0.0.1 NodeHostName=x")
    assert resolve_master(process("localhost")) == process("localhost")
    assert resolve_master(ProcessInfo()) == ProcessInfo()


def test_slurm_knows_the_address_of_its_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Catches ranks that look up the name of a node for ten minutes."""
    knowing(monkeypatch, tmp_path, "   NodeAddr=127.0.0.1 NodeHostName=x Version=22.05.8")
    assert resolve_master(process("n1.invalid")) == process("127.0.0.1")


@pytest.mark.parametrize("answer", ["Node n1.invalid not found", "  NodeAddr=n1.invalid Version=1"])
def test_a_node_without_an_address_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    """Catches the same where Slurm has no other address, either."""
    knowing(monkeypatch, tmp_path, answer)
    with pytest.raises(UserError, match=r"node n1\.invalid"):
        resolve_master(process("n1.invalid"))
