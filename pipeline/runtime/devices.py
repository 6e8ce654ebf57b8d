"""Where a process trains, and the kernels it uses there (docs/notes/speed.md has the numbers)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.errors import UserError, first_line
from pipeline.runtime import accelerators

LONG = 784  # tokens; from here on fused attention is the faster one under oneDNN too


def choose_device(local_rank: int = 0, local_world: int = 1) -> torch.device:
    """Return this process's accelerator, where there are any, else the CPU.

    It is the `local_rank`-th of this node's `local_world` processes. Where a launcher shows each
    process one accelerator, it is that one.

    Raises:
        UserError: where there are fewer accelerators than processes of this node, or not those
            that `PIPELINE_DEVICE` names.
    """
    kind = accelerators.kind()
    if kind is None:
        return torch.device("cpu")
    count = accelerators.count(kind)
    if 1 < count < local_world:
        raise UserError(
            f"there are {count} accelerators for {local_world} processes on this machine",
            place="trainer.devices",
            remedy=f"set trainer.devices to {count} or less",
        )
    index = local_rank if count > 1 else 0
    if kind != "mps":  # there is only one
        torch.get_device_module(kind).set_device(index)
    return torch.device(kind, index)


@contextlib.contextmanager
def fast_fp32(device: torch.device, tokens: int) -> Iterator[bool]:
    """Let oneDNN multiply float32 matrices on a CPU, while open; yield whether it does.

    PyTorch gives them to MKL, which keeps to narrower vector instructions on processors other
    than Intel's. Its one switch to oneDNN is named for what it permits: products rounded to
    bfloat16. Only matrix units (AMX) make use of the permission; so a product is tried, and
    where it is not as exact as float32 the switch is turned back.

    oneDNN prepares each of fused attention's many small products anew, so sequences of up to
    `LONG` `tokens` use plain attention meanwhile.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, matmul, "fp32_precision", before)
        has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if device.type == "cpu" and has_onednn:
            matmul.fp32_precision = "bf16"
            if not products_are_exact():
                matmul.fp32_precision = before
        is_fast = matmul.fp32_precision != before
        if is_fast and tokens <= LONG:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield is_fast


@contextlib.contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Let CUDA round the factors of float32 products to TF32 (10 bits), while open.

    For features that are read, never for training, which has `trainer.precision`.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if device.type == "cuda":
        matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def prepare_deterministic(wanted: bool) -> None:
    """Have cuBLAS begin as `deterministic` needs it: due before its first product in a process."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def deterministic(wanted: bool, place: str) -> Iterator[None]:
    """Let torch compute the same bits each time, while open, if `wanted`, which `place` says.

    Sums of many threads otherwise depend on which comes first: on an accelerator, not on a CPU.

    Raises:
        UserError: at an operation that torch has no such implementation of.
    """
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if wanted:
        prepare_deterministic(wanted)
        torch.use_deterministic_algorithms(True)
        # It finds reads of what nothing was written to, and costs a pass over all new memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    except RuntimeError as error:
        said = first_line(error)
        if "does not have a deterministic implementation" not in said:
            raise
        raise UserError(said.partition(",")[0], place=place, remedy="set it to false") from error
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def products_are_exact() -> bool:
    """Whether a float32 product is as float32 should be, and not as bfloat16: to 1e-5."""
    left, right = (
        torch.linspace(0.5, 1.5, size * 256).sin().reshape(size, 256) for size in (512, 128)
    )
    exact = left.double() @ right.double().T
    return bool((left @ right.T - exact).abs().max() < 1e-5 * exact.abs().max())
