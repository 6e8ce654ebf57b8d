"""Checkpoints survive crashes and damage, and are never resumed under other settings."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.runtime.checkpoint_sets import differences, fingerprint
from pipeline.runtime.checkpoints import Checkpoints

SETTINGS = {"trainer": {"epochs": 2, "seed": 0}, "data": {"shards": "ab"}}


def body(step: int) -> dict[str, Any]:
    return {
        "model": {"weight": torch.full((3, 2), float(step))},
        "optimiser": {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": []},
        "sessions": [{"seconds": 1.5, "code": {"revision": None, "dirty": False}}],
    }


def saved(folder: Path, steps: int, keep: int = 10, keep_every: int | None = None) -> Checkpoints:
    checkpoints = Checkpoints(folder, SETTINGS, keep, "test", keep_every)
    for step in range(1, steps + 1):
        checkpoints.save(step, body(step))
    return checkpoints


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Catches a lossy round trip, a wrong choice of the newest, a hash of something else."""
    state = saved(tmp_path, 12).latest()
    assert state is not None
    assert state["step"] == 12
    assert torch.equal(state["model"]["weight"], body(12)["model"]["weight"])
    assert state["sessions"] == body(12)["sessions"]
    hashes = sorted(path.name for path in tmp_path.glob("*.sha256"))
    subprocess.run(["sha256sum", "--check", "--quiet", *hashes], cwd=tmp_path, check=True)


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    """Catches a disk that fills up, and the deletion of the newest instead of the oldest."""
    saved(tmp_path, 5, keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    kept = ["step-00000004.pt", "step-00000005.pt"]
    assert names == sorted(kept + [f"{name}.sha256" for name in kept])


@settings(max_examples=20)
@given(steps=st.integers(1, 12), keep=st.integers(1, 4), every=st.integers(1, 5))
def test_every_nth_stays(
    tmp_path_factory: pytest.TempPathFactory, steps: int, keep: int, every: int
) -> None:
    """Catches a checkpoint kept for ever that is not, and one that counts among the last few."""
    folder = tmp_path_factory.mktemp("checkpoints")
    saved(folder, steps, keep, every)
    expected = {*range(max(1, steps - keep + 1), steps + 1), *range(every, steps + 1, every)}
    assert {int(path.stem[5:]) for path in folder.glob("*.pt")} == expected
    assert len(list(folder.iterdir())) == 2 * len(expected)


def test_going_back_behind_damaged_ones_loses_no_sound_one(tmp_path: Path) -> None:
    """Catches damaged checkpoints that count as the last few, at the cost of the sound ones."""
    checkpoints = saved(tmp_path, 4, keep=3)
    for step in (3, 4):
        (tmp_path / f"step-{step:08d}.pt").write_bytes(b"damaged")
    state = checkpoints.latest()
    assert state is not None
    assert state["step"] == 2
    (tmp_path / "step-00000003.pt").rename(tmp_path / "step-00000030.pt")
    checkpoints.save(3, body(3))
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "step-00000002.pt",
        "step-00000003.pt",
    ]
    assert "step-00000003" in checkpoints.last_good()


def test_a_checkpoint_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a file or a name that a power failure can still lose, and one dropped too early.

    What is synced is watched, as a power failure cannot be had.
    """
    checkpoints = saved(tmp_path, 1, keep=1)
    events: list[str] = []
    fsync, rename, unlink = os.fsync, Path.replace, Path.unlink

    def name_of(handle: int) -> str:
        return Path(f"/proc/self/fd/{handle}").readlink().name

    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(f"sync {name_of(handle)}"), fsync(handle))[1]
    )
    monkeypatch.setattr(
        Path,
        "replace",
        lambda self, target: (events.append(f"name {target.name}"), rename(self, target))[1],
    )
    monkeypatch.setattr(
        Path,
        "unlink",
        lambda self, **options: (events.append(f"drop {self.name}"), unlink(self, **options))[1],
    )
    path = checkpoints.save(2, body(2))
    kinds = [event for event in events if ".tmp" not in event or event.startswith("sync")]
    named = kinds.index(f"name {path.name}")
    assert ".tmp.pt" in kinds[named - 1]  # the content before the name
    assert kinds[named - 2] == f"name {path.name}.sha256"  # the hash before what it is of
    assert kinds[named + 1] == f"sync {tmp_path.name}"  # the names before what they replace goes
    assert kinds[named + 2].startswith("drop step-00000001")


@settings(max_examples=30)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_one_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, cut: bool
) -> None:
    """Catches any flipped bit or truncation that would be resumed, or would end the run."""
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = saved(folder, 2)
    newest = folder / "step-00000002.pt"
    content = bytearray(newest.read_bytes())
    place = int(where * len(content))
    content[place] ^= 1 << bit
    newest.write_bytes(content[:place] if cut else content)
    state = checkpoints.latest()
    assert state is not None
    assert state["step"] == 1
    assert "step-00000001.pt" in checkpoints.last_good()


def test_the_damage_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a silent fall-back: the user must learn that work was lost, and where."""
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "step-00000001.pt.sha256").unlink()
    assert checkpoints.latest() is None
    assert "step-00000001.pt is damaged" in capsys.readouterr().err


class Trap:
    """What a hostile file would hold: unpickling it runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """Catches `weights_only=False`: a file with the right hash may still not run code."""
    checkpoints = saved(tmp_path / "checkpoints", 1)
    checkpoints.save(2, body(2) | {"trap": Trap(tmp_path / "sprung")})
    state = checkpoints.latest()
    assert not (tmp_path / "sprung").exists()
    assert state is not None
    assert state["step"] == 1


def test_other_settings_are_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches training on from the weights of another configuration, and their silent loss."""
    saved(tmp_path, 2)
    other = {"trainer": {"epochs": 4, "seed": 0}, "data": {"shards": "ab"}}
    checkpoints = Checkpoints(tmp_path, other, 2, "test")
    assert checkpoints.latest() is None
    assert "trainer.epochs was 2, is 4" in capsys.readouterr().err
    assert len(list((tmp_path / "set-aside").glob("001-*/*.pt"))) == 2
    checkpoints.save(1, body(1))
    assert checkpoints.latest() is not None


def test_settings_are_told_apart_whatever_their_order() -> None:
    """Catches a fingerprint of the mapping's order, or one that misses a nested value."""
    assert fingerprint({"a": 1, "b": {"c": 2}}) == fingerprint({"b": {"c": 2}, "a": 1})
    assert fingerprint({"a": 1, "b": {"c": 2}}) != fingerprint({"a": 1, "b": {"c": 3}})
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 2}}) == [
        "a.c was 2, is null",
        "a.d was null, is 2",
    ]


def test_left_overs_are_removed(tmp_path: Path) -> None:
    """Catches half-written files of killed processes that pile up, or are taken for checkpoints."""
    checkpoints = saved(tmp_path, 1)
    leftover = tmp_path / ".step-00000002.0123abcd.tmp.pt"
    leftover.write_bytes(b"half")
    state = checkpoints.latest()
    assert state is not None
    assert state["step"] == 1
    assert not leftover.exists()


def test_a_full_disk_is_a_clear_end(tmp_path: Path) -> None:
    """Catches a traceback, a half checkpoint, or the loss of the last good one.

    The system's limit on the size of a file stands in for the end of a disk, which test_failures.py
    has for real where it may.
    """
    checkpoints = saved(tmp_path, 1)
    large = body(2) | {"model": {"weight": torch.zeros(1_000_000)}}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            checkpoints.save(2, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "step-00000001.pt" in caught.value.remedy
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == ["step-00000001.pt"]
    assert not list(tmp_path.glob(".*.tmp*"))


def test_a_folder_that_cannot_be_made_is_a_clear_end(tmp_path: Path) -> None:
    """Catches a traceback where the place for checkpoints is not to be written."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        Checkpoints(tmp_path / "file" / "checkpoints", SETTINGS, 2, "test").save(1, body(1))
