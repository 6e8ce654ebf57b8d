"""GPUs and the libraries by which processes talk: each is really used once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.doctor.workplace import output_of
from pipeline.configuration.schema import Params
from pipeline.errors import UserError, first_line
from pipeline.runtime import accelerators
from pipeline.runtime.precision import supports_bf16
from pipeline.training.engines import check_kind

LARGE = 256  # width of an encoder from which a CPU will not do


def devices(params: Params) -> Iterator[Finding]:
    """Every accelerator, with a matrix product in the precision that it will train in."""
    devices = max(run.trainer.devices for run in params.runs.values())
    kind = accelerators.kind()
    for name, run in params.runs.items():
        try:
            check_kind(run.trainer, kind)
        except UserError as error:
            yield missing(f"engine of {name}", error.problem, error.remedy, needed=True)
    if kind is None:
        yield _none(params)
        return
    count = accelerators.count(kind)
    for number in range(count):
        device = torch.device(kind, number)
        memory = accelerators.memory(device) / 2**30
        found = f"{accelerators.name_of(device)}, {memory:.0f} GiB"
        try:
            precision = _multiplied(device)
        except RuntimeError as error:
            remedy = "nvidia-smi" if kind == "cuda" else f"{accelerators.VARIABLE}=cpu"
            yield missing(f"GPU {number}", f"{found}: {first_line(error)}", remedy, needed=True)
        else:
            yield ok(f"GPU {number}", f"{found}, {precision}")
    if count < devices:
        yield missing(
            "GPUs",
            f"{count}, and trainer.devices is {devices}",
            f"set trainer.devices to {count} or less, or run on a larger machine",
            needed=max(run.trainer.nodes for run in params.runs.values()) == 1,
        )


def processes(params: Params) -> Iterator[Finding]:
    """One process by itself sums a number, by gloo and, where there is a GPU, by NCCL or XCCL."""
    several = any(run.trainer.nodes * run.trainer.devices > 1 for run in params.runs.values())
    kind = accelerators.kind()
    yield _summed("gloo", torch.device("cpu"), needed=several and kind is None)
    if kind == "mps":  # which has none; check_kind says so
        return
    backend = accelerators.COLLECTIVES[kind or "cuda"]
    if not dist.is_backend_available(backend):
        yield missing(
            backend.upper(),
            "this torch is built without it",
            f"install torch for {(kind or 'cuda').upper()}, to train on several GPUs",
            needed=several and kind is not None,
        )
    elif kind is not None:
        yield _summed(backend, torch.device(kind), needed=several)
    else:
        yield warning(
            backend.upper(),
            "in this torch, but without a GPU it cannot be tried",
            "only needed to train on several GPUs",
        )


def _none(params: Params) -> Finding:
    remedy = "the demo needs none; for ViT-S and larger take a machine with one"
    if names := accelerators.names():
        problem = f"{names[0]}, which is not used: {accelerators.VARIABLE} is cpu"
        return warning("GPU", problem, f"unset {accelerators.VARIABLE}")
    driver = output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    if driver:
        problem = f"{driver.splitlines()[0]}, but torch {torch.__version__} does not see it"
        return warning("GPU", problem, "install torch for your driver's CUDA")
    large = any(run.model.width >= LARGE and run.trainer.epochs for run in params.runs.values())
    if large:
        problem = "none, and this experiment trains a large model: a step takes seconds on a CPU"
        return warning("GPU", problem, remedy)
    return warning("GPU", "none: training runs on the CPU", remedy)


def _multiplied(device: torch.device) -> str:
    """Multiply in float32 and in the smaller format; return what the device can."""
    dtype = torch.bfloat16 if supports_bf16(device) else torch.float16
    for each in (torch.float32, dtype):
        ones = torch.ones(256, 256, device=device, dtype=each)
        if not torch.equal(ones @ ones, ones * 256):
            raise RuntimeError(f"a product in {each} is wrong")
    return str(dtype).removeprefix("torch.")


def _summed(backend: str, device: torch.device, *, needed: bool) -> Finding:
    subject = backend if backend == "gloo" else backend.upper()
    remedy = "GLOO_SOCKET_IFNAME=lo may help" if backend == "gloo" else f"{subject}'s own log"
    if backend == "nccl":
        remedy = "look at NCCL_DEBUG=INFO"
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
