"""Checkpoints as trainings leave them: their tensors come out, or one message that says why not."""

from __future__ import annotations

import argparse
import datetime
import enum
import itertools
import pathlib
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.weights import checkpoint_files
from pipeline.weights.checkpoint_files import read

STATE = {
    "encoder.patch_embed.proj.weight": torch.arange(6.0).reshape(2, 3),
    "encoder.blocks.0.attn.q_bias": torch.ones(2),
    "decoder.norm.weight": torch.zeros(3),
    "mask_token": torch.full((1, 1, 4), 2.0),
}


def same(found: dict[str, Tensor]) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


def inside(name: str, wrapper: str) -> str:
    """As where a part of a model was compiled: `encoder._orig_mod.blocks...`."""
    first, dot, rest = name.partition(".")
    return f"{first}.{wrapper}.{rest}" if dot else name


@given(
    prefixes=st.lists(st.sampled_from(["module", "_orig_mod", "model", "net"]), max_size=3),
    within=st.lists(st.sampled_from(checkpoint_files.HOLDERS), max_size=3),
    wrapper=st.sampled_from([None, "_orig_mod", "_checkpoint_wrapped_module"]),
)
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_prefixes_and_holders_are_taken_off(
    tmp_path: Path, prefixes: list[str], within: list[str], wrapper: str | None
) -> None:
    """Catches tensors that are all there and refused for what a wrapper calls them."""
    names = {name: inside(name, wrapper) if wrapper else name for name in STATE}
    state = {".".join([*prefixes, names[name]]): tensor for name, tensor in STATE.items()}
    content: dict[str, Any] = OrderedDict(state)
    for holder in within:
        content = {"epoch": 3, holder: content, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    torch.save(content, tmp_path / "a.pth")
    same(read(tmp_path / "a.pth")[0])
    save_file(state, tmp_path / "a.safetensors")
    same(read(tmp_path / "a.safetensors")[0])


def test_an_averaged_model_of_torch(tmp_path: Path) -> None:
    """Catches its counter, which has no prefix, keeping the prefix on all others."""
    state = {f"module.{name}": tensor for name, tensor in STATE.items()}
    torch.save({**state, "n_averaged": torch.tensor(3)}, tmp_path / "a.pth")
    same(read(tmp_path / "a.pth")[0])


def test_an_unknown_holder_is_found_and_two_are_refused(tmp_path: Path) -> None:
    """Catches a choice between two models that nobody is told of."""
    torch.save({"ema_teacher": STATE, "epoch": 1}, tmp_path / "one.pth")
    same(read(tmp_path / "one.pth")[0])
    torch.save({"student": STATE, "teacher": STATE}, tmp_path / "two.pth")
    with pytest.raises(UserError, match="several of its keys hold tensors: student, teacher"):
        read(tmp_path / "two.pth")


BESIDE = {
    "a scalar": np.float64(0.25),
    "integers": np.int64(3),
    "a truth": np.bool_(True),
    "an array": np.arange(3),
    "a path": pathlib.PurePosixPath("/data/x"),
    "a place": Path("out"),
    "a time": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "a default": defaultdict(int, a=1),
    "a set": {1, 2},
    "arguments": argparse.Namespace(lr=np.float32(0.1), output=Path("out"), num_frames=16),
}


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_values_beside_the_weights(tmp_path: Path, legacy: bool) -> None:
    """Catches a training's records that make its tensors unreadable; arguments are kept."""
    content = {"model": STATE, **BESIDE, "args": BESIDE["arguments"]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    tensors, said = read(tmp_path / "a.pth")
    same(tensors)
    assert said["num_frames"] == 16


class Trap:
    """Would leave a file behind where it is made again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


class Settings:
    """A class of the training's own code."""


class Kind(enum.Enum):
    A = 1


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (Settings(), "Settings"),
        (Kind.A, "Kind"),
        (print, "print"),
        (eval, "eval"),
        ("trap", "getattr"),
    ],
)
def test_what_would_run_code_is_named_with_a_remedy_of_this_project(
    tmp_path: Path, beside: object, named: str, legacy: bool
) -> None:
    """Catches code that is run, a long message, and torch's advice to trust the file."""
    trap = Trap(tmp_path / "sprung")
    content = {"model": STATE, "extra": trap if beside == "trap" else beside}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="cannot be read safely") as caught:
        read(tmp_path / "a.pth")
    assert named in caught.value.problem
    said = str(caught.value)
    assert "weights_only" not in said
    assert "safetensors" in caught.value.remedy
    assert len(caught.value.problem.splitlines()) == 1
    assert not (tmp_path / "sprung").exists()


def test_whatever_stands_for_a_value_does_nothing(tmp_path: Path) -> None:
    """Catches a path or a number of the file that is made for real."""
    torch.save({"model": STATE, "path": Path("x"), "n": np.float64(1)}, tmp_path / "a.pth")
    content = checkpoint_files._unpickled(tmp_path / "a.pth")
    assert type(content["path"]) is type(content["n"]) is checkpoint_files._PassedOver
    assert not vars(content["path"])


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_damaged_files_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    """Catches a traceback, or torch's own text, for files that are cut short or another's."""
    path = tmp_path / name
    whole = path.with_name("whole")
    (save_file if path.suffix == ".safetensors" else torch.save)(STATE, whole)
    content = whole.read_bytes()
    for damaged in (b"", b"<html>", content[: len(content) // 2], content[:-30], b"\x80\x02}q"):
        path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            read(path)
        assert len(caught.value.problem.splitlines()) == 1
        assert "weights_only" not in str(caught.value)


def test_no_tensors(tmp_path: Path) -> None:
    """Catches "its tensors are , ..." where there are none: the keys are told instead."""
    contents: list[Any] = [{}, {"epoch": 1, "lr": 0.1}, {"optimizer": {0: torch.ones(1)}}]
    for content in contents:
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UserError, match="holds no tensors") as caught:
            read(tmp_path / "a.pth")
        assert all(key in caught.value.problem for key in content)


def test_a_file_that_holds_itself_is_read_to_its_end(tmp_path: Path) -> None:
    """Catches a search without an end."""
    around: dict[str, Any] = {}
    around.update({f"k{n}": around for n in range(200)})
    torch.save(around, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no tensors"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(10**12),
        torch.empty(10**15, device="meta"),
        torch.sparse_coo_tensor(
            torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (10**12,), check_invariants=True
        ),
    ],
    ids=["repeated", "meta", "sparse"],
)
def test_tensors_that_are_not_stored_are_refused(tmp_path: Path, tensor: Tensor) -> None:
    """Catches a small file for which a model of terabytes would be built."""
    torch.save({**STATE, "encoder.blocks.0.mlp.fc1.weight": tensor}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    with pytest.raises(UserError, match=r"not stored in full|cannot be read"):
        read(tmp_path / "a.pth")


def test_one_storage_for_many_tensors_is_refused(tmp_path: Path) -> None:
    """Catches the same by many views of one storage."""
    one = torch.ones(1000)
    views = {f"encoder.blocks.{n}.x": one.view(10, 100) for n in range(50)}
    torch.save(views, tmp_path / "a.pth")
    with pytest.raises(UserError, match="share"):
        read(tmp_path / "a.pth")


def test_two_tensors_of_one_name_are_refused() -> None:
    """Catches a wrapper's name taken off so that one tensor hides another."""
    for pair in itertools.permutations(["encoder.a.x", "encoder._orig_mod.a.x"]):
        with pytest.raises(UserError, match="one name"):
            checkpoint_files.plain_names(dict.fromkeys(pair, torch.ones(1)), Path("a"))
