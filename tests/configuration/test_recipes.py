"""The published recipes: their numbers, and what Snakemake makes of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.configuration import composition
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import STAGES
from pipeline.method.losses import SinkhornLoss
from pipeline.method.masks import MotionMask
from pipeline.method.targets import FrozenTarget, MlpTarget
from pipeline.training.schedules import learning_rates

RECIPES = list(itertools.product(("ssv2", "k400"), ("small", "base"), ("mlp", "dino")))
NAMES = [f"{data}_vit_{model}_{target}" for data, model, target in RECIPES]
ENCODERS = {"small": (384, 12, 6), "base": (768, 12, 12)}  # width, depth, heads
BATCH = {"ssv2 small": 128, "ssv2 base": 512, "k400 small": 640, "k400 base": 640}


def composed(name: str, *overrides: str) -> Params:
    text = composition.compose([f"experiment={name}", *overrides])
    return composition.validate(yaml.safe_load(text), place=name)


@pytest.mark.parametrize(("data", "model", "target"), RECIPES, ids=NAMES)
def test_recipes_are_the_published_ones(data: str, model: str, target: str) -> None:
    """Catches a hyperparameter that a change of a shared group file drags along."""
    params = composed(f"{data}_vit_{model}_{target}")
    assert params.name == f"{data}_vit_{model}_{target}"
    ((name, run),) = params.runs.items()
    assert name == run.objective.name == f"sigma_{target}"
    clip, objective, trainer = params.data.clip, run.objective, run.trainer
    assert (params.data.name, clip.stride, clip.flip) == (
        (data, 2, False) if data == "ssv2" else (data, 4, True)
    )
    assert (clip.frames, clip.size, clip.scales) == (16, 224, (1.0, 0.875, 0.75, 0.66))
    assert (run.model.width, run.model.depth, run.model.heads) == ENCODERS[model]
    assert (run.model.decoder_depth, run.model.tube) == (4, (2, 16, 16))
    assert (objective.mask.kind, objective.mask.ratio) == ("tube", 0.9)
    epsilon = 0.03 if data == "ssv2" else 0.05
    assert objective.loss == SinkhornLoss(3000, epsilon, iterations=10, temperature=0.1)
    if target == "mlp":
        assert isinstance(objective.target, MlpTarget)
        assert (*objective.target.hidden, objective.target.width) == (1024, 1024, 512, 256)
    else:
        assert isinstance(objective.target, FrozenTarget)
        assert objective.target.model == "vit_base_patch16_224.dino"
    assert trainer.epochs == (2400 if (data, model) == ("ssv2", "small") else 800)
    assert (trainer.warmup_epochs, trainer.batch_size) == (40, BATCH[f"{data} {model}"])
    optimiser = trainer.optimiser
    assert (optimiser.base_lr, optimiser.final_lr) == (1.5e-4, 1e-5)
    assert (optimiser.betas, optimiser.weight_decay) == ((0.9, 0.95), 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_rates_count_the_whole_batch(name: str) -> None:
    """Catches a rate scaled by a part of the batch: accumulation must not change it."""
    (run,) = composed(name).runs.values()
    trainer = run.trainer.model_copy(update={"epochs": 80})
    assert trainer.accumulation > 1
    rates = learning_rates(trainer, clips=10 * trainer.batch_size)
    assert max(rates) == pytest.approx(1.5e-4 * trainer.batch_size / 256)
    assert rates.index(max(rates)) == 40 * 10 - 1
    whole = trainer.model_copy(update={"accumulation": 1})
    assert learning_rates(whole, clips=10 * trainer.batch_size) == rates


def test_masks_can_follow_motion() -> None:
    """Catches a motion-guided mask that needs more than one override."""
    (run,) = composed("ssv2_vit_base_mlp", "objective/mask=motion").runs.values()
    assert isinstance(run.objective.mask, MotionMask)


@pytest.mark.system
@pytest.mark.parametrize("name", ["ssv2_vit_small_mlp", "k400_vit_base_dino"])
def test_recipes_are_planned(name: str, project: Path, tmp_path: Path) -> None:
    """Catches a recipe that Snakemake cannot plan: a job per chunk, one of each other stage."""
    for each in ("Snakefile", "workflow", "pipeline"):
        (tmp_path / each).symlink_to(project / each)
    text = composition.compose([f"experiment={name}"])
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    params = composition.validate(yaml.safe_load(text), place=name)
    listed = tmp_path / params.data.rows_from
    listed.parent.mkdir()
    listed.write_text("id,path,label,split\na,a.mp4,x,train\n", encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = (line.split() for line in (done.stdout + done.stderr).splitlines())
    planned = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    for stage, settings in STAGES.items():
        jobs = params.data.chunks if settings.per == ("chunk",) else 1
        jobs = len(settings.benchmark.runs(params)) if settings.benchmark else jobs
        assert planned.get(stage, 0) == jobs, stage


def test_lean_clips_are_the_same_in_time() -> None:
    """Would catch a stored rate or a stride that shows the model another speed, and settings of
    k400 that the lean one does not follow."""
    usual, lean = (composed("k400_vit_base_dino", f"data={name}").data for name in
                   ("k400", "k400_lean"))  # fmt: skip
    assert lean.decode.fps is not None
    assert lean.clip.stride / lean.decode.fps == usual.clip.stride / 30
    assert lean.clip.model_copy(update={"stride": 4}) == usual.clip
    assert lean.decode.model_copy(update={"fps": None}) == usual.decode
