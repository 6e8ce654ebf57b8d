"""Numbers read from features: known truths, planted signals, and the stage on two data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import restrict
from pipeline.data import synthetic
from pipeline.evaluation import stage
from pipeline.evaluation.readouts.probe import Answer, Asked, Readout
from pipeline.evaluation.readouts.quantities import Quantity, centre, of_columns, of_embedded
from pipeline.evaluation.readouts.settings import Readouts
from pipeline.evaluation.readouts.table import table
from pipeline.evaluation.recognition.attentive import AttentiveHead
from pipeline.evaluation.recognition.heads import Arrays, HeadTrainer
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.runtime.checkpoints import Resumption
from pipeline.runtime.files import read_json

from ..conftest import EMBEDDED, RUN
from ..recognition.test_heads import ATTENTIVE

PROBE = ATTENTIVE.model_copy(update={"rates": (0.000001, 0.05)})
BRIEF = PROBE.model_copy(update={"epochs": 2, "warmup_epochs": 0, "batch_size": 4})


def read_planted(
    folder: Path, *, circular: bool, shuffle: bool = False, val: bool = True
) -> Answer:
    """Ask for a number that one token of 16, anywhere, holds among noise."""
    rng = np.random.default_rng(0)
    sizes = {"train": 400, "val": 60 if val else 0, "test": 100}
    ids = {split: [f"{split}-{k}" for k in range(n)] for split, n in sizes.items()}
    tokens, truth = {}, {}
    for clip in (clip for names in ids.values() for clip in names):
        number = rng.random(1)
        tokens[clip] = 0.1 * rng.normal(size=(1, 16, 8)).astype(np.float32)
        signal = [np.cos(2 * np.pi * number[0]), np.sin(2 * np.pi * number[0])]
        tokens[clip][0, rng.integers(16), :3] += [*(signal if circular else [number[0], 1.0]), 1.0]
        truth[clip] = number
    if shuffle:
        order = rng.permutation(sizes["train"])
        mixed = [truth[ids["train"][k]] for k in order]
        truth |= dict(zip(ids["train"], mixed, strict=True))

    def build(outputs: int) -> nn.Module:
        return AttentiveHead(8, outputs, PROBE.heads, PROBE.mlp_ratio)

    trainer = HeadTrainer(PROBE, build, Arrays(tokens.__getitem__), Resumption(folder))
    asked = Asked(ids["train"], ids["val"], ids["test"])
    return Readout(Quantity("number", truth, circular), trainer).ask(asked)


@pytest.mark.parametrize("circular", [True, False])
def test_a_planted_number_is_read_and_no_other(tmp_path: Path, circular: bool) -> None:
    """Catches a probe that does not learn, one that sees the answers, the worst rate taken for the
    best, and a number that is scaled on its way back."""
    answer = read_planted(tmp_path / "a", circular=circular)
    assert answer.chosen["rate"] == 0.05
    assert answer.chosen["chosen_on"] == "val"
    assert answer.of_mean.mean() == pytest.approx(0.25, abs=0.04)  # of uniform numbers
    assert answer.errors.mean() < 0.5 * answer.of_mean.mean()
    blind = read_planted(tmp_path / "b", circular=circular, shuffle=True)
    assert blind.errors.mean() > 0.85 * blind.of_mean.mean()


def test_without_val_a_part_of_train_chooses(tmp_path: Path) -> None:
    """Catches a rate that test clips choose, and a final probe of a part of train."""
    answer = read_planted(tmp_path, circular=False, val=False)
    assert answer.chosen["chosen_on"] == "held-out train clips"
    assert answer.chosen["rate"] == 0.05
    assert answer.errors.mean() < 0.5 * answer.of_mean.mean()


def test_circles_have_no_ends_and_lines_have() -> None:
    """Catches a way around that is the long one, and x taken for y. By hand."""
    truth = {"a": np.array([0.95, 0.5]), "b": np.array([0.1, 0.2])}
    answer = {"a": np.array([0.05, 0.5]), "b": np.array([0.4, 0.6])}
    on_circles = Quantity("position", truth, circular=True)
    predicted = Quantity("position", answer, circular=True).encode("ab")
    assert on_circles.errors(3 * predicted, "ab") == pytest.approx([0.1, 0.5])
    assert Quantity("p", truth).errors(np.stack(list(answer.values())), "ab") == pytest.approx(
        [0.9, 0.5]
    )


def test_a_centre_is_where_the_mask_is_across_the_edge_too() -> None:
    """Catches rows taken for columns, and a mean of both ends in the middle."""
    mask = np.zeros((20, 40), bool)
    mask[4:8, 10:20] = True
    assert centre(mask) == pytest.approx([15 / 40, 6 / 20])
    assert centre(np.roll(mask, -15, axis=1)) == pytest.approx([0.0, 6 / 20], abs=1e-9) or (
        centre(np.roll(mask, -15, axis=1))[0] == pytest.approx(1.0)
    )


def test_the_embedded_datas_numbers_are_those_of_its_scenes(embedded_params: Params) -> None:
    """Catches another unit or frame: speeds lie in what is configured, sizes below the digit's."""
    settings = embedded_params.data.synthetic
    assert settings is not None
    ids = [f"train-{k:05d}" for k in range(24)]
    position, speed, size = of_embedded(ids, settings, embedded_params.data.clip)
    moves = [clip for clip in ids if speed.truth[clip][0] * settings.size > 1]
    assert len(moves) >= 12  # all but those that grow and shrink
    fastest = settings.speed[1] * (1 + settings.acceleration)
    for clip in ids:
        assert 0 <= speed.truth[clip][0] * settings.size < 1.1 * fastest
        assert 0.1 < size.truth[clip][0] < settings.digit_size[1] / settings.size
        assert ((position.truth[clip] >= 0) & (position.truth[clip] < 1)).all()


def test_numbers_are_of_the_frames_that_are_seen(embedded_params: Params) -> None:
    """Catches truths of other frames than the encoder's, and a speed per sampled frame: of frames
    of the whole video the digit is as fast, and elsewhere."""
    settings, clip = embedded_params.data.synthetic, embedded_params.data.clip
    assert settings is not None
    clip = clip.model_copy(update={"frames": 4})
    ids = [f"train-{k:05d}" for k in range(24)]
    dense = of_embedded(ids, settings, clip)
    spread = of_embedded(ids, settings, clip.model_copy(update={"sampling": "per_segment"}))
    whole = of_embedded(ids, settings, clip.model_copy(update={"frames": settings.frames}))
    for name in ids:
        masks = synthetic.render(settings, *synthetic.parse_id(name)).masks > 0
        for part, middle in ((dense, 5), (spread, 6)):  # of frames 3 4 5 6, and of 1 3 6 8
            assert part[0].truth[name] == pytest.approx(centre(masks[middle]))
        assert spread[1].truth[name] <= 1.01 * whole[1].truth[name]  # a straight line is shorter
    ratios = [
        float(spread[1].truth[name][0] / whole[1].truth[name][0])
        for name in ids
        if whole[1].truth[name][0] * settings.size > 1
    ]
    assert 0.8 < np.median(ratios) <= 1.01


def test_a_column_is_read_where_it_holds_a_number() -> None:
    """Catches a text taken for 0, and a missing one for nothing to be counted."""
    labels = {"a": {"age": "3.5"}, "b": {"age": "old"}, "c": {}, "d": {"age": "nan"}}
    (age,) = of_columns(["age"], labels)
    assert {clip: value.tolist() for clip, value in age.truth.items()} == {"a": [3.5]}


@pytest.fixture
def read_out(embedded: Path, embedded_params: Params) -> Callable[..., dict[str, Any]]:
    """The stage, after recognition, on the embedded data."""

    def run(batch_size: int = 64, **changes: Any) -> dict[str, Any]:
        values = {"embedded": True, "columns": [], "attentive": BRIEF, **changes}
        settings = Readouts.model_validate(values)
        evaluation = embedded_params.evaluation.model_copy(
            update={"batch_size": batch_size, "attentive": None, "finetune": None}
        )
        params = embedded_params.model_copy(
            update={"benchmarks": {"readouts": settings}, "evaluation": evaluation}
        )
        stage.run(BENCHMARKS["evaluation"], restrict(params, "evaluate", RUN), RUN)
        stage.run(BENCHMARKS["readouts"], restrict(params, "read_out", RUN), RUN)
        body: dict[str, Any] = read_json(RunLayout(params.name, RUN).result("readouts"))
        return body

    return run


def test_the_stage_reads_all_numbers_under_any_batch(
    embedded_params: Params, read_out: Callable[..., dict[str, Any]]
) -> None:
    """Catches a quantity that is left out without a word, errors that depend on the batch in which
    tokens were computed, clips that are not counted, and work that is left behind."""
    body = read_out(columns=["digit", "motion"])
    names = ["position", "speed", "size", "digit"]
    assert [row["quantity"] for row in body["scores"]] == names
    assert [note["label"] for note in body["skipped"]] == ["motion"]
    for row in body["scores"]:
        assert (row["scored"], row["of"]) == (EMBEDDED["test"],) * 2
        assert row["train_clips"] == EMBEDDED["train"]
        assert row["error"] > 0
        assert row["of_mean"] > 0
    assert not RunLayout(embedded_params.name, RUN).work("readouts").exists()
    other = read_out(batch_size=3, columns=["digit", "motion"])
    errors = [[row["error"] for row in each["scores"]] for each in (body, other)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)
    shown = table({RUN: body, "other": {}})
    assert shown is not None
    assert [column.title for column in shown.columns] == names
    assert shown.runs[0].values == tuple(row["error"] for row in body["scores"])
    assert shown.runs[1].values == (None,) * 4
    assert [name for _, name, _ in BENCHMARKS["readouts"].metrics(body)] == names
