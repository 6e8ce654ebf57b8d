"""GPUs and the libraries by which processes talk: each is really used once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.doctor.workplace import output_of
from pipeline.configuration.schema import Params
from pipeline.errors import first_line

LARGE = 256  # width of an encoder from which a CPU will not do


def devices(params: Params) -> Iterator[Finding]:
    """Every accelerator, with a matrix product in the precision that it will train in."""
    devices = max(run.trainer.devices for run in params.runs.values())
    count = torch.cuda.device_count()
    if not count:
        yield _none(params)
        return
    for number in range(count):
        name = torch.cuda.get_device_name(number)
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        try:
            precision = _multiplied(number)
        except RuntimeError as error:
            problem = f"{name}: {first_line(error)}"
            yield missing(f"GPU {number}", problem, "nvidia-smi", needed=True)
        else:
            yield ok(f"GPU {number}", f"{name}, {memory:.0f} GiB, {precision}")
    if count < devices:
        yield missing(
            "GPUs",
            f"{count}, and trainer.devices is {devices}",
            f"set trainer.devices to {count} or less, or run on a larger machine",
            needed=max(run.trainer.nodes for run in params.runs.values()) == 1,
        )


def processes(params: Params) -> Iterator[Finding]:
    """One process by itself sums a number, by gloo and, where there is a GPU, by NCCL."""
    several = any(run.trainer.nodes * run.trainer.devices > 1 for run in params.runs.values())
    yield _summed("gloo", torch.device("cpu"), needed=several and not torch.cuda.is_available())
    if not dist.is_nccl_available():
        yield missing(
            "NCCL",
            "this torch is built without it",
            "install torch for CUDA, to train on several GPUs",
            needed=several and torch.cuda.is_available(),
        )
    elif torch.cuda.is_available():
        yield _summed("nccl", torch.device("cuda"), needed=several)
    else:
        yield warning(
            "NCCL",
            "in this torch, but without a GPU it cannot be tried",
            "only needed to train on several GPUs",
        )


def _none(params: Params) -> Finding:
    remedy = "the demo needs none; for ViT-S and larger take a machine with one"
    driver = output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    if driver:
        problem = f"{driver.splitlines()[0]}, but torch {torch.__version__} does not see it"
        return warning("GPU", problem, "install torch for your driver's CUDA")
    large = any(run.model.width >= LARGE and run.trainer.epochs for run in params.runs.values())
    if large:
        problem = "none, and this experiment trains a large model: a step takes seconds on a CPU"
        return warning("GPU", problem, remedy)
    return warning("GPU", "none: training runs on the CPU", remedy)


def _multiplied(number: int) -> str:
    """Multiply in float32 and in the smaller format; return what the device can."""
    device = torch.device("cuda", number)
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    for each in (torch.float32, dtype):
        ones = torch.ones(256, 256, device=device, dtype=each)
        if not torch.equal(ones @ ones, ones * 256):
            raise RuntimeError(f"a product in {each} is wrong")
    return str(dtype).removeprefix("torch.")


def _summed(backend: str, device: torch.device, *, needed: bool) -> Finding:
    subject = "NCCL" if backend == "nccl" else backend
    remedy = "look at NCCL_DEBUG=INFO" if backend == "nccl" else "GLOO_SOCKET_IFNAME=lo may help"
    try:
        store = dist.HashStore()  # type: ignore[attr-defined]
        patience = timedelta(seconds=60)
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=patience)
        try:
            number = torch.full((1,), 3.0, device=device)
            dist.all_reduce(number)
            right = number.item() == 3.0
        finally:
            dist.destroy_process_group()
    except (RuntimeError, OSError) as error:
        return missing(subject, first_line(error), remedy, needed=needed)
    if not right:
        return missing(subject, "sums wrongly", remedy, needed=needed)
    version = "in torch"
    if backend == "nccl":
        version = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return ok(subject, f"{version}, summed in one process")
