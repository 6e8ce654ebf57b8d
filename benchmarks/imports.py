"""CPU seconds that each stage, and what else is started often, spends on imports.

    python -m benchmarks.imports [--rounds 3] [--json]

Each is imported by processes of its own, the best of which counts; beside the seconds stand the
heavy packages that are then loaded. A stage's late imports (an augmentation, a probe, an optimiser)
come on top where they are needed. `torch._dynamo` is loaded by every step of an optimiser of
PyTorch's; so jobs that train have it, however little they import.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.measuring import answered, machine, machine_lines, table
from pipeline.configuration.stages import STAGES

HEAVY = (
    *("torch", "torch._dynamo", "torch._inductor", "torchvision", "torchvision.ops", "timm"),
    *("sklearn", "scipy", "pandas", "pyarrow", "plotly", "PIL", "transformers", "decord"),
    *("torchcodec", "matplotlib", "sympy", "fsspec", "yt_dlp", "snakemake", "dvc", "hydra"),
)
OTHERS = {
    "command line": "pipeline.cli.main",
    "models.hub": "pipeline.weights.hub",
    "embed": "pipeline.use.embedding.extraction",
    "export": "pipeline.use.exporting.export",
}
MODULES = {name: stage.module for name, stage in STAGES.items()} | OTHERS

# Forked after what all have in common, so that each costs no more than what it adds.
PROGRAM = """
import importlib, json, os, sys
heavy, modules, light = json.loads(sys.argv[1])
def loaded(name):
    out, into = os.pipe()
    if not os.fork():
        os.close(out)
        try:
            importlib.import_module(modules[name])
            project = {n: m.__file__ for n, m in sys.modules.items() if n.startswith("pipeline.")}
            packages = [n for n in heavy if n in sys.modules]
            os.write(into, json.dumps({"heavy": packages, "project": project}).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as answer:
        said = answer.read()
    os.wait()
    return json.loads(said) if said else {"heavy": ["cannot be imported"], "project": {}}
found = {name: loaded(name) for name in light}
import torch
found |= {name: loaded(name) for name in modules if name not in light}
print(json.dumps(found))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    return answered(parser().parse_args(arguments), measure, shown)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    made = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=described)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--json", action="store_true")
    return made


def loaded(light: Sequence[str]) -> dict[str, Any]:
    """Return what each of MODULES loads; `light` are those without PyTorch.

    `heavy` are the heavy packages, `project` the project's modules with their files.

    One process, which forks. A light one that loads PyTorch is told so; of the others all are
    imported after PyTorch.
    """
    argument = json.dumps([HEAVY, MODULES, list(light)])
    command = [sys.executable, "-c", PROGRAM, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cpu_seconds(module: str) -> tuple[float, list[str]]:
    """Import a module in a new process; return its CPU seconds and the heavy packages."""
    program = (
        f"import json, os, sys, {module}\n"
        f"print(json.dumps([sum(os.times()[:2]), [n for n in {HEAVY!r} if n in sys.modules]]))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, names = json.loads(done.stdout.splitlines()[-1])
    return seconds, names


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the report."""
    turns = [
        {name: cpu_seconds(module) for name, module in MODULES.items()}
        for _ in range(options.rounds)
    ]
    return {
        "cpu_s": {name: min(turn[name][0] for turn in turns) for name in MODULES},
        "heavy": {name: turns[0][name][1] for name in MODULES},
        "bytecode_is_kept": not sys.dont_write_bytecode or "PYTHONPYCACHEPREFIX" in os.environ,
        **machine(),
    }


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (name, f"{report['cpu_s'][name]:.2f}", ", ".join(report["heavy"][name]) or "-")
        for name in MODULES
    ]
    kept = "bytecode is kept between processes"
    if not report["bytecode_is_kept"]:
        kept = "PYTHONDONTWRITEBYTECODE is set: what has no bytecode is compiled by each process"
    return "\n".join([table(("", "CPU s", "loaded"), rows), kept, machine_lines(report)])


if __name__ == "__main__":
    sys.exit(main())
