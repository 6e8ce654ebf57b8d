"""Benchmark I, recognition, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.evaluation.benchmark import Benchmark, Body, Requirement
from pipeline.evaluation.recognition.settings import Evaluation

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Recognition(Benchmark):
    """Which class a clip is of. Its scores are what the report is about; its table is of costs."""

    name = section = "evaluation"
    stage = "evaluate"
    done = "evaluated"
    title = "recognition"
    summary = "score one run's encoder"
    settings = Evaluation
    module = "pipeline.evaluation.recognition.run"
    table = "pipeline.evaluation.recognition.cost"
    on_further_data = True
    reads = ("data.labels",)
    outputs = ("features.npz", "predictions.csv", "predictions.parquet")
    plots: ClassVar = {
        "predictions.csv": {"template": "confusion", "x": "predicted_1", "y": '"true"'}
    }
    card = ("label", "probe", "split", "top1", "top5", "chance", "scored", "of")

    def of(self, params: Params) -> Evaluation:
        """Return its settings."""
        return params.evaluation

    def processes(self, params: Params) -> int:
        """Return how many processes compute features."""
        return params.evaluation.processes

    def inputs(self, params: Params) -> list[Path]:
        """Return the folders and archives of images."""
        return [Path(images.folder) for images in params.evaluation.images]

    def requirements(self, params: Params) -> Iterator[Requirement]:
        """scikit-learn, and folders of images."""
        yield Requirement("scikit-learn", None, note=version("scikit-learn"))
        for images in params.evaluation.images:
            remedy = "docs/evaluation.md says what belongs there; or evaluation.images=[]"
            yield Requirement(images.name, Path(images.folder), remedy)

    def metrics(self, body: Body) -> Iterator[tuple[str, str, float]]:
        """Yield top-1 by label and probe: on test, and `val_` with the probe on val."""
        for row in (*body["scores"], *body.get("validation", ())):
            probe = f"val_{row['probe']}" if row["split"] == "val" else row["probe"]
            yield row["label"], probe, row["top1"]
