"""Heads trained on frozen inputs: the linear probe by gradient descent, and the attentive probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import AttentiveProbe, Params, TrainedLinearProbe
from pipeline.data.shards.index import DatasetIndex
from pipeline.evaluation import metrics
from pipeline.evaluation.clips import Clips, VideoClips
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition import attentive, heads, task
from pipeline.evaluation.recognition.heads import Arrays, HeadTrainer, Inputs, LinearHead
from pipeline.evaluation.recognition.task import Prediction, Task
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Tokens
from pipeline.runtime.checkpoints import Resumption
from pipeline.weights import hub

from ..conftest import RUN, SIZES
from .problems import problem, shuffled

LINEAR = TrainedLinearProbe(
    solver="adamw",
    rates=(0.1, 0.00001),
    epochs=15,
    warmup_epochs=1,
    batch_size=50,
    weight_decay=0.01,
    batch_norm=True,
)
ATTENTIVE = AttentiveProbe(
    solver="adamw",
    rates=(0.05,),
    epochs=30,
    warmup_epochs=1,
    batch_size=40,
    weight_decay=0.01,
    heads=2,
    mlp_ratio=2.0,
    store_gib=1.0,
)


def arrays(asked: Task) -> Arrays:
    parts = [part for part in (asked.train, asked.val, asked.test) if part is not None]
    return Arrays.of(*((part.ids.tolist(), part.features) for part in parts))


def linear(asked: Task, folder: Path, settings: TrainedLinearProbe = LINEAR) -> Prediction:
    def build(classes: int) -> nn.Module:
        return LinearHead(asked.train.features.shape[-1], classes, settings.batch_norm)

    return HeadTrainer(settings, build, arrays(asked), Resumption(folder)).predict(asked)


def tokens_problem(seed: int = 0) -> tuple[Task, Inputs]:
    """Tokens (V=1, N=32, D=16) of noise, of which one, anywhere, tells the class by its direction.

    In the mean over tokens it is hidden in part.
    """
    rng = np.random.default_rng(seed)
    directions = np.eye(16)[:4] * 12
    found, labels, parts = {}, {}, []
    for split, n in {"train": 400, "val": 60, "test": 120}.items():
        truth = np.arange(n) % 4
        values = rng.normal(size=(n, 1, 32, 16))
        values[np.arange(n), 0, rng.integers(0, 32, n)] += directions[truth]
        ids = tuple(f"{split}-{k}" for k in range(n))
        found[split] = SplitFeatures(ids, values.mean(2).astype(np.float32))
        labels |= {clip: {"kind": f"class {k}"} for clip, k in zip(ids, truth, strict=True)}
        parts.append((ids, values.astype(np.float16)))
    asked = task.build("kind", labels, found)
    assert isinstance(asked, Task)
    return asked, Arrays.of(*parts)


def attend(asked: Task, inputs: Inputs, folder: Path) -> Prediction:
    def build(classes: int) -> nn.Module:
        return attentive.AttentiveHead(16, classes, ATTENTIVE.heads, ATTENTIVE.mlp_ratio)

    return HeadTrainer(ATTENTIVE, build, inputs, Resumption(folder)).predict(asked)


def top1(asked: Task, answer: Prediction) -> float:
    return metrics.top_k(answer.ranking, asked.test.truth, 1)


@pytest.mark.parametrize("solver", ["adamw", "sgd"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_linear_finds_a_planted_signal_and_no_other(
    tmp_path: Path, solver: Any, batch_norm: bool
) -> None:
    """Catches a probe that does not learn, and one that sees the answers."""
    rates = (0.1,) if solver == "adamw" else (1.0,)
    settings = LINEAR.model_copy(
        update={"solver": solver, "batch_norm": batch_norm, "rates": rates}
    )
    asked = problem(6.0)
    assert top1(asked, linear(asked, tmp_path / "a", settings)) > 0.95
    blind = replace(asked, train=shuffled(asked.train, 3))
    assert abs(top1(asked, linear(blind, tmp_path / "b", settings)) - 0.25) < 0.15


def test_batch_norm_takes_features_of_any_scale(tmp_path: Path) -> None:
    """Catches a normalisation that is not there, or that learns from test clips: features of a
    thousandth of the scale give the same answers, whatever test clips stand beside."""
    asked = problem(3.0)
    whole = linear(asked, tmp_path / "a")
    parts = [
        replace(part, features=part.features * np.float32(1e3))
        for part in (asked.train, asked.val, asked.test)
        if part is not None
    ]
    scaled = linear(replace(asked, train=parts[0], val=parts[1], test=parts[2]), tmp_path / "b")
    assert scaled.ranking[:, 0].tolist() == whole.ranking[:, 0].tolist()
    alone = replace(asked, test=asked.test.take(np.arange(len(asked.test.ids)) < 3))
    np.testing.assert_allclose(linear(alone, tmp_path / "c").scores, whole.scores[:3], atol=1e-5)


def test_val_chooses_the_rate(tmp_path: Path) -> None:
    """Catches the first rate being taken, and the choice being made on test clips."""
    asked = problem(2.0)
    chosen = linear(asked, tmp_path / "a", LINEAR.model_copy(update={"rates": (1e-5, 0.1)})).chosen
    assert chosen["chosen_on"] == "val"
    assert chosen["rate"] == 0.1
    assert chosen["tried"][0][1] < chosen["tried"][1][1]  # type: ignore[index]
    unseen = replace(asked, test=shuffled(asked.test, 1))
    again = linear(unseen, tmp_path / "b", LINEAR.model_copy(update={"rates": (1e-5, 0.1)}))
    assert again.chosen == chosen
    held = linear(replace(asked, val=None), tmp_path / "c").chosen
    assert held["chosen_on"] == "held-out train clips"
    assert held["fitted_on"] == "train"


def test_attention_finds_what_the_mean_hides(tmp_path: Path) -> None:
    """Catches a probe that pools without attending, one that does not learn, and one that sees the
    answers: the class is told by one token of 32, wherever it is."""
    asked, inputs = tokens_problem()
    answer = attend(asked, inputs, tmp_path / "a")
    assert top1(asked, answer) > 0.85
    assert top1(asked, answer) > top1(asked, linear(asked, tmp_path / "b")) + 0.05
    blind = replace(asked, train=shuffled(asked.train, 2))
    assert abs(top1(asked, attend(blind, inputs, tmp_path / "c")) - 0.25) < 0.15


@pytest.mark.parametrize("probe", ["linear", "attentive"])
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(
    tmp_path: Path, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a resumed head that has lost its optimiser or batch statistics, repeats or skips
    batches, or begins anew."""
    monkeypatch.setattr(heads, "SAVE_EVERY_S", -1.0)
    asked, inputs = tokens_problem()
    short = LINEAR.model_copy(update={"epochs": 2})

    class Failing:
        def batches(self, ids: Sequence[str], size: int) -> Iterator[Tensor]:
            for number, rows in enumerate(
                arrays(asked).batches(ids, size) if probe == "linear" else inputs.batches(ids, size)
            ):
                seen.append(number)
                if len(seen) == stop:
                    raise KeyboardInterrupt
                yield rows

    def build(classes: int) -> nn.Module:
        if probe == "linear":
            return LinearHead(16, classes, True)
        return attentive.AttentiveHead(16, classes, 2, 2.0)

    def ask(folder: str) -> Prediction:
        return HeadTrainer(short, build, Failing(), Resumption(tmp_path / folder)).predict(asked)

    seen: list[int] = []
    stop = -1
    whole = ask("whole")
    total = len(seen)
    seen, stop = [], 10
    with pytest.raises(KeyboardInterrupt):
        ask("resumed")
    seen, stop = [], -1
    resumed = ask("resumed")
    assert len(seen) == total - 9
    assert resumed.scores.tobytes() == whole.scores.tobytes()
    assert resumed.chosen == whole.chosen


def test_nobody_elses_random_numbers_are_touched(tmp_path: Path) -> None:
    """Catches a probe that changes what comes after it."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    linear(problem(1.0, sizes={"train": 40, "val": 20, "test": 20}), tmp_path)
    assert torch.equal(torch.rand(3), expected)


def by_hand(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.asarray(np.log(shares.mean(1)))


def test_views_are_averaged_as_probabilities() -> None:
    """Catches an average of logits, or over another axis."""
    logits = np.random.default_rng(0).normal(size=(5, 6, 7)) * 3
    np.testing.assert_allclose(metrics.average(logits), by_hand(logits), atol=1e-5)
    assert not np.allclose(
        metrics.average(logits), by_hand(logits.mean(1, keepdims=True)), atol=0.01
    )


@pytest.mark.parametrize("drop", [None, 0.7])
def test_tokens_are_the_same_from_disk_and_from_the_encoder(
    workplace: Path, params: Params, capsys: pytest.CaptureFixture[str], drop: float | None
) -> None:
    """Catches tokens that depend on whether they are kept, rows of other clips, and a limit on the
    disk that is not kept."""
    encoder = hub.load(RunLayout(params.name, RUN).weights).encoder
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(sorted(SIZES))
    splits: dict[str, Clips] = {
        split: VideoClips(
            [e for e in entries if e.split == split], params.data.clip, params.evaluation.views
        )
        for split in SIZES
    }
    ids = [f"train-{k:02d}" for k in (3, 0, 3, 11)]
    make: Callable[[float], Inputs] = lambda gib: attentive.tokens(  # noqa: E731
        Tokens(encoder, drop),
        splits,
        path=Path("tokens"),
        key={},
        options=ExecutionOptions(batch_size=3),
        store_gib=gib,
    )
    computed = list(make(0.0).batches(ids, 3))
    assert "computed for each epoch" in capsys.readouterr().out
    assert not list(Path().glob("tokens*"))
    stored = list(make(1.0).batches(ids, 3))
    assert [len(part) for part in computed] == [len(part) for part in stored] == [3, 1]
    for left, right in zip(computed, stored, strict=True):
        torch.testing.assert_close(left, right, rtol=2e-3, atol=2e-3)
        count = int(encoder.grid.count * (1 - (drop or 0)))
        assert left.shape[1:] == (1, count, encoder.width)
    assert torch.equal(stored[0][0], stored[0][2])
    assert not torch.equal(stored[0][0], stored[0][1])
    assert sum(path.stat().st_size for path in Path().glob("tokens*/*.bin")) > 0
