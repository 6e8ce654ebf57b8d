"""What an encoder costs for one clip: parameters, operations, seconds; and a table of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.evaluation import rows
from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.evaluation.table import Column, Line, Table
from pipeline.method.pixels import normalise, to_device
from pipeline.method.pooling import Pooled
from pipeline.runtime.operations import forward_operations

TRIALS = 3  # after a first one, which is slower; the fastest counts


def measure(network: Pooled, options: ExecutionOptions) -> dict[str, Any]:
    """Return the cost of an encoder's features for one clip (one view), without decoding.

    `seconds_per_clip` is measured on this machine, under the threads and kernels that features are
    computed with: on an accelerator in a batch of them, on a CPU of a single clip.
    """
    device, encoder = options.device_of(), network.encoder
    clips = options.batch_size if device.type != "cpu" else 1
    size = (clips, *encoder.grid.clip_shape, 3)
    videos = torch.arange(torch.Size(size).numel()).remainder(251).to(torch.uint8).reshape(size)
    before = next(encoder.parameters()).device
    network.to(device).eval()
    with rows.inference(device, encoder.grid.count):
        shown = to_device(videos, device)
        seconds = min([_seconds(network, shown) for _ in range(1 + TRIALS)][1:])
    network.to(before)
    return {
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "operations": forward_operations(network, (1, 3, *encoder.grid.clip_shape)),
        "seconds_per_clip": seconds / clips,
        "clips_at_once": clips,
        "device": device.type,
        "clip": list(encoder.grid.clip_shape),
    }


def _seconds(network: Pooled, videos: Tensor) -> float:
    began = time.perf_counter()
    network(normalise(videos)).cpu()  # which waits for the accelerator
    return time.perf_counter() - began


def table(bodies: Mapping[str, Body]) -> Table | None:
    """What each run's encoder costs; None where no evaluation has measured it."""
    costs = {run: body["cost"] for run, body in bodies.items() if body.get("cost")}
    if not costs:
        return None
    clips = {"×".join(map(str, cost["clip"])) for cost in costs.values()}
    devices = {cost["device"] for cost in costs.values()}
    columns = (
        Column("", "million parameters", is_error=True),
        Column("one clip", "billion operations", is_error=True),
        Column("one clip", "milliseconds", is_error=True),
    )
    return Table(
        id="cost",
        title="Cost of the encoders",
        unit=f"of features of a clip of {' or '.join(sorted(clips))}, without decoding",
        remark="Operations are those of matrix products, a multiplication and an addition being "
        f"two. Time was measured where features were computed ({', '.join(sorted(devices))}).",
        columns=columns,
        runs=tuple(_line(run, costs.get(run)) for run in bodies),
    )


def _line(run: str, cost: Mapping[str, Any] | None) -> Line:
    if cost is None:  # evaluated before costs were measured
        return Line(run, (None, None, None))
    milliseconds = cost["seconds_per_clip"] * 1e3
    return Line(run, (cost["parameters"] / 1e6, cost["operations"] / 1e9, milliseconds))
