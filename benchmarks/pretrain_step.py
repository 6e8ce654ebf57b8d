"""How fast a training step is, where its time goes, and beside others in the same process.

    python -m benchmarks.pretrain_step --model vit_small --objective sigma_mlp --batch-size 4 --json
    python -m benchmarks.pretrain_step --model vit_small --objective pixel --against hugging_face
    python -m benchmarks.pretrain_step --objective sigma_mlp --against sigma_dual sigma_redundancy

The step is the training loop's own (`pipeline.training.loop.train_step`), on random pixels that
lie in the device's memory as bytes: all but loading, logging and saving. Others take turns with it,
step by step, so that whatever else the machine does hits all alike; the best and the middle of each
are given, by the clock and in seconds of all processors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import yaml

from benchmarks.contenders import Contender, HuggingFaceLoss, Other, Ours
from benchmarks.measuring import machine, machine_lines
from benchmarks.peak_memory import MIB, PeakMemory
from benchmarks.step_parts import PARTS, places
from benchmarks.stopwatch import Stopwatch
from benchmarks.straightforward import Straightforward
from pipeline.configuration.build import sigma_model, tube_grid
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Clip, Params, Run
from pipeline.data.load.loader import Batch
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import FrozenTarget
from pipeline.method.targets.image_teachers import frozen_features, prepared
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.provenance import hardware
from pipeline.training import flops

OTHERS = ("straightforward", "hugging_face")  # other implementations
# The authors' code, ViT-S, MLP target, 3,000 prototypes, 4 clips of 16 x 224 x 224, float32, on two
# cores of such a machine: seconds a step as they were noted, not measured here.
REFERENCE_S = (4.5, 5.8)


class Timing(NamedTuple):
    """One step."""

    wall: float  # seconds by the clock
    cpu: float  # seconds of all processors together
    loss: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    options = parser().parse_args(arguments)
    try:
        report = measure(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    made = argparse.ArgumentParser(prog="python -m benchmarks.pretrain_step", description=described)
    made.add_argument("--model", default="vit_small", help="a name in pipeline/conf/model")
    made.add_argument("--objective", default="sigma_mlp", help="a name in pipeline/conf/objective")
    made.add_argument("--batch-size", type=int, default=4)
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--threads", type=int, default=cores(), help="of the CPU")
    made.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    made.add_argument("--steps", type=int, default=5, help="timed steps of each contender")
    made.add_argument("--frames", type=int, default=16)
    made.add_argument("--size", type=int, default=224, help="pixels")
    made.add_argument("--compile", action="store_true", help="torch.compile, where training can")
    made.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="NAME",
        help="take turns with another implementation (straightforward, hugging_face: the latter "
        "for objective pixel alone), or with another objective",
    )
    made.add_argument("--teacher-weights", help="a safetensors file, for a frozen target")
    made.add_argument("--teacher-bf16", action="store_true", help="its weights, too")
    made.add_argument("--teacher-compile", action="store_true")
    made.add_argument("--teacher-stream", action="store_true", help="of its own, on CUDA")
    made.add_argument("--json", action="store_true")
    return made


def cores() -> int:
    """Cores that this process may use."""
    return int(hardware()["cores"] or 1)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of the report."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA device here", place="--device")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as in training; the others have it, too
    device = torch.device(options.device)
    run, clip = settings(options, options.objective)
    for name in options.against:
        check_comparison(name, run)
    batch = random_batch(run, clip, device)
    memory = PeakMemory(device)
    memory.begin()
    model, teacher = build(run, clip, options.teacher_weights)
    others = [other(name, model, run, clip, device) for name in options.against if name in OTHERS]
    ours = Ours("ours", model.to(device), run, device)
    contenders: list[tuple[Contender, Batch]] = [(each, batch) for each in (ours, *others)]
    for name in options.against:
        if name not in OTHERS:
            others.append(contender := another_objective(name, options, device))
            contenders.append((contender, random_batch(contender.run, clip, device)))

    timings = take_turns(contenders, options.steps, device)
    of_steps = {each.name: step_memory(each, data, device) for each, data in contenders}
    parts = time_parts(ours, batch, options.steps)
    with ours.kernels():
        peak = flops.matmul_peak(device, ours.engine.precision.name)
    best = min(timing.wall for timing in timings["ours"][1:])
    operations = flops.per_clip(model, run.objective) * len(batch.ids)
    return {
        "model": options.model,
        "objective": options.objective,
        "teacher_weights": teacher,
        "batch_size": options.batch_size,
        "clip": [clip.frames, clip.size, clip.size],
        "precision": ours.engine.precision.name,
        "device": options.device,
        "threads": options.threads,
        "clips_per_s": round(len(batch.ids) / best, 3),
        "step": {name: summary(found) for name, found in timings.items()},
        "times_as_fast": {
            name: ratios(found, timings["ours"])
            for name, found in timings.items()
            if name != "ours"
        },
        "reference_recorded_s": REFERENCE_S if is_recorded(options) else None,
        "parts_s": {name: round(parts.get(name, 0.0), 4) for name in PARTS},
        "peak_memory_mib": None if others else round(memory.highest() / MIB),
        "step_memory_mib": of_steps,
        "operations_per_step": operations,
        "matmul_peak_per_s": round(peak),
        "mfu": round(operations / best / peak, 4),
        **machine(),
    }


def check_comparison(name: str, run: Run) -> None:
    """Refuse an implementation that cannot do what `run` does."""
    target = run.objective.target
    if name == "hugging_face" and target.kind != "pixel":
        raise UserError("Hugging Face's VideoMAE has target pixel alone", place="--against")
    if name == "straightforward" and isinstance(target, FrozenTarget):
        raise UserError("it is written for targets mlp and pixel", place="--against")


def another_objective(name: str, options: argparse.Namespace, device: torch.device) -> Ours:
    """The contender of another objective, which has its own masks."""
    run, clip = settings(options, name)
    model, _ = build(run, clip, options.teacher_weights)
    return Ours(name, model.to(device), run, device)


def settings(options: argparse.Namespace, objective: str) -> tuple[Run, Clip]:
    """The published recipe with what the command line changes."""
    overrides = [
        "experiment=k400_vit_small_mlp",
        f"model={options.model}",
        f"objective={objective}",
        "trainer.engine=single",
        "trainer.nodes=1",
        "trainer.devices=1",
        "trainer.accumulation=1",
        f"trainer.batch_size={options.batch_size}",
        f"trainer.precision={options.precision}",
        f"trainer.threads={options.threads}",
        f"trainer.compile={str(options.compile).lower()}",
        f"data.clip.frames={options.frames}",
        f"data.clip.size={options.size}",
    ]
    asked = {
        "precision=bf16": options.teacher_bf16,
        "compile=true": options.teacher_compile,
        "own_stream=true": options.teacher_stream,
    }
    overrides += [f"objective.target.{setting}" for setting, wanted in asked.items() if wanted]
    params = Params.model_validate(yaml.safe_load(compose(overrides)))
    return next(iter(params.runs.values())), params.data.clip


def build(run: Run, clip: Clip, weights: str | None) -> tuple[SigmaModel, str | None]:
    """The model as training begins it, and which weights its teacher has, if any."""
    torch.manual_seed(run.trainer.seed)
    settings = run.objective.target
    if not isinstance(settings, FrozenTarget):
        return sigma_model(run.model, run.objective, clip), None
    grid = tube_grid(run.model, clip)
    if weights is not None:
        target = frozen_features(replace(settings, weights=weights), grid)
    else:  # a step takes as long with any weights
        target = frozen_features(settings, grid, load=False)
        network = timm.create_model(
            settings.model, pretrained=False, num_classes=0, dynamic_img_size=True
        )
        target.use(prepared(network, settings, grid))
    model = sigma_model(run.model, run.objective, clip, target=target)
    return model, "random" if weights is None else "from the given file"


def other(name: str, model: SigmaModel, run: Run, clip: Clip, device: torch.device) -> Contender:
    """The contender `name`, with the weights of `model`."""
    if name == "straightforward":
        return Other(name, Straightforward(model, run.objective.loss), run, device)
    return Other(name, HuggingFaceLoss(model, run, clip), run, device)


def random_batch(run: Run, clip: Clip, device: torch.device) -> Batch:
    """Random pixels, on the device, and masks as the objective draws them; always the same ones."""
    rng = np.random.default_rng(0)
    size = run.trainer.batch_size
    grid = tube_grid(run.model, clip)
    shape = (size, clip.frames, clip.size, clip.size, 3)
    masks = np.stack([run.objective.mask.draw(grid.shape, rng) for _ in range(size)])
    return Batch(
        step=0,
        epoch=0,
        videos=torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)).to(device),
        masks=torch.from_numpy(masks),
        ids=[str(number) for number in range(size)],
    )


def take_turns(
    contenders: Sequence[tuple[Contender, Batch]], steps: int, device: torch.device
) -> dict[str, list[Timing]]:
    """Time a first step and `steps` further ones of each, on its batch, in turns."""
    timings: dict[str, list[Timing]] = {contender.name: [] for contender, _ in contenders}
    for _ in range(1 + steps):
        for contender, batch in contenders:
            with contender.kernels():
                step = partial(contender.step, batch)
                timings[contender.name].append(timed(step, device))
    return timings


def timed(step: Callable[[], float], device: torch.device) -> Timing:
    """Time one step; it returns its loss, so no work of a device is left when it ends."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    loss = step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, loss)


def step_memory(contender: Contender, batch: Batch, device: torch.device) -> int:
    """MiB at a step's highest point, above weights, moments and what else lies there before it."""
    memory = PeakMemory(device)
    with contender.kernels():
        memory.begin()
        contender.step(batch)
    return round(memory.highest() / MIB)


def time_parts(ours: Ours, batch: Batch, steps: int) -> dict[str, float]:
    """Seconds of each part, of the quickest of `steps` steps."""
    found = []
    with ours.kernels():
        for _ in range(steps):
            watch = Stopwatch(ours.device)
            with watch.timing(*places(ours)), watch.part("other"):
                ours.step(batch)
            found.append(dict(watch.seconds))
    return min(found, key=lambda parts: sum(parts.values()))


def summary(timings: Sequence[Timing]) -> dict[str, float]:
    """The best and the middle of both clocks, but for the first step, and the loss of that."""
    walls, cpus = [t.wall for t in timings[1:]], [t.cpu for t in timings[1:]]
    return {
        "best_s": round(min(walls), 4),
        "median_s": round(statistics.median(walls), 4),
        "best_cpu_s": round(min(cpus), 4),
        "median_cpu_s": round(statistics.median(cpus), 4),
        "first_loss": timings[0].loss,
    }


def ratios(theirs: Sequence[Timing], ours: Sequence[Timing]) -> dict[str, float]:
    """How many times as fast ours is, by either clock."""
    them, us = summary(theirs), summary(ours)
    keys = ("best_s", "median_s", "best_cpu_s", "median_cpu_s")
    return {key.removesuffix("_s"): round(them[key] / us[key], 2) for key in keys}


def is_recorded(options: argparse.Namespace) -> bool:
    """Whether this is the case whose time with the authors' code is known."""
    case = (options.model, options.objective, options.batch_size, options.frames, options.size)
    here = (options.device, options.precision, options.threads)
    return case == ("vit_small", "sigma_mlp", 4, 16, 224) and here == ("cpu", "fp32", 2)


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    clip = "x".join(map(str, report["clip"]))
    lines = [
        f"{report['model']}, {report['objective']}, {report['batch_size']} clips of {clip}, "
        f"{report['precision']} on {report['device']} ({report['threads']} threads)",
        f"{report['clips_per_s']:.2f} clips/s, MFU {report['mfu']:.1%} of "
        f"{report['matmul_peak_per_s'] / 1e9:,.0f} GFLOP/s",
        "",
        "seconds a step   best  median   best of all processors   first loss",
    ]
    if report["teacher_weights"]:
        lines.insert(1, f"teacher's weights: {report['teacher_weights']}")
    for name, found in report["step"].items():
        lines.append(
            f"{name:15s} {found['best_s']:6.3f}  {found['median_s']:6.3f}   "
            f"{found['best_cpu_s']:22.3f}   {found['first_loss']:.6f}"
        )
    for name, found in report["times_as_fast"].items():
        lines.append(
            f"ours is {found['best']:.2f} times as fast as {name} by the best step, "
            f"{found['median']:.2f} by the median, {found['best_cpu']:.2f} in processor time"
        )
    if report["reference_recorded_s"]:
        low, high = report["reference_recorded_s"]
        best = report["step"]["ours"]["best_s"]
        lines.append(
            f"the authors' code was recorded at {low} to {high} s on two such cores: "
            f"{low / best:.2f} to {high / best:.2f} times as long"
        )
    lines += ["", "where the quickest timed step went (each part by the clock):"]
    whole = sum(report["parts_s"].values())
    lines += [f"  {n:12s} {s:7.3f} s  {s / whole:6.1%}" for n, s in report["parts_s"].items()]
    if report["peak_memory_mib"] is not None:
        lines.append(f"peak memory: {report['peak_memory_mib']:,} MiB, the model's own included")
    return "\n".join((*lines, "", machine_lines(report)))


if __name__ == "__main__":
    sys.exit(main())
