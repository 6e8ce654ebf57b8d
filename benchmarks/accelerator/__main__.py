"""Try everything on an accelerator: first whether its numbers are right, then how fast it is.

    python -m benchmarks.accelerator --minutes 8 --json out.json

Sections run in order of their worth, each in a process of its own, until the time is up; what has
been measured is in the file after each. `--only numerics runs` chooses some. Beside torch and the
project's packages (pydantic, hydra-core, omegaconf, decord, simplejpeg, imageio-ffmpeg, webdataset,
timm, transformers for the comparison) it needs neither Snakemake nor DVC. With `--device cpu` and
`--small` it tries itself where there is no accelerator.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import machine, machine_lines
from pipeline.errors import UserError
from pipeline.runtime.files import write_json

SECTIONS = ("numerics", "runs", "speed", "comparison", "feeding", "extraction")
LEAST_S = 10.0  # of the time that is left, for a section to begin


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections that are asked for; return 1 where a check of them has failed."""
    options = parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: PyTorch finds no CUDA device here (--device)", file=sys.stderr)
        return UserError.exit_code
    if options.section:
        return run_section(options)
    deadline = time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = {**machine(), "device": device_name(options.device), "sections": {}}
    print(f"{found['device']}\n{machine_lines(found)}", flush=True)
    for section in options.only:
        left = deadline - time.monotonic()
        if left < LEAST_S:
            print(f"\n{section}: no time left", flush=True)
            continue
        began = time.monotonic()
        result = in_a_process(section, options, left)
        result["took_s"] = round(time.monotonic() - began, 1)
        found["sections"][section] = result
        write_json(options.json, found)
        print(f"\n{section} ({result['took_s']} s)\n" + "\n".join(result["lines"]), flush=True)
    failures = [each for section in found["sections"].values() for each in section["failures"]]
    print("\n" + "\n".join(f"FAILED: {each}" for each in failures) + "\n" * bool(failures))
    return int(bool(failures))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    made = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=described)
    made.add_argument("--minutes", type=float, default=8.0, help="default: %(default)s")
    made.add_argument("--json", type=Path, default=Path("accelerator.json"), metavar="FILE")
    made.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--small", action="store_true", help="sizes that a CPU can do")
    made.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return made


def in_a_process(section: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run a section apart from the others, so that one that breaks takes none with it."""
    file = options.json.with_name(f"{options.json.stem}-{section}.json")
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.accelerator", "--section", section]
    command += ["--json", str(file), "--device", options.device, "--minutes", str(seconds / 60)]
    command += ["--small"] * options.small
    try:
        subprocess.run(command, check=False, timeout=seconds)
        ending = "ended before its time"
    except subprocess.TimeoutExpired:
        ending = "was ended, as the time was up"
    if not file.exists():
        return {"lines": [], "failures": [f"{section} {ending}"]}
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    if not result.pop("complete"):
        result["lines"].append(f"({section} {ending})")
    return result


def run_section(options: argparse.Namespace) -> int:
    """Run one section in this process, and write what it has found after each measurement."""
    module = importlib.import_module(f"benchmarks.accelerator.{options.section}")
    found: dict[str, Any] = {"measured": [], "lines": [], "failures": [], "complete": False}
    deadline = time.monotonic() + 60 * options.minutes
    try:
        for measurement in module.measurements(options):
            if isinstance(measurement, str):
                found["lines"].append(measurement)
            else:
                found["measured"].append(measurement.record)
                found["lines"].append(measurement.line)
                found["failures"] += measurement.failures
            write_json(options.json, found)
            if time.monotonic() > deadline - 1:
                return 0
    except Exception:  # noqa: BLE001 - whatever an accelerator does belongs to what is measured
        found["failures"].append(f"{options.section}: {traceback.format_exc()}")
    found["complete"] = True
    write_json(options.json, found)
    return 0


def device_name(device: str) -> str:
    """Name what is measured."""
    if device == "cpu":
        return "CPU"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, CUDA {torch.version.cuda}"


if __name__ == "__main__":
    raise SystemExit(main())
