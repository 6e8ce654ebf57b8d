"""How fast frozen features are extracted, beside Hugging Face's VideoMAE with the same weights.

    python -m benchmarks.extract --model vit_small --batch-size 2 --json

Both get the same clips and take turns, so that whatever else the machine does hits both alike: ours
as bytes, which it normalises itself as the evaluate stage does, theirs normalised already. Their
forward pass is the one of `VideoMAEModel` in evaluation mode, without gradients, under PyTorch's
own settings. The largest difference between the tokens of both is printed, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.measuring import machine, machine_lines, table, take_turns
from pipeline.configuration.build import sigma_model
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Clip, Params, Run
from pipeline.evaluation.rows import answers, inference
from pipeline.method.pixels import normalise
from pipeline.method.pooling import Pooled
from pipeline.method.sigma import SigmaModel
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.weights import hugging_face

TO_REACH = 1.5  # times Hugging Face's clips per second
SAME = 1e-5  # largest difference of a feature
OURS, THEIRS = "ours", "Hugging Face"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object; 1 where a bound is missed."""
    report = measure(parser().parse_args(arguments))
    print(json.dumps(report, indent=2) if report.pop("as_json") else shown(report))
    return 0 if report["ratio"] >= TO_REACH and report["largest_difference"] <= SAME else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    made = argparse.ArgumentParser(prog="python -m benchmarks.extract", description=described)
    made.add_argument("--model", default="vit_small", help="a name in pipeline/conf/model")
    made.add_argument("--batch-size", type=int, default=2)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--frames", type=int, default=16)
    made.add_argument("--size", type=int, default=224, help="pixels")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=2.0, help="of each in a round, at least")
    made.add_argument("--json", action="store_true")
    return made


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the report."""
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the evaluate stage does; theirs has it, too
    run, clip = settings(options)
    torch.manual_seed(0)
    model = sigma_model(run.model, run.objective, clip).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # none as it was initialised: biases count, too
            parameter.add_(torch.randn_like(parameter) * 0.02)
    theirs = hugging_face_model(model, run, clip)
    shape = (options.batch_size, 1, clip.frames, clip.size, clip.size, 3)
    videos = torch.randint(0, 256, shape, dtype=torch.uint8)
    pixels = normalise(videos[:, 0]).transpose(1, 2).contiguous()
    ours, device = Pooled(model.encoder), torch.device("cpu")

    def extract() -> int:
        with inference(device, model.grid.count):
            return len(answers(ours, videos, options.batch_size, device))

    @torch.inference_mode()
    def forward() -> int:
        return len(theirs(pixel_values=pixels).last_hidden_state.mean(1))

    with inference(device, model.grid.count):
        tokens: Tensor = answers(model.encoder, videos, options.batch_size, device)[:, 0]
    with torch.inference_mode():
        expected = theirs(pixel_values=pixels).last_hidden_state
    speeds = take_turns(
        {OURS: extract, THEIRS: forward}, rounds=options.rounds, seconds=options.seconds
    )
    return {
        "as_json": options.json,
        "model": options.model,
        "clip": [clip.frames, clip.size, clip.size],
        "batch_size": options.batch_size,
        "threads": options.threads,
        "largest_difference": float((tokens - expected).abs().max()),
        "clips_per_cpu_s": {name: speed.per_cpu_s for name, speed in speeds.items()},
        "best_clips_per_cpu_s": {name: speed.best_per_cpu_s for name, speed in speeds.items()},
        "ratio": speeds[OURS].per_cpu_s / speeds[THEIRS].per_cpu_s,
        "ratio_of_the_best": speeds[OURS].best_per_cpu_s / speeds[THEIRS].best_per_cpu_s,
        **machine(),
    }


def settings(options: argparse.Namespace) -> tuple[Run, Clip]:
    """The published model with the clip of the command line."""
    text = compose(
        [
            "experiment=k400_vit_small_mlp",
            f"model={options.model}",
            f"data.clip.frames={options.frames}",
            f"data.clip.size={options.size}",
        ]
    )
    params = Params.model_validate(yaml.safe_load(text))
    return next(iter(params.runs.values())), params.data.clip


def hugging_face_model(model: SigmaModel, run: Run, clip: Clip) -> nn.Module:
    """Their model with our weights, through the files that it reads."""
    from transformers import VideoMAEModel

    with tempfile.TemporaryDirectory() as folder:
        config = json.dumps(hugging_face.config(run.model, clip))
        (Path(folder) / "config.json").write_text(config, encoding="utf-8")
        save_file(hugging_face.tensors(model), Path(folder) / "model.safetensors", {"format": "pt"})
        loaded: nn.Module = VideoMAEModel.from_pretrained(folder).eval()
    return loaded


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (
            name,
            f"{report['clips_per_cpu_s'][name]:.2f}",
            f"{report['best_clips_per_cpu_s'][name]:.2f}",
        )
        for name in (OURS, THEIRS)
    ]
    frames, size, _ = report["clip"]
    return "\n".join(
        [
            f"{report['model']}, {frames} x {size} x {size}, batch {report['batch_size']}, "
            f"{report['threads']} thread(s), float32",
            table(("", "clips / CPU s", "best"), rows),
            f"ratio {report['ratio']:.2f} (of the best {report['ratio_of_the_best']:.2f}; to reach "
            f"{TO_REACH}), largest difference of a token's feature "
            f"{report['largest_difference']:.1e} (at most {SAME:.0e})",
            machine_lines(report),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
