"""The parts of a step: rates, seeds, gradients, and where runs begin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Optimiser, Params, Run, Trainer
from pipeline.data.load.loader import Batch, PretrainingClips, pretraining_batches
from pipeline.data.load.order import total_steps
from pipeline.data.shards.index import DatasetIndex
from pipeline.runtime import precision
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.interruption import StopRequest
from pipeline.runtime.optimisers import StepValues
from pipeline.runtime.ranks import Ranks
from pipeline.training import engines
from pipeline.training.engines import Engine
from pipeline.training.loop import initial_model, is_finite, train_step
from pipeline.training.messages import StepResult, not_finite
from pipeline.training.position import step_seed
from pipeline.training.schedules import learning_rates

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


@given(
    epochs=st.integers(1, 50),
    warmup=st.integers(0, 50),
    clips=st.integers(1, 3000),
    batch=st.integers(1, 512),
    least=st.integers(0, 2000),
)
def test_a_rate_for_every_step(
    epochs: int, warmup: int, clips: int, batch: int, least: int
) -> None:
    """Catches a schedule that ends before its run, or that ignores the global batch."""
    trainer = TRAINER.model_copy(
        update={
            "epochs": epochs,
            "warmup_epochs": min(warmup, epochs),
            "batch_size": batch,
            "least_steps": least,
        }
    )
    planned = total_steps(epochs, n=clips, batch_size=batch)
    steps = max(planned, least)
    rates = learning_rates(trainer, clips)
    scale = batch / 256
    assert len(rates) == steps
    assert all(1e-6 * scale * 0.999 <= rate <= 1e-3 * scale * 1.001 for rate in rates)
    # The whole of the epochs that are planned, or as large a part of more steps.
    rise = int(total_steps(trainer.warmup_epochs, n=clips, batch_size=batch) * steps / planned)
    assert all(a <= b for a, b in itertools.pairwise(rates[:rise]))
    assert all(a >= b for a, b in itertools.pairwise(rates[rise:]))
    if rise > 1:
        assert rates[0] == pytest.approx(1e-6 * scale)
    if rise < steps:
        assert rates[rise] == pytest.approx(1e-3 * scale)


def test_step_seeds_differ() -> None:
    """Catches runs or steps that share their drop-path decisions, and seeds torch refuses."""
    seeds = {
        step_seed(seed, step, part)
        for seed in range(20)
        for step in range(200)
        for part in range(3)
    }
    assert len(seeds) == 12_000
    torch.manual_seed(max(seeds))


def batch_of(params: Params, size: int) -> Batch:
    """The first batch of the test's data set."""
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(["train"])
    run = params.runs["pixel"]
    return next(
        pretraining_batches(
            PretrainingClips(
                entries,
                params.data.clip,
                run.objective.mask,
                run.model.tube,
                seed=0,
                batch_size=size,
            ),
            range(1),
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


def engine_of(run: Run, params: Params) -> Engine:
    """The engine of one process, at the beginning of a run."""
    model = initial_model(run, params.data.clip).train()
    return engines.build(model, run.trainer, Ranks(), precision.choose(run.trainer.precision, CPU))


def step(engine: Engine, batch: Batch, run: Run, rate: float = 0.0) -> StepResult:
    """One step on a batch; at a rate of 0 it leaves nothing but gradients."""
    return train_step(engine, batch, len(batch.ids), run, StepValues(rate), StopRequest())


@pytest.mark.parametrize(
    ("name", "parts", "mask"),
    [
        *itertools.product(["sigma_mlp"], [2, 3], ["tube"]),
        *itertools.product(["pixel", "sigma_mlp"], [3], ["dual", "redundancy"]),
        *itertools.product(["pixel"], [2, 3], ["tube"]),
        ("pixel", 3, "adaptive"),
    ],
)
def test_accumulated_gradients_are_those_of_the_whole_batch(
    compose: Compose, name: str, parts: int, mask: str
) -> None:
    """Catches a sum in place of a mean, micro-batches that are dropped or of unlike weight, and a
    Sinkhorn or diagnostics that see one of them at a time; of dual masks, whose clips have
    unequally many tubes in the loss, a mean of clips' means."""
    found = []
    masks = [f"objective/mask@runs.{name}.objective.mask={mask}"]
    for accumulation in (1, parts):
        params = compose("trainer.batch_size=12", f"trainer.accumulation={accumulation}", *masks)
        run = params.runs[name]
        batch = batch_of(params, 12)
        batch = replace(batch, videos=batch.videos[:11], masks=batch.masks[:11], ids=batch.ids[:11])
        engine = engine_of(run, params)
        found.append((step(engine, batch, run), [p.grad for p in engine.core.parameters()]))
    (whole, expected), (accumulated, measured) = found
    assert accumulated.loss == pytest.approx(whole.loss, rel=1e-6)
    assert accumulated.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
    for a, b in zip(expected, measured, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-7)
    if name == "sigma_mlp":
        torch.testing.assert_close(accumulated.diagnostics, whole.diagnostics)


def test_both_passes_over_a_part_drop_the_same_paths(compose: Compose) -> None:
    """Catches assignments that belong to other features than those that are trained on."""
    params = compose("trainer.accumulation=2", "++model.drop_path=0.5", "++model.depth=4")
    run, seen = params.runs["sigma_mlp"], []
    engine = engine_of(run, params)
    engine.core.decoder.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    step(engine, batch_of(params, 16), run)
    first, second, again, again_second = seen
    assert torch.equal(first, again)
    assert torch.equal(second, again_second)
    assert not torch.equal(first, second)


def test_the_clips_of_a_loss_that_is_not_finite_are_named(compose: Compose, tmp_path: Path) -> None:
    """Catches clips that are named although they are in another micro-batch, and a long list."""
    batch = replace(batch_of(compose(), 16), ids=[f"clip-{i}" for i in range(200)])
    checkpoints = Checkpoints(tmp_path, {}, 1, "pretrain x")
    result = StepResult(math.nan, 1.0, [1.0, math.nan, 1.0, math.nan], {}, stop=False)
    place = not_finite(result, batch, checkpoints, Ranks()).place
    assert (
        place == f"pretrain x, rank 0 of 1, clips {', '.join(f'clip-{i}' for i in range(50, 100))}"
    )
    result = StepResult(1.0, math.inf, [1.0] * 4, {}, stop=False)
    everything = not_finite(result, batch, checkpoints, Ranks()).place
    assert everything.endswith("clip-63 and 136 more")


def test_gradients_are_clipped_and_the_norm_is_of_before(compose: Compose) -> None:
    """Catches clipping that is not done, or a log that shows the limit instead of the norm."""
    free, tight = compose(), compose("trainer.optimiser.clip_grad=0.01")
    batch = batch_of(free, 8)
    norms, lengths = [], []
    for params in (free, tight):
        engine = engine_of(params.runs["pixel"], params)
        norms.append(step(engine, batch, params.runs["pixel"]).grad_norm)
        gradients = [p.grad for p in engine.core.parameters() if p.grad is not None]
        lengths.append(sum(float(g.square().sum()) for g in gradients) ** 0.5)
    assert norms[0] == norms[1] > 0.01
    assert lengths[0] == pytest.approx(norms[0], rel=1e-4)
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("format_", ["bf16", "fp16"])
def test_mixed_precision_is_near_fp32(compose: Compose, format_: str) -> None:
    """Catches autocast that is never entered or reaches into the loss, and gradients that are left
    scaled."""
    found = []
    for name in ("fp32", format_):
        params = compose(f"trainer.precision={name}")
        run = params.runs["sigma_mlp"]
        engine, batch = engine_of(run, params), batch_of(params, 8)
        result = step(engine, batch, run)
        while not math.isfinite(result.grad_norm) and is_finite(result, engine):
            result = step(engine, batch, run)  # at first fp16 scales too much
        found.append(result)
    assert found[0].loss != found[1].loss
    assert found[1].loss == pytest.approx(found[0].loss, rel=0.02)
    assert found[1].grad_norm == pytest.approx(found[0].grad_norm, rel=0.2)


def test_an_overflow_under_fp16_is_left_out_and_scaled_down(compose: Compose) -> None:
    """Catches weights that a step of infinite gradients has changed, a scale that stays too
    large, or is forgotten by a checkpoint; and a run that ends over it."""
    params = compose("trainer.precision=fp16")
    run, batch = params.runs["sigma_mlp"], batch_of(params, 8)
    engine = engine_of(run, params)
    engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [p.detach().clone() for p in engine.core.parameters()]
    result = step(engine, batch, run, rate=1e-3)
    assert not math.isfinite(result.grad_norm)
    assert is_finite(result, engine)
    changed = [not torch.equal(a, b) for a, b in zip(before, engine.core.parameters(), strict=True)]
    assert sum(changed) <= 1  # the prototypes, which were brought to length one
    while not math.isfinite(result.grad_norm):
        result = step(engine, batch, run, rate=1e-3)
    assert any(not torch.equal(a, b) for a, b in zip(before, engine.core.parameters(), strict=True))
    other = engine_of(run, params)
    other.load_full_state(engine.full_state())
    assert other.scaler.get_scale() == engine.scaler.get_scale() < 2.0**40


def test_the_average_follows_the_weights(compose: Compose) -> None:
    """Catches an average that stays behind, runs ahead, or is not what is given out in the end."""
    params = compose("trainer.ema=0.5")
    run, batch = params.runs["pixel"], batch_of(params, 8)
    engine = engine_of(run, params)
    expected = {name: p.detach().clone() for name, p in engine.core.named_parameters()}
    for number in range(1, 9):
        step(engine, batch, run, rate=1e-3)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, p in engine.core.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach()
    torch.testing.assert_close(engine.full_weights(averaged=True), expected)
    assert not torch.equal(engine.core.mask_token, expected["mask_token"])


@pytest.mark.system
def test_compiled_blocks_give_the_same_step(compose: Compose) -> None:
    """Catches a switch that does nothing, and compiled code that computes something else."""
    found = []
    for compiled in (False, True):
        params = compose(f"trainer.compile={compiled}")
        run = params.runs["sigma_mlp"]
        engine = engine_of(run, params)
        found.append(step(engine, batch_of(params, 8), run))
        blocks = (*engine.core.encoder.blocks, *engine.core.decoder.blocks)
        assert all((block._compiled_call_impl is not None) == compiled for block in blocks)
    assert found[1].loss == pytest.approx(found[0].loss, rel=1e-5)
    assert found[1].grad_norm == pytest.approx(found[0].grad_norm, rel=1e-4)


@pytest.mark.parametrize(("name", "share"), [("sigma_mlp", 0.8), ("pixel", 0.93)])
def test_a_batch_can_be_learned(compose: Compose, name: str, share: float) -> None:
    """Catches gradients that do not reach the weights, or that point uphill."""
    params = compose()
    run = params.runs[name]
    engine, batch = engine_of(run, params), batch_of(params, 8)
    losses = [step(engine, batch, run, rate=3e-3).loss for _ in range(60)]
    assert losses[-1] < share * losses[0]
