"""The parts of a step: rates, seeds, gradients, and where runs begin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clips.loader import Batch, pretraining_batches
from pipeline.clips.order import steps_of
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Optimiser, Params, Trainer
from pipeline.shards.index import DatasetIndex
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.loop import (
    Gradients,
    _not_finite,
    adamw,
    gradients,
    initial_model,
    learning_rates,
    step_seed,
)

Compose = Callable[..., Params]
CPU = torch.device("cpu")

TRAINER = Trainer(
    name="test",
    engine="single",
    seed=0,
    epochs=1,
    warmup_epochs=0,
    batch_size=8,
    accumulation=1,
    precision="fp32",
    threads=1,
    workers=0,
    cache_mib=0,
    optimiser=Optimiser(
        base_lr=1e-3,
        final_lr=1e-5,
        warmup_lr=1e-6,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.05,
    ),
    log_every=1,
    checkpoint_every=1,
    keep_checkpoints=1,
)


@settings(deadline=None)
@given(
    epochs=st.integers(1, 50),
    warmup=st.integers(0, 50),
    clips=st.integers(1, 3000),
    batch=st.integers(1, 512),
)
def test_a_rate_for_every_step(epochs: int, warmup: int, clips: int, batch: int) -> None:
    """Catches a schedule that ends before its run, or that ignores the global batch."""
    trainer = TRAINER.model_copy(
        update={"epochs": epochs, "warmup_epochs": min(warmup, epochs), "batch_size": batch}
    )
    steps = steps_of(epochs, n=clips, batch_size=batch)
    rates = learning_rates(trainer, steps, clips=clips)
    scale = batch / 256
    assert len(rates) == steps
    assert all(1e-6 * scale * 0.999 <= rate <= 1e-3 * scale * 1.001 for rate in rates)
    rise = steps_of(trainer.warmup_epochs, n=clips, batch_size=batch)
    assert all(a <= b for a, b in itertools.pairwise(rates[:rise]))
    assert all(a >= b for a, b in itertools.pairwise(rates[rise:]))
    if rise > 1:
        assert rates[0] == pytest.approx(1e-6 * scale)
    if rise < steps:
        assert rates[rise] == pytest.approx(1e-3 * scale)


def test_step_seeds_differ() -> None:
    """Catches runs or steps that share their drop-path decisions, and seeds torch refuses."""
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(200)}
    assert len(seeds) == 4000
    torch.manual_seed(max(seeds))


def batch_of(params: Params, size: int) -> Batch:
    """The first batch of the test's data set."""
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(["train"])
    run = params.runs["pixel"]
    return next(
        pretraining_batches(
            entries,
            params.data.clip,
            run.objective.mask,
            run.model.tube,
            seed=0,
            batch_size=size,
            first_step=0,
            steps=1,
        )
    )


def test_all_runs_begin_with_the_same_encoder(compose: Compose) -> None:
    """Catches a baseline `random` that is not where `sigma_mlp` and `pixel` started from."""
    params = compose()
    models = [initial_model(run, params.data.clip) for run in params.runs.values()]
    first, *others = (dict(model.encoder.state_dict()) for model in models)
    assert len(others) == 2
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)
    other_seed = params.runs["pixel"].model_copy(
        update={"trainer": params.runs["pixel"].trainer.model_copy(update={"seed": 1})}
    )
    moved = initial_model(other_seed, params.data.clip).encoder.state_dict()
    assert any(not torch.equal(first[name], moved[name]) for name in first)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(compose: Compose, parts: int) -> None:
    """Catches a sum in place of a mean, or micro-batches that are dropped."""
    found = []
    for accumulation in (1, parts):
        params = compose(f"trainer.accumulation={accumulation}")
        run = params.runs["pixel"]
        model = initial_model(run, params.data.clip)
        step = gradients(model, batch_of(params, 16), run, CPU)
        found.append((step, [p.grad for p in model.parameters()]))
    (whole, expected), (accumulated, measured) = found
    assert accumulated.loss == pytest.approx(whole.loss, rel=1e-6)
    assert accumulated.norm == pytest.approx(whole.norm, rel=1e-5)
    for a, b in zip(expected, measured, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-7)


def test_the_clips_of_a_loss_that_is_not_finite_are_named(compose: Compose, tmp_path: Path) -> None:
    """Catches clips that are named although they are in another micro-batch, and a long list."""
    batch = replace(batch_of(compose(), 16), ids=[f"clip-{i}" for i in range(200)])
    checkpoints = Checkpoints(tmp_path, {}, 1, "pretrain x")
    found = Gradients(math.nan, [1.0, math.nan, 1.0, math.nan], 1.0, {})
    place = _not_finite(found, batch, checkpoints).place
    assert (
        place == f"pretrain x, rank 0 of 1, clips {', '.join(f'clip-{i}' for i in range(50, 100))}"
    )
    everything = _not_finite(Gradients(1.0, [1.0] * 4, math.inf, {}), batch, checkpoints).place
    assert everything.endswith("clip-63 and 136 more")


def test_gradients_are_clipped_and_the_norm_is_of_before(compose: Compose) -> None:
    """Catches clipping that is not done, or a log that shows the limit instead of the norm."""
    free, tight = compose(), compose("trainer.optimiser.clip_grad=0.01")
    batch = batch_of(free, 8)
    norms, lengths = [], []
    for params in (free, tight):
        model = initial_model(params.runs["pixel"], params.data.clip)
        norms.append(gradients(model, batch, params.runs["pixel"], CPU).norm)
        lengths.append(
            sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
            ** 0.5
        )
    assert norms[0] == norms[1] > 0.01
    assert lengths[0] == pytest.approx(norms[0], rel=1e-4)
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


def test_bf16_is_near_fp32(compose: Compose) -> None:
    """Catches autocast that is never entered, or that reaches into the loss."""
    losses = []
    for precision in ("fp32", "bf16"):
        params = compose(f"trainer.precision={precision}")
        run = params.runs["sigma_mlp"]
        model = initial_model(run, params.data.clip)
        losses.append(gradients(model, batch_of(params, 8), run, CPU).loss)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize(("name", "share"), [("sigma_mlp", 0.8), ("pixel", 0.93)])
def test_a_batch_can_be_learned(compose: Compose, name: str, share: float) -> None:
    """Catches gradients that do not reach the weights, or that point uphill."""
    params = compose()
    run = params.runs[name]
    model = initial_model(run, params.data.clip).train()
    optimiser = adamw(model, run.trainer.optimiser)
    batch = batch_of(params, 8)
    losses = []
    for _ in range(60):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * group["lr_scale"]
        losses.append(gradients(model, batch, run, CPU).loss)
        optimiser.step()
    assert losses[-1] < share * losses[0]
