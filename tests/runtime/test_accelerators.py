"""Which accelerator is used, of those that a machine has: here one that is said to have some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from pipeline.configuration.schema import Profile, Trainer
from pipeline.errors import UserError
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.runtime import accelerators, machine, precision
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.devices import choose_device
from pipeline.runtime.ranks import Ranks
from pipeline.training.engines import check_kind
from pipeline.training.explained_errors import explained
from pipeline.training.profiling import profiled

NONE: Mapping[str, int] = {}


def have(monkeypatch: pytest.MonkeyPatch, there: Mapping[str, int], asked: str | None) -> None:
    """Let torch count these accelerators, and the environment ask for `asked`."""
    for kind in accelerators.KINDS:
        monkeypatch.setattr(f"torch.{kind}.device_count", lambda kind=kind: there.get(kind, 0))
    if asked is None:
        monkeypatch.delenv(accelerators.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(accelerators.VARIABLE, asked)


@pytest.mark.parametrize(
    ("there", "asked", "kind"),
    [
        (NONE, None, None),
        (NONE, "auto", None),
        (NONE, "cpu", None),
        ({"cuda": 2}, None, "cuda"),
        ({"cuda": 2}, "", "cuda"),
        ({"cuda": 2}, "cpu", None),
        ({"mps": 1}, "auto", None),
        ({"mps": 1}, "mps", "mps"),
        ({"xpu": 4}, None, None),
        ({"xpu": 4}, "xpu", "xpu"),
        ({"cuda": 1, "xpu": 1}, "xpu", "xpu"),
    ],
)
def test_what_is_there_is_chosen(
    monkeypatch: pytest.MonkeyPatch, there: Mapping[str, int], asked: str | None, kind: str | None
) -> None:
    """Catches an accelerator that is passed over, and one that is used against the user's word."""
    have(monkeypatch, there, asked)
    assert accelerators.kind() == kind


@pytest.mark.parametrize(
    ("there", "asked", "remedy"),
    [
        (NONE, "mps", "set it to cpu, or install torch for mps"),
        ({"cuda": 1}, "xpu", "set it to cuda or cpu, or install torch for xpu"),
        ({"cuda": 1}, "gpu", "set it to auto, cpu, cuda, xpu or mps, or unset it"),
        ({"cuda": 1}, "cuda:0", "set it to auto, cpu, cuda, xpu or mps, or unset it"),
    ],
)
def test_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, there: Mapping[str, int], asked: str, remedy: str
) -> None:
    """Catches a silent fall back to another device, and a traceback of torch in its place."""
    have(monkeypatch, there, asked)
    with pytest.raises(UserError, match=f"PIPELINE_DEVICE is '?{asked}") as refused:
        choose_device()
    assert (refused.value.place, refused.value.remedy) == ("environment", remedy)


def test_each_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches two processes on one of several accelerators, and a switch that Apple's have not."""
    chosen: list[int] = []
    monkeypatch.setattr("torch.xpu.set_device", chosen.append)
    have(monkeypatch, {"xpu": 2}, "xpu")
    assert [choose_device(rank, 2) for rank in range(2)] == [
        torch.device("xpu", 0),
        torch.device("xpu", 1),
    ]
    assert chosen == [0, 1]
    options = ExecutionOptions(1)
    assert [options.device_of(process).index for process in range(3)] == [0, 1, 0]
    with pytest.raises(UserError, match="2 accelerators for 3 processes"):
        choose_device(0, 3)
    have(monkeypatch, {"mps": 1}, "mps")
    assert choose_device() == torch.device("mps", 0) == options.device_of(1)
    assert chosen == [0, 1]


@pytest.mark.parametrize("asked", [None, "cpu"])
def test_memory_is_of_what_is_used(monkeypatch: pytest.MonkeyPatch, asked: str | None) -> None:
    """Catches the accelerator's memory in the log of a training on the CPU beside it."""
    have(monkeypatch, {"cuda": 1}, asked)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 7)
    assert (accelerators.peak_memory() == 7) == (asked is None)
    assert asked is None or accelerators.peak_memory() == machine.peak_memory()


@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        (None, {"single", "ddp", "fsdp", "deepspeed"}),
        ("cuda", {"single", "ddp", "fsdp", "deepspeed"}),
        ("xpu", {"single", "ddp", "fsdp"}),
        ("mps", {"single"}),
    ],
)
def test_engines_are_refused_where_torch_has_none(kind: str | None, offered: set[str]) -> None:
    """Catches an error of a backend in the first collective, in place of one that names both."""
    for engine in ("single", "ddp", "fsdp", "deepspeed"):
        trainer = Trainer.model_construct(engine=engine)
        if engine in offered:
            check_kind(trainer, kind)
            continue
        with pytest.raises(UserError, match=f"{engine!r} is not offered on {kind}") as refused:
            check_kind(trainer, kind)
        assert "PIPELINE_DEVICE=cpu" in refused.value.remedy
        assert "set trainer.engine to single" in refused.value.remedy


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("kind", ["cuda", "mps"])  # a torch without xpu refuses to trace one
def test_profiles_are_written_of_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """Catches an activity or an order of rows that torch does not know by this name."""
    have(monkeypatch, {kind: 1}, None)
    with profiled(Profile(after=1, steps=1), tmp_path, print) as step:
        for _ in range(3):
            torch.ones(2).sum()
            step()
    assert (tmp_path / "trace.json.gz").exists()
    assert "aten::sum" in (tmp_path / "operators.txt").read_text()


def test_a_missing_operation_is_explained(tmp_path: Path) -> None:
    """Catches a traceback where torch has not all operations on mps; other gaps are no such."""
    said = "The operator 'aten::x' is not currently implemented for the MPS device. If you want it"
    checkpoints = Checkpoints(tmp_path, {}, keep=1, label="pretrain a")
    with pytest.raises(UserError) as refused, explained(checkpoints, Ranks()):
        raise NotImplementedError(said)
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in refused.value.remedy
    assert "there is no checkpoint yet" in refused.value.remedy
    with pytest.raises(NotImplementedError), explained(checkpoints, Ranks()):
        raise NotImplementedError("not yet")


def test_formats_are_those_that_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches fp16 where torch would scale losses in float64, and bf16 on an older macOS."""
    apple, intel = torch.device("mps", 0), torch.device("xpu", 0)
    monkeypatch.setattr("torch.backends.mps.is_macos_or_newer", lambda *_: True)
    assert precision.choose("auto", apple).name == "bf16"
    monkeypatch.setattr("torch.backends.mps.is_macos_or_newer", lambda *_: False)
    assert precision.choose("auto", apple).name == "fp16"

    class Properties:
        has_fp64 = False

    monkeypatch.setattr("torch.xpu.get_device_properties", lambda _: Properties)
    monkeypatch.setattr("torch.xpu.get_device_name", lambda _: "Arc")
    monkeypatch.setattr("torch.xpu.is_bf16_supported", lambda **_: False)
    assert precision.choose("auto", intel).name == "fp32"
    with pytest.raises(UserError, match="Arc has no float64"):
        precision.choose("fp16", intel)
    Properties.has_fp64 = True
    assert precision.choose("auto", intel).name == "fp16" == precision.choose("fp16", intel).name
    with pytest.raises(UserError, match="Arc has no bfloat16"):
        precision.choose("bf16", intel)


def test_a_cpu_without_the_format_is_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches bf16 that a CPU without such products computes at a sixtieth of the speed, in
    silence; `auto` that chooses it there, or fp16 where nobody scales losses."""
    cpu = torch.device("cpu")
    for has in (True, False):
        for name in ("bf16", "fp16"):
            monkeypatch.setattr(
                torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", lambda has=has: has
            )
        for name in ("bf16", "fp16"):
            asked = precision.choose(name, cpu)
            assert (asked.name, asked.emulated, asked.is_mixed) == (name, not has, True)
            assert asked.measured_as == (name if has else "fp32")
            assert (f"finetune.precision={name}" in asked.warning("finetune.precision")) is not has
        found = precision.choose("auto", cpu)
        assert (found.name, found.warning("x")) == ("bf16" if has else "fp32", "")
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: False)
    assert precision.choose("auto", gpu).name == "fp16"
    assert precision.choose("auto", gpu, scales=False).name == "fp32"
