"""One process of a gloo group on this machine: takes its part of a batch through a DDP step.

Reads FOLDER/inputs.safetensors and FOLDER/settings.json, meets the others over a file there, and
writes, for every objective, loss, diagnostics and averaged gradients, and an assignment of given
scores, to FOLDER/RANK-of-WORLD.safetensors.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.method.collectives import over
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.sigma import SigmaModel
from pipeline.method.sinkhorn import assign


def step(
    model: SigmaModel, objective: Objective, videos: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    wrapped = DistributedDataParallel(model)  # must outlive the backward pass
    loss, diagnostics = masked_video_loss(wrapped, videos, mask, objective.loss, dist.group.WORLD)
    loss.backward()
    gradients = {f"gradient.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return gradients | {f"diagnostics.{n}": v for n, v in diagnostics.items()} | {"loss": loss}


def main(folder: Path, rank: int, world: int) -> None:
    """Take the step."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    meeting = f"file://{folder.resolve()}/meeting-{world}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    settings = json.loads((folder / "settings.json").read_text())
    inputs = load_file(folder / "inputs.safetensors")
    videos, mask, scores = (
        inputs[name].chunk(world)[rank] for name in ("videos", "mask", "scores")
    )
    outputs = {"assignment": assign(scores, 0.03, 10, over(dist.group.WORLD))}
    for name, chosen in settings["objectives"].items():
        objective = Objective.model_validate(chosen)
        torch.manual_seed(0)
        model = sigma_model(
            Model.model_validate(settings["model"]),
            objective,
            Clip.model_validate(settings["clip"]),
        )
        results = step(model, objective, videos, mask)
        outputs |= {f"{name}.{key}": value.detach() for key, value in results.items()}
    save_file(outputs, folder / f"{rank}-of-{world}.safetensors")
    dist.destroy_process_group()
