"""Steps beside Hugging Face's VideoMAE and beside code without care, in turns; and their memory."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from typing import Any

from benchmarks import pretrain_step
from benchmarks.accelerator.measurement import Measurement, step_arguments

CASES = (
    ("vit_base", "pixel", 32, "hugging_face"),
    ("vit_base", "pixel", 32, "straightforward"),
    ("vit_base", "sigma_mlp", 32, "straightforward"),
)
SMALL = (("vit_small", "sigma_mlp", 1, "straightforward"),)


def measurements(options: argparse.Namespace) -> Iterator[Measurement | str]:
    """Yield a row for each case."""
    yield "ours, as it is without compilation, beside another; peak memory of a step"
    for model, objective, clips, other in SMALL if options.small else CASES:
        gc.collect()
        chosen = step_arguments(options, model, objective, clips, "--against", other)
        report = pretrain_step.measure(chosen)
        label = f"{model}, {objective}, {clips}, beside {other}"
        yield Measurement({"case": label, **report}, line(label, report))


def line(label: str, report: dict[str, Any]) -> str:
    """Return a row of the table."""
    (other,) = report["times_as_fast"]
    steps = {name: f"{1000 * found['median_s']:.1f} ms" for name, found in report["step"].items()}
    memory = report["step_memory_mib"]
    faster = report["times_as_fast"][other]["median"]
    shown = ", ".join(f"{name} {steps[name]} {memory[name]:,.0f} MiB" for name in steps)
    return f"{label}: {shown}; {faster:.2f} times as fast"
