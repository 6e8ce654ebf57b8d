"""A model as ONNX: one file, any number of clips at once, checked through onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError, how_to_install
from pipeline.use.exporting.comparison import Expected, largest
from pipeline.weights.video_model import VideoModel

FILE = "model.onnx"
INPUT = "pixel_values"  # B,T,3,H,W, as Hugging Face's image processor gives it


class Outputs(nn.Module):
    """Pixels B,T,3,H,W to tokens B,N,D, pooled features B,D and, where there is a head, logits."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        tokens = self.model.tokens(pixel_values.transpose(1, 2))
        classifier = self.model.classifier
        if classifier is None:
            return tokens, tokens.mean(1)
        pooled = classifier.fc_norm(tokens.mean(1))
        return tokens, pooled, classifier.head(pooled)


def write(model: VideoModel, folder: Path) -> list[str]:
    """Write `model.onnx`; weights above 2 GB lie beside it in `model.onnx.data`."""
    _need("onnx", "onnxscript")
    grid = model.encoder.grid
    frames, height, width = grid.clip_shape
    example = torch.zeros(2, frames, 3, height, width)
    names = ["tokens", "features", *(["logits"] if model.classifier is not None else [])]
    size = sum(4 * parameter.numel() for parameter in model.encoder.parameters())
    # What the exporter prints of its own steps is nothing that its user could act upon.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Outputs(model).eval(),
            (example,),
            folder / FILE,
            input_names=[INPUT],
            output_names=names,
            dynamic_shapes={INPUT: {0: torch.export.Dim("clips")}},
            external_data=size > 1_900_000_000,
            dynamo=True,
            verbose=False,
        )
    return sorted(path.name for path in folder.iterdir())


def check(folder: Path, expected: Expected) -> dict[str, float]:
    """Run it on all clips at once and on one alone; return the largest difference per output."""
    runtime = _need("onnxruntime")
    session = runtime.InferenceSession(
        folder / FILE, providers=["CPUExecutionProvider"]
    )  # its own kernels: another implementation than the one that it is compared with
    outputs = {"tokens": expected.tokens, "features": expected.pooled}
    if expected.logits is not None:
        outputs["logits"] = expected.logits
    differences = dict.fromkeys(outputs, 0.0)
    for count in (len(expected.videos), 1):
        pixels = expected.videos[:count].transpose(1, 2).contiguous().numpy()
        for name, actual in zip(outputs, session.run(list(outputs), {INPUT: pixels}), strict=True):
            far = largest(outputs[name][:count], torch.from_numpy(actual))
            differences[name] = max(differences[name], far)
    return {f"{name} in onnxruntime": value for name, value in differences.items()}


def _need(*names: str) -> Any:
    import importlib

    try:
        return [importlib.import_module(name) for name in names][-1]
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", remedy=how_to_install("export")) from None
