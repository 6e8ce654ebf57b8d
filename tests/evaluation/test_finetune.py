"""Fine-tuning on a small real data set: it learns, resumes, and mixes clips as it should."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Augmentation, Clip, Finetune, Params, RandAugment, Views
from pipeline.data.load.evaluation_clips import evaluation_batches
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import finetune, finetune_loss, training_clips, views
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.finetune import TrainingSet
from pipeline.evaluation.finetune_loss import Kind, Targets
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pixels import normalise
from pipeline.runtime.checkpoints import Resumption
from pipeline.weights import hub
from pipeline.weights.classifier import Classifier

from .conftest import COLOURS, RUN

ONE = Views(segments=1, crops=1)
PLAIN = Augmentation(
    area=(0.8, 1.0),
    aspect=(1.0, 1.0),
    flip=True,
    repeated=1,
    randaugment=None,
    erasing=0.0,
    mixup=0.0,
    cutmix=0.0,
    mix_probability=0.0,
    switch_probability=0.0,
    label_smoothing=0.0,
)
FULL = PLAIN.model_copy(
    update={
        "repeated": 2,
        "randaugment": RandAugment(operations=2, magnitude=7, deviation=0.5),
        "erasing": 0.5,
        "mixup": 0.8,
        "cutmix": 1.0,
        "mix_probability": 1.0,
        "switch_probability": 0.5,
        "label_smoothing": 0.1,
    }
)
SETTINGS = Finetune(
    epochs=12,
    warmup_epochs=1,
    batch_size=12,
    accumulation=1,
    solver="adamw",
    base_lr=0.1,
    final_lr=1e-6,
    warmup_lr=1e-6,
    betas=(0.9, 0.999),
    weight_decay=0.01,
    frozen=False,
    batch_norm=False,
    layer_decay=0.75,
    drop_path=0.1,
    head_scale=1.0,
    ema=None,
    augmentation=PLAIN,
    sampling="dense",
    views=ONE,
    precision="fp32",
    seed=0,
    checkpoint_every=1000,
)


@pytest.fixture
def splits(workplace: Path, params: Params) -> dict[str, list[ClipEntry]]:
    index = DatasetIndex.load(DataLayout(params.data.name).shards)
    return {
        split: [entry for entry in index.clips([split]) if entry.labels]
        for split in ("train", "test")
    }


def colours(entries: list[ClipEntry], kind: Kind) -> NDArray[Any]:
    """Which colour a clip has, as a class, as labels (two of which may apply), or as numbers."""
    names = [entry.labels["colour"] for entry in entries]
    if kind == "single":
        return np.array([list(COLOURS).index(name) for name in names])
    if kind == "multi":
        return np.array([[name != "blue", name == "red", name != "red"] for name in names], float)
    return np.array([COLOURS[name] for name in names]) / 255


def fit(
    entries: list[ClipEntry], params: Params, kind: Kind = "single", **changes: Any
) -> Classifier:
    train = TrainingSet(entries, params.data.clip, Targets(kind, colours(entries, kind), 3))
    return finetune.fit(
        RunLayout(params.name, RUN).weights,
        train,
        changes.pop("settings", SETTINGS),
        Resumption(Path(changes.pop("folder", "finetune")), label="test"),
        ExecutionOptions(batch_size=1, **changes),
    )


def test_a_deterministic_fine_tuning_is_the_same(
    splits: dict[str, list[ClipEntry]], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a setting that no step sees, an operation of a step that cannot be repeated, one that
    is no reason to begin anew, and a traceback where a step cannot be deterministic."""
    few = SETTINGS.model_copy(update={"epochs": 2, "augmentation": FULL, "drop_tubes": 0.25})
    asked = few.model_copy(update={"deterministic": True})
    assert "deterministic" not in few.model_dump()
    alone, seen, step = fit(splits["train"], params, settings=few), [], finetune._step

    def noted(*arguments: Any) -> float:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(*arguments)

    monkeypatch.setattr(finetune, "_step", noted)
    assert equal(fit(splits["train"], params, settings=asked, folder="repeated"), alone)
    assert set(seen) == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    seen.clear()
    assert equal(fit(splits["train"], params, settings=asked), alone)
    assert not seen  # the last checkpoint of the first is gone on with

    def overwriting(*_: Any) -> float:
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
        return 0.0

    monkeypatch.setattr(finetune, "_step", overwriting)
    with pytest.raises(UserError, match="put_ does not have") as refused:
        fit(splits["train"], params, settings=asked, folder="refused")
    assert refused.value.place == "test: finetune.deterministic"


def equal(left: Classifier, right: Classifier) -> bool:
    theirs = right.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in left.state_dict().items())


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_it_learns_each_kind_of_task(
    splits: dict[str, list[ClipEntry]], params: Params, kind: Kind
) -> None:
    """Catches a loss that does not belong to its task, outputs in another order, and answers that
    are not what they are said to be. Test clips stand in no batch of the training."""
    classifier = fit(splits["train"], params, kind)
    assert not classifier.training
    test = VideoClips(splits["test"], params.data.clip, ONE)
    found = views.predict(classifier, kind, test, ExecutionOptions(batch_size=5))
    truth = colours(splits["test"], kind)
    if kind == "single":
        assert np.mean(found.argmax(1) == truth) > 0.9
        np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)
    elif kind == "multi":
        assert ((found > 0) & (found < 1)).all()
        assert np.mean((found > 0.5) == truth) > 0.9
    else:
        assert np.abs(found - truth).mean() < 0.1  # of the whole scale; means alone: 0.2


def test_everything_switched_on_learns_too(
    splits: dict[str, list[ClipEntry]], params: Params
) -> None:
    """Catches parts of the protocol that do not go together: mixing, repetition, accumulation,
    averaged weights, gradient clipping; and averaged weights that stay at the beginning."""
    settings = SETTINGS.model_copy(
        update={
            "augmentation": FULL,
            "ema": 0.9,
            "accumulation": 2,
            "clip_grad": 1.0,
            "epochs": 20,
            "sampling": "per_segment",
        }
    )
    classifier = fit(splits["train"], params, settings=settings, workers=1)
    test = VideoClips(splits["test"], params.data.clip, ONE)
    found = views.predict(classifier, "single", test, ExecutionOptions(batch_size=64))
    assert np.mean(found.argmax(1) == colours(splits["test"], "single")) > 0.8


def test_a_frozen_encoder_stays_as_it_was(
    splits: dict[str, list[ClipEntry]], params: Params
) -> None:
    """Catches a linear probe that changes the encoder, and one whose head does not learn."""
    settings = SETTINGS.model_copy(
        update={"frozen": True, "batch_norm": True, "base_lr": 0.5, "solver": "sgd"}
    )
    classifier = fit(splits["train"], params, settings=settings)
    pretrained = hub.load(RunLayout(params.name, RUN).weights).encoder.state_dict()
    for name, value in classifier.encoder.state_dict().items():
        assert torch.equal(value, pretrained[name]), name
    test = VideoClips(splits["test"], params.data.clip, ONE)
    found = views.predict(classifier, "single", test, ExecutionOptions(batch_size=4))
    assert np.mean(found.argmax(1) == colours(splits["test"], "single")) > 0.8


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    splits: dict[str, list[ClipEntry]], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a resumed training that differs in any bit (optimiser, averages, order, random
    numbers, loading in workers), and a checkpoint of other settings that is taken up."""
    settings = SETTINGS.model_copy(
        update={"epochs": 3, "checkpoint_every": 2, "augmentation": FULL, "ema": 0.9}
    )
    whole = fit(splits["train"], params, settings=settings, folder="whole")
    steps: list[int] = []
    plain = finetune._step

    def interrupted(*arguments: Any) -> float:
        steps.append(arguments[1].step)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(finetune, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(splits["train"], params, settings=settings, workers=1)
    steps += [-1]
    resumed = fit(splits["train"], params, settings=settings)
    assert steps[steps.index(-1) + 1] == 4
    assert equal(whole, resumed)
    steps += [-1] * 10
    other = settings.model_copy(update={"base_lr": 0.05})
    assert not equal(whole, fit(splits["train"], params, settings=other))
    assert steps[-12] == 0


@pytest.mark.parametrize(("least", "steps", "warmup"), [(0, 15, 5), (15, 15, 5), (45, 45, 15)])
def test_few_clips_are_repeated_until_there_are_enough_steps(
    splits: dict[str, list[ClipEntry]], params: Params, least: int, steps: int, warmup: int
) -> None:
    """Catches ten epochs of a hundred videos, which are too few steps, and no warm-up of more."""
    epochs = {"epochs": 3, "warmup_epochs": 1, "batch_size": 16, "augmentation": FULL}
    settings = SETTINGS.model_copy(update={**epochs, "least_steps": least})
    clips = splits["train"][:1] * 40
    train = TrainingSet(clips, params.data.clip, Targets("single", np.zeros(40), 2))
    assert train.steps(settings) == (steps, warmup)
    assert ("least_steps" in settings.model_dump()) == (least > 0)


def test_targets_are_mixed_as_the_clips_are() -> None:
    """Catches frames of a clip that are mixed or erased differently, targets in other shares than
    the pixels, and regression targets that are mixed at all."""
    clips = torch.zeros(4, 3, 5, 16, 16)
    clips += torch.arange(4.0)[:, None, None, None, None]
    labels = torch.arange(4)
    mix = FULL.model_copy(update={"erasing": 0.0, "label_smoothing": 0.0})
    settings = SETTINGS.model_copy(update={"augmentation": mix})
    seen = set()
    for seed in range(12):
        with training_clips.seeded(seed):
            pixels, target = finetune_loss.mixed(
                clips.clone(), labels, Targets("single", np.arange(4), 4), settings
            )
        assert torch.equal(pixels, pixels[:, :1, :1].expand_as(pixels))  # all frames, all colours
        expected = target @ torch.arange(4.0)
        torch.testing.assert_close(pixels.mean((1, 2, 3, 4)), expected, atol=1e-5, rtol=0)
        seen.add("cutmix" if len(pixels[0].unique()) > 1 else "mixup")
    assert seen == {"cutmix", "mixup"}
    erase = settings.model_copy(update={"augmentation": PLAIN.model_copy(update={"erasing": 1.0})})
    with training_clips.seeded(0):
        pixels, target = finetune_loss.mixed(
            clips.clone(), labels, Targets("regression", np.arange(4.0), 1), erase
        )
    assert torch.equal(target, labels)
    erased = (pixels != clips).any(1)  # per frame
    assert torch.equal(erased, erased[:, :1].expand_as(erased))
    assert erased.flatten(1).any(1).all()
    assert not erased.flatten(1).all(1).any()


def test_smoothed_and_soft_targets() -> None:
    """Catches label smoothing that is left out, or applied twice where mixing has done it."""
    logits = torch.randn(5, 4)
    labels = torch.tensor([0, 3, 2, 1, 1])
    smooth = SETTINGS.model_copy(
        update={"augmentation": PLAIN.model_copy(update={"label_smoothing": 0.2})}
    )
    soft = functional.one_hot(labels, 4) * 0.8 + 0.05
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    for target in (labels, soft):
        torch.testing.assert_close(
            finetune_loss.loss_of(logits, target, "single", smooth), expected
        )


def test_frames_of_a_clip_are_augmented_alike(
    splits: dict[str, list[ClipEntry]], params: Params
) -> None:
    """Catches RandAugment that makes a still clip move, that changes nothing, or that is the same
    for each repetition or epoch; and random numbers of others that are touched."""
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 20, 32, 3), np.uint8), 4, 0)
    policy = RandAugment(operations=2, magnitude=9, deviation=0.5)
    torch.manual_seed(0)
    random.seed(0)
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    made = [training_clips.augmented(still, policy, seed) for seed in range(8)]
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[union-attr]
    for clip in made:
        assert clip.dtype == np.uint8
        assert (clip == clip[:1]).all()
    assert (
        sum((clip != still).any() for clip in made) >= 3
    )  # each operation is done with probability 0.5
    np.testing.assert_array_equal(made[3], training_clips.augmented(still, policy, 3))
    settings = SETTINGS.model_copy(update={"augmentation": FULL})
    steps = training_clips.TrainingSteps(splits["train"], params.data.clip, settings, FrameSource())
    batch = steps[0]
    assert not isinstance(batch, Exception)
    assert batch.indices.tolist() == np.repeat(batch.indices[::2].tolist(), 2).tolist()
    assert len(batch.videos) == settings.batch_size
    differing = (batch.videos[::2] != batch.videos[1::2]).flatten(1).any(1)
    assert differing.float().mean() > 0.8


@pytest.mark.parametrize("views_", [ONE, Views(segments=2, crops=3)])
def test_views_are_tested_one_by_one_and_averaged(
    splits: dict[str, list[ClipEntry]], params: Params, views_: Views
) -> None:
    """Catches views that are dropped or averaged as logits, and answers that depend on the batch or
    change from call to call."""
    torch.manual_seed(0)
    run, _ = hub.read_config(RunLayout(params.name, RUN).weights)
    classifier = Classifier(run.model, params.data.clip, 3, head_scale=40.0).eval()
    entries = splits["test"][:4]
    (batch,) = evaluation_batches(entries, params.data.clip, views_, 4)
    with torch.no_grad():
        logits = [classifier(normalise(view)) for view in batch.videos.unbind(1)]
    expected = torch.stack(logits).softmax(-1).mean(0).log().numpy()
    for size in (1, 7, 64):
        clips = VideoClips(entries, params.data.clip, views_)
        found = views.predict(classifier, "single", clips, ExecutionOptions(batch_size=size))
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_clip_of_another_shape_gives_a_larger_grid(params: Params, workplace: Path) -> None:
    """Catches positions that are wired to the clip of pretraining: they are a function."""
    larger = Clip(frames=8, stride=1, size=16, scales=(1.0,), flip=False)
    learner = finetune.begin(
        RunLayout(params.name, RUN).weights, larger, 3, SETTINGS, torch.device("cpu")
    )
    assert learner.network(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 3)
