"""The trainer on one screen takes the pipeline's steps."""

from __future__ import annotations

import ast
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.configuration.composition import compose, parse
from pipeline.data import synthetic
from pipeline.data.load.loader import Batch
from pipeline.runtime import precision
from pipeline.runtime.interruption import StopRequest
from pipeline.runtime.optimisers import StepValues
from pipeline.runtime.ranks import Ranks
from pipeline.training import engines, loop

STEPS = 4
# The constants of examples/train_minimal.py, as the pipeline's settings.
SETTINGS = """
experiment=tiny data.clip.frames=8 data.clip.size=32 data.clip.stride=1
model.tube=[2,8,8] model.width=96 model.depth=3 model.heads=3 model.mlp_ratio=4
model.decoder_width=48 model.decoder_depth=1 model.decoder_heads=3
objective=sigma_mlp objective/mask=tube objective.mask.ratio=0.75
objective.target.hidden=[128] objective.target.width=32
objective.loss.prototypes=64 objective.loss.epsilon=0.005 objective.loss.iterations=10
objective.loss.temperature=0.1
trainer.seed=0 trainer.engine=single trainer.optimiser.weight_decay=0.05
trainer.optimiser.betas=[0.9,0.95]
"""


@pytest.fixture
def example(project: Path, monkeypatch: pytest.MonkeyPatch):
    """The module; it is not part of a package."""
    monkeypatch.syspath_prepend(project / "examples")
    sys.modules.pop("train_minimal", None)
    import train_minimal

    return train_minimal


def test_its_first_losses_are_the_pipeline_s(example) -> None:
    """Catches a method that needs the pipeline around it, or that the pipeline bends."""
    batches = list(itertools.islice(example.batches_of([], np.random.default_rng(0)), STEPS))
    rates = example.learning_rates(40)[1:]
    ours = list(example.train(example.build(), example.LOSS, batches, rates))

    params = parse(compose(SETTINGS.split()), place="test")
    whole = params.runs["sigma_mlp"]
    run = whole.model_copy(
        update={"model": params.model, "objective": params.objective, "trainer": params.trainer}
    )
    device = torch.device("cpu")
    model = loop.initial_model(run, params.data.clip).train()
    engine = engines.build(model, run.trainer, Ranks(), precision.choose("fp32", device))
    theirs = [
        loop.train_step(
            engine,
            Batch(step, 0, clips, masks, ["clip"] * len(clips)),
            len(clips),
            run,
            StepValues(rate),
            StopRequest(),
        ).loss
        for step, ((clips, masks), rate) in enumerate(zip(batches, rates, strict=False))
    ]
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[-1] != ours[0]


def test_it_uses_the_method_alone_and_fits_on_a_screen(project: Path) -> None:
    """Catches a minimal trainer that grows, or that borrows from other rooms."""
    text = (project / "examples" / "train_minimal.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    imported = {
        node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module and "pipeline" in node.module
    }
    assert imported
    assert all(module.startswith("pipeline.method.") for module in imported)


def test_it_trains_on_a_folder_of_videos(example, tmp_path: Path) -> None:
    """Catches a loader that only knows drawn clips."""
    settings = parse(compose(["experiment=tiny"]), place="test").data.synthetic
    assert settings is not None
    rows = synthetic.rows(settings)[:2]
    videos = [path for _, path in synthetic.write_videos(settings, rows, tmp_path)]
    batches = example.batches_of(videos, np.random.default_rng(0))
    losses = list(example.train(example.build(), example.LOSS, batches, [1e-3, 1e-3]))
    assert all(np.isfinite(losses))
