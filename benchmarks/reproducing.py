"""What it takes to reproduce the paper: disk, core hours and GPU hours, from measured rates.

    python -m benchmarks.reproducing            # prints the tables
    python -m benchmarks.reproducing --write    # renews docs/reproducing.md, which a test compares

Sizes and operations are counted from the recipes themselves (`pipeline/conf/experiment`), rates of
disk and cores are those of docs/benchmarks.md. No training speed was measured on a GPU: hours are
given for a range of MFU, as an assumption.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import yaml
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.feeding import feeding
from pipeline.cli.doctor import estimates
from pipeline.cli.doctor.estimates import Footage
from pipeline.configuration import composition
from pipeline.configuration.reference import renewed
from pipeline.configuration.schema import Params, Run
from pipeline.method.targets import FrozenTarget
from pipeline.runtime.files import write_text
from pipeline.weights.classifier import Classifier

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reproducing.md"
MARK = "<!-- From here on written by `python -m benchmarks.reproducing --write`. -->"
GB, TB, TERA, EXA = 1e9, 1e12, 1e12, 1e18
MFU = (0.2, 0.4)  # assumed, not measured


class Accelerator(NamedTuple):
    """A GPU, with its maker's number for dense matrix products in bfloat16 (V100: float16)."""

    name: str
    peak: float  # operations a second


ACCELERATORS = (Accelerator("A100", 312e12), Accelerator("H100 SXM", 989e12))
# Measured (docs/benchmarks.md): core seconds of a step of 4 clips, and clips/s of a loading core.
STEP_CORE_S = {
    ("vit_small", "mlp"): 2.39,
    ("vit_base", "mlp"): 5.23,
    ("vit_small", "frozen"): 7.8,
    ("vit_base", "frozen"): 10.3,
}
STEP_CLIPS = 4
# Measured (docs/benchmarks.md, decode): 36 clips of 4,118 frames, 64 x 64 to 1920 x 1080 pixels.
DECODE_CORE_S_PER_FRAME = 13.0 / 4_118
YEAR_S = 365.25 * 86_400
LOADED_PER_CORE = 44.0  # h264 at 320 pixels, torchcodec


@dataclass(frozen=True)
class DataSet:
    """What its publishers say of it."""

    name: str
    title: str
    train: int  # clips
    scored: int  # clips that become the split `test`
    seconds: float  # of a clip
    rate: float  # frames a second
    classes: int

    def footage(self) -> Footage:
        return Footage(self.train + self.scored, self.seconds, self.rate)


DATA = (
    DataSet("k400", "Kinetics-400", 240_000, 20_000, 10.0, 30.0, 400),
    DataSet("ssv2", "Something-Something V2", 168_913, 24_777, 4.0, 12.0, 174),
)
RECIPES = tuple(
    f"{data}_{model}_{target}"
    for data in ("k400", "ssv2")
    for model in ("vit_small", "vit_base")
    for target in ("mlp", "dino")
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="renew docs/reproducing.md")
    options = parser.parse_args(arguments)
    if options.write:
        write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))
    else:
        print(tables())
    return 0


def page(text: str) -> str:
    """Return the page with everything after MARK computed anew."""
    return renewed(text, MARK, lambda: f"{tables()}\n")


def tables() -> str:
    """Return all sections with numbers."""
    sections = [disk(), preparation(), pretraining(), feeding(), finetuning(), checkpoints()]
    return "\n\n".join(sections)


@functools.cache
def params_of(experiment: str) -> Params:
    text = composition.compose([f"experiment={experiment}"])
    return composition.validate(yaml.safe_load(text), place=experiment)


def run_of(experiment: str) -> Run:
    """Return the only run of a recipe."""
    (run,) = params_of(experiment).runs.values()
    return run


def disk() -> str:
    """Bytes of each data set in each codec, and how they come about."""
    lines = ["## Disk", "", "| | sources | decoded clips | shards, `h264` | `jpeg` | `raw` |"]
    lines += ["|---|---|---|---|---|---|"]
    sums = []
    for data in DATA:
        settings = params_of(f"{data.name}_vit_base_mlp").data
        footage = data.footage()
        rooms = {
            codec: estimates.room(
                footage,
                settings.model_copy(
                    update={"shards": settings.shards.model_copy(update={"codec": codec})}
                ),
                is_fetched=True,
            )
            for codec in ("h264", "jpeg", "raw")
        }
        room = rooms["h264"]
        cells = [room.sources, room.clips, *(each.shards for each in rooms.values())]
        lines.append(f"| {data.title} | " + " | ".join(f"{c / TB:.2f} TB" for c in cells) + " |")
        side = settings.decode.short_side
        pixels = side * side * footage.aspect
        sums.append(
            f"{data.title}, `h264`: {footage.clips:,} clips x {data.seconds:g} s x {data.rate:g} "
            f"frames/s x {pixels:,.0f} pixels ({side} x {side * footage.aspect:.0f}) x "
            f"{estimates.BYTES_PER_PIXEL['h264']:.4f} bytes x {estimates.FASTDECODE:g} "
            f"(fastdecode) = {room.clips / TB:.2f} TB"
        )
    return "\n".join([*lines, "", *_listed(sums)])


def preparation() -> str:
    """Core hours of decoding, and cores that feed a training."""
    lines = ["## Core hours before training", ""]
    for data in DATA:
        footage = data.footage()
        frames = footage.clips * footage.seconds * footage.rate
        hours = frames * DECODE_CORE_S_PER_FRAME / 3600
        lines.append(
            f"- {data.title}, decode stage: {frames / 1e6:,.0f} million frames x "
            f"{1e3 * DECODE_CORE_S_PER_FRAME:.2f} ms of a core = {hours:,.0f} core "
            f"hours; on 64 cores {hours / 64:.1f} hours."
        )
    pause = sum(params_of("k400_vit_base_mlp").data.download.youtube.pause_s) / 2
    hours = DATA[0].footage().clips * pause / 3600
    lines.append(
        f"- Kinetics-400 from YouTube: the pauses alone (`youtube.pause_s`, {pause:g} s, mean) "
        f"are {hours:,.0f} hours for one connection. What YouTube lets through was "
        "not measured."
    )
    return "\n".join(lines)


def pretraining() -> str:
    """Operations and hours of each recipe."""
    columns = ("recipe", "clips x epochs", "TFLOP a clip", "core years on a CPU")
    lines = ["## Pretraining", "", *_header(*columns)]
    for recipe in RECIPES:
        data = next(each for each in DATA if recipe.startswith(each.name))
        run = run_of(recipe)
        each = operations_of(recipe)
        seen = data.train * run.trainer.epochs
        seconds = STEP_CORE_S[run.model.name, run.objective.target.kind] / STEP_CLIPS
        years = f"{seen * seconds / YEAR_S:.0f}"
        cells = [f"`{recipe}`", f"{data.train:,} x {run.trainer.epochs:,}", f"{each / TERA:.3f}"]
        lines.append(_row([*cells, years], seen * each))
    least = min(map(operations_of, RECIPES))
    need = {a.name: a.peak * MFU[1] / least for a in ACCELERATORS}
    said = " and ".join(
        f"{rate:,.0f} clips/s a GPU on {name} ({rate / LOADED_PER_CORE:.0f} cores)"
        for name, rate in need.items()
    )
    lines += [
        "",
        f"Loading: the lightest recipe would ask for {said} at an MFU of {MFU[1]:.0%}, where a "
        f"core decodes {LOADED_PER_CORE:g} clips/s (`h264`, 320 pixels, torchcodec); `jpeg` gives "
        "3 x as many, `raw` 10 x ([benchmarks.md](benchmarks.md)).",
    ]
    return "\n".join(lines)


@functools.cache
def operations_of(recipe: str) -> float:
    """Return the operations of a step of pretraining for one clip."""
    run = run_of(recipe)
    return estimates.operations_per_clip(run, params_of(recipe).data.clip, teacher_of(run))


def finetuning() -> str:
    """Operations and hours of fine-tuning, with the views of its test."""
    columns = ("data, model", "clips x epochs; views", "TFLOP a clip")
    lines = ["## Fine-tuning", "", *_header(*columns)]
    for data in DATA:
        for model in ("vit_small", "vit_base"):
            params = params_of(f"{data.name}_{model}_mlp")
            settings = params.evaluation.finetune
            assert settings is not None
            forward, step = classifier_operations(params, data.classes)
            views = settings.views.segments * settings.views.crops
            seen = data.train * settings.epochs * settings.augmentation.repeated
            total = seen * step + data.scored * views * forward
            cells = [
                f"{data.title}, `{model}`",
                f"{data.train:,} x {settings.epochs}; {data.scored:,} x {views}",
                f"{step / TERA:.3f}",
            ]
            lines.append(_row(cells, total))
    return "\n".join(lines)


def checkpoints() -> str:
    """Sizes of the models' states."""
    lines = ["## Checkpoints", "", "| model | parameters | one checkpoint |", "|---|---|---|"]
    for model in ("vit_small", "vit_base"):
        recipe = f"k400_{model}_mlp"
        size = estimates.checkpoint_bytes(run_of(recipe), params_of(recipe).data.clip)
        count = size // estimates.STATE_BYTES
        lines.append(f"| `{model}`, `mlp` | {count:,} | {size / GB:.2f} GB |")
    return "\n".join(lines)


@functools.cache
def _teacher_forward(name: str, frames: int, size: int) -> int:
    """Count a frozen network's forward pass over the frames of a clip, its weights left out."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = timm.create_model(name, pretrained=False, num_classes=0)
        network(torch.empty(frames, 3, size, size))
    return int(counter.get_total_flops())


def teacher_of(run: Run) -> float:
    """Return the operations of a run's frozen network for one clip: every second frame is seen."""
    target = run.objective.target
    if not isinstance(target, FrozenTarget):
        return 0.0
    clip = params_of(RECIPES[0]).data.clip
    return float(_teacher_forward(target.model, clip.frames // run.model.tube[0], clip.size))


def classifier_operations(params: Params, classes: int) -> tuple[int, int]:
    """Count the operations of one clip: a forward pass, and a step (forward and backward)."""
    (run,) = params.runs.values()
    clip = params.data.clip
    with torch.device("meta"):
        network = Classifier(run.model, clip, classes)
        video = torch.empty(1, 3, clip.frames, clip.size, clip.size)
        with FlopCounterMode(display=False) as counter:
            logits = network(video)
            forward = int(counter.get_total_flops())
            functional.cross_entropy(logits, torch.zeros(1, dtype=torch.long)).backward()
            return forward, int(counter.get_total_flops())


def _header(*columns: str) -> list[str]:
    names = [*columns, "EFLOP", *(f"{a.name} hours" for a in ACCELERATORS)]
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def training_hours(operations: float, *, peak: float, share: float) -> float:
    """Return the hours of one GPU for `operations` at a `share` (MFU) of `peak` a second."""
    return operations / (peak * share) / 3600


def _row(cells: Sequence[str], operations: float) -> str:
    """Return a row with all operations, and the hours of one GPU of each kind for them."""
    hours = []
    for accelerator in ACCELERATORS:
        slow, fast = (
            training_hours(operations, peak=accelerator.peak, share=share) for share in MFU
        )
        hours.append(f"{fast:,.0f} to {slow:,.0f}")
    return "| " + " | ".join([*cells, f"{operations / EXA:,.0f}", *hours]) + " |"


def _listed(lines: Sequence[str]) -> list[str]:
    return [f"- {line}." for line in lines]


if __name__ == "__main__":
    raise SystemExit(main())
