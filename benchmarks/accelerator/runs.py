"""Whole trainings on the accelerator by the commands that users give, at the size of the tests.

One is as a CPU has it, one is interrupted and goes on, one goes on on the CPU, one is of each
engine (with as many processes as there are accelerators) and number format: all end alike, but for
rounding; with `trainer.deterministic`, interrupted or not, equal. Then the encoder goes through
each benchmark.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.accelerator.measurement import Measurement, relative

PROJECT = Path(__file__).resolve().parent.parent.parent
RUN = "sigma_mlp"
SETTINGS = (
    "experiment=tiny",
    "data.chunks=1",
    "data.synthetic.train=24",
    "trainer.epochs=20",  # 30 steps
    "trainer.checkpoint_every=5",
    "trainer.precision=fp32",
    "++trainer.workers=1",
    "benchmarks/retrieval=standard",
    "benchmarks/few_shot=standard",
    "benchmarks/order=standard",
)
DATA = (
    ("manifest",),
    *((stage, "--chunk", "0") for stage in ("download", "decode", "shard")),
    ("index",),
)
BENCHMARKS = ("segment", "severe", "retrieve", "few_shot", "order")
# Of the last loss, relative. Rounding differs from one training to the next, tubes near to two
# prototypes go to the other one, and after some steps trainings differ by more than rounding.
CLOSE = 0.05


@dataclass(frozen=True)
class Training:
    """One way to train the same run."""

    name: str
    settings: tuple[str, ...] = ()
    bound: float = CLOSE
    like: str = "single"  # the training that it is compared with
    on_cpu: bool = False
    interrupted: bool = False
    goes_on_on_cpu: bool = False


def trainings() -> list[Training]:
    """Return all that can be tried here."""
    devices = f"trainer.devices={max(1, torch.cuda.device_count())}"
    same = ("trainer.deterministic=true",)
    every = [
        Training("on the CPU", on_cpu=True),
        Training("single"),
        Training("deterministic", same),
        Training("deterministic, again", same, 0.0, "deterministic"),
        Training(
            "deterministic, interrupted, gone on", same, 0.0, "deterministic", interrupted=True
        ),
        Training("interrupted, and gone on", interrupted=True),
        Training("interrupted, gone on on the CPU", interrupted=True, goes_on_on_cpu=True),
        Training("ddp", ("trainer.engine=ddp", devices)),
        Training("fsdp", ("trainer.engine=fsdp", devices)),
        Training("deepspeed", ("trainer.engine=deepspeed", devices)),
        Training("two parts a step", ("trainer.accumulation=2",)),
        Training("moving average", ("trainer.ema=0.99",)),
        Training("bf16", ("trainer.precision=bf16",)),
        Training("fp16", ("trainer.precision=fp16",)),
        Training("deepspeed, bf16", ("trainer.engine=deepspeed", "trainer.precision=bf16")),
        Training("fsdp, bf16", ("trainer.engine=fsdp", "trainer.precision=bf16")),
    ]
    has_deepspeed = importlib.util.find_spec("deepspeed") is not None
    return [each for each in every if has_deepspeed or not each.name.startswith("deepspeed")]


def measurements(options: argparse.Namespace) -> Iterator[Measurement | str]:
    """Yield how each training ends, and then what the benchmarks say of the encoder."""
    with tempfile.TemporaryDirectory(prefix="accelerator-") as name:
        folder = Path(name) / "data"
        folder.mkdir()
        (folder / "pipeline").symlink_to(PROJECT / "pipeline")
        for command in (("compose", *SETTINGS), *DATA):
            try:
                call(folder, command)
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"{' '.join(command)}: {error.stderr[-3000:]}") from error
        chosen = trainings()[:5] if options.small else trainings()
        with concurrent.futures.ThreadPoolExecutor(2 if options.small else 7) as pool:
            ended = [pool.submit(train, folder, each, options.device) for each in chosen]
            outcomes = dict(zip((each.name for each in chosen), ended, strict=True))
            yield f"{'30 steps':36s}  last loss  relative difference  seconds"
            for training in chosen:
                yield compared(
                    training, outcomes[training.name].result(), outcomes[training.like].result()
                )
            scored = functools.partial(score, folder.with_name("single"))
            yield scored("evaluate")
            yield from pool.map(scored, BENCHMARKS)


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    loss: float
    seconds: float
    error: str = ""


def train(data: Path, training: Training, device: str) -> Ended:
    """Train in a copy of the data's folder."""
    folder, began = (
        data.with_name(training.name.replace(" ", "-").replace(",", "")),
        time.monotonic(),
    )
    shutil.copytree(data, folder, symlinks=True)
    on_cpu = training.on_cpu or device == "cpu"
    pretrain = ("pretrain", "--run", RUN)
    try:
        call(folder, ("compose", *SETTINGS, *training.settings), on_cpu=on_cpu)
        if training.interrupted:
            interrupt(folder, pretrain, on_cpu=on_cpu)
        call(folder, pretrain, on_cpu=on_cpu or training.goes_on_on_cpu)
    except subprocess.CalledProcessError as error:
        return Ended(float("nan"), time.monotonic() - began, error.stderr[-3000:])
    metrics = folder / "results" / "tiny" / "runs" / RUN / "metrics.jsonl"
    last = json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1])
    return Ended(float(last["loss"]), time.monotonic() - began)


def call(folder: Path, arguments: Sequence[str], *, on_cpu: bool = False) -> str:
    """Run a command of the pipeline; return what it wrote on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=environment(on_cpu=on_cpu),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def interrupt(folder: Path, arguments: Sequence[str], *, on_cpu: bool) -> None:
    """Begin a training, and send it SIGTERM after its first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=environment(on_cpu=on_cpu),
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(
        folder.glob("results/*/runs/*/checkpoints/step-*.pt")
    ):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate()
    if process.returncode not in (0, 75):
        raise subprocess.CalledProcessError(process.returncode, process.args, "", messages)


def environment(*, on_cpu: bool) -> dict[str, str]:
    """Return that of a command: this checkout's code, from any folder."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {}
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **hidden, "PYTHONPATH": path}


def compared(training: Training, ended: Ended, expected: Ended) -> Measurement:
    """Compare how a training ended with how another did."""
    difference = relative(ended.loss, expected.loss)
    line = f"{training.name:36s}  {ended.loss:9.5f}  {difference:19.1e}  {ended.seconds:7.1f}"
    failures = []
    if ended.error:
        failures.append(f"{training.name}: {ended.error}")
    elif not difference <= training.bound:
        failures.append(f"{training.name}: the last loss differs by {difference:.1e}")
    record = {"training": training.name, "loss": ended.loss, "seconds": ended.seconds}
    return Measurement(record, line, failures)


def score(folder: Path, command: str) -> Measurement:
    """Let a benchmark score the encoder of a training."""
    began = time.monotonic()
    try:
        call(folder, (command, "--run", RUN))
        failures = []
    except subprocess.CalledProcessError as error:
        failures = [f"{command}: {error.stderr[-3000:]}"]
    seconds = time.monotonic() - began
    ended = "failed" if failures else "went through"
    return Measurement(
        {"command": command, "seconds": seconds, "failed": bool(failures)},
        f"{command:34s}  {ended}  {seconds:7.1f} s",
        failures,
    )
