"""How fast training steps are: models, targets, batch sizes, and what each setting brings.

Each is `benchmarks.pretrain_step` in bfloat16, of a recipe's clips (16 x 224 x 224) that lie on the
device: no loading, logging or saving.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import pretrain_step
from benchmarks.accelerator.measurement import Measurement, step_arguments

STEPS = 6
# Model, objective, clips, further arguments; the most wanted first.
FAST_TEACHER = ("--compile", "--teacher-bf16", "--teacher-compile")
CASES: tuple[tuple[str, str, int, tuple[str, ...]], ...] = (
    ("vit_base", "sigma_dino", 64, ()),
    ("vit_base", "sigma_dino", 64, FAST_TEACHER),
    ("vit_base", "sigma_dino", 64, (*FAST_TEACHER, "--teacher-stream")),
    ("vit_base", "sigma_dino", 256, FAST_TEACHER),
    ("vit_base", "sigma_mlp", 64, ()),
    ("vit_base", "sigma_mlp", 64, ("--compile",)),
    ("vit_base", "sigma_mlp", 256, ("--compile",)),
    ("vit_base", "pixel", 64, ("--compile",)),
    ("vit_base", "pixel", 256, ("--compile",)),
    ("vit_large", "sigma_mlp", 64, ("--compile",)),
    ("vit_large", "sigma_dino", 64, FAST_TEACHER),
    ("vit_large", "pixel", 64, ("--compile",)),
    ("vit_small", "sigma_dino", 128, FAST_TEACHER),
    ("vit_small", "sigma_mlp", 256, ("--compile",)),
    ("vit_small", "pixel", 256, ("--compile",)),
)
SMALL = (
    ("vit_small", "sigma_dino", 1, ()),
    ("vit_small", "sigma_mlp", 1, ()),
)
PARTS = ("teacher", "encoder", "decoder", "sinkhorn", "loss", "backward", "optimiser")


def measurements(options: argparse.Namespace) -> Iterator[Measurement | str]:
    """Yield a row for each case."""
    yield "model, objective, clips            clips/s   ms a step   MFU   GiB   " + " ".join(
        f"{part:>9s}" for part in PARTS
    )
    for model, objective, clips, further in SMALL if options.small else CASES:
        asked = step_arguments(options, model, objective, clips, "--steps", str(STEPS), *further)
        yield measured(f"{model}, {objective}, {clips} {' '.join(further)}", asked)


def measured(label: str, asked: argparse.Namespace) -> Measurement:
    """Measure a case; one that does not fit into the memory is a result, too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.compiler.reset()
    try:
        report = pretrain_step.measure(asked)
    except torch.cuda.OutOfMemoryError:
        return Measurement({"case": label, "out_of_memory": True}, f"{label:34s}  out of memory")
    return Measurement({"case": label, **report}, line(label, report))


def line(label: str, report: dict[str, Any]) -> str:
    """Return a row of the table: seconds of parts as shares of their sum."""
    ours, parts = report["step"]["ours"], report["parts_s"]
    whole = sum(parts.values())
    memory = report["peak_memory_mib"]
    shares = " ".join(f"{parts[part] / whole:9.1%}" for part in PARTS)
    found = f"{report['batch_size'] / ours['median_s']:9,.0f} {1000 * ours['median_s']:11.1f}"
    return (
        f"{label}\n{'':34s}{found} {report['mfu']:6.1%} "
        f"{'     ' if memory is None else f'{memory / 1024:5.1f}'}  {shares}"
    )
