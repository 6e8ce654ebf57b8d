"""Clips a second that frozen encoders turn into features, as the evaluate stage does it.

Clips lie in the host's memory as bytes: what is measured is to copy, normalise and encode them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
import yaml

from benchmarks.accelerator.measurement import Measurement
from pipeline.configuration.build import encoder
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Params
from pipeline.evaluation.rows import answers, inference
from pipeline.method.pooling import Pooled

MODELS = ("vit_base", "vit_large")
BATCH = 32
SECONDS = 3.0


def measurements(options: argparse.Namespace) -> Iterator[Measurement | str]:
    """Yield a row for each model."""
    device = torch.device(options.device)
    for name in MODELS[:1] if options.small else MODELS:
        text = compose(["experiment=k400_vit_small_mlp", f"model={name}"])
        params = Params.model_validate(yaml.safe_load(text))
        clip, batch = params.data.clip, 1 if options.small else BATCH
        network = Pooled(encoder(next(iter(params.runs.values())).model, clip)).to(device).eval()
        shape = (batch, 1, clip.frames, clip.size, clip.size, 3)
        videos = torch.randint(0, 256, shape, dtype=torch.uint8)
        features: dict[str, torch.Tensor] = {}
        rates: dict[str, float] = {}
        for way, context in (("float32", torch.inference_mode()), ("as evaluated", None)):
            with context or inference(device, network.encoder.grid.count):
                features[way] = answers(network, videos, batch, device).cpu()
                done, began = 0, time.perf_counter()
                while time.perf_counter() - began < SECONDS:
                    answers(network, videos, batch, device).cpu()
                    done += batch
            rates[way] = done / (time.perf_counter() - began)
        exact, found = features.values()
        difference = float((found - exact).norm() / exact.norm())
        record = {"model": name, "batch": batch, "clips_per_s": rates, "difference": difference}
        shown = ", ".join(f"{way} {rate:,.1f} clips/s" for way, rate in rates.items())
        line = f"{name}, batches of {batch}: {shown}; features differ by {difference:.1e}"
        yield Measurement(record, line)
