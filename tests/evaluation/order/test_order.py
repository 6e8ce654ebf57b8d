"""The test of order: features that know time, features that do not, and as a stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import LinearProbe, Params
from pipeline.evaluation.altered import ORDERS
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.order import run
from pipeline.evaluation.order.table import table
from pipeline.evaluation.recognition import linear, task
from pipeline.evaluation.recognition.extracted import Extracted
from pipeline.evaluation.recognition.task import Task
from pipeline.evaluation.recognition.variants import some, top1_of
from pipeline.runtime.files import read_json

from ..conftest import RUN, SIZES
from ..recognition.problems import problem

PROBE = LinearProbe(inverse_regularisation=(0.1, 1.0), max_iterations=500)


def part(asked: Task, values: np.ndarray[Any, Any]) -> SplitFeatures:
    return SplitFeatures(tuple(map(str, asked.test.ids)), values.astype(np.float32))


def test_each_order_is_scored_by_the_probe_of_clips_in_order() -> None:
    """Catches features of one order taken for another's, and clips that are mixed up (rows come in
    another order than the test clips)."""
    asked = problem(4.0)
    plain = asked.test.features
    altered = {
        "reversed": part(asked, -plain),
        "shuffled": part(asked, plain),
        "still": part(asked, plain * 0),
    }
    back = altered["shuffled"]
    altered["shuffled"] = SplitFeatures(back.ids[::-1], back.values[::-1])
    shares = dict(zip(("in_order", *altered), top1_of(asked, altered, PROBE), strict=True))
    alone = linear.predict(asked, PROBE)
    assert shares["in_order"] == np.mean(alone.ranking[:, 0] == asked.test.truth) > 0.9
    assert shares["shuffled"] == shares["in_order"]
    assert shares["reversed"] < 0.2
    assert shares["still"] == 0.25  # one answer for all


def both_ways(shift: float, seed: int = 0) -> tuple[Extracted, dict[str, SplitFeatures]]:
    """Features of 200 train and 100 test clips; backward they are moved by `shift`."""
    rng = np.random.default_rng(seed)
    plain, altered = {}, {}
    for split, count in (("train", 200), ("test", 100)):
        ids = tuple(f"{split}-{k}" for k in range(count))
        values = rng.normal(size=(count, 2, 6)).astype(np.float32)
        moved = values + np.float32(shift) * np.eye(6, dtype=np.float32)[0]
        plain[split] = SplitFeatures(ids, values)
        name = run.BACKWARD if split == "train" else "reversed"
        altered[name] = SplitFeatures(ids[::-1][:80], moved[::-1][:80])
    return Extracted(plain, {}, {}, "test", {}, "{}"), altered


def test_direction_is_found_where_features_have_it() -> None:
    """Catches a clip and its other half on both sides of a choice, and truths that are exchanged:
    without a difference the answer must be a guess."""
    shares = []
    for shift in (6.0, 0.0):
        asked = run.direction(*both_ways(shift))
        assert isinstance(asked, Task)
        assert len(asked.train.ids) == len(asked.test.ids) == 160
        held = task.held_out(asked.train)
        for way in ("forward", "backward"):
            assert (held[asked.train.truth == way] == held[:80]).all()
        ranking = linear.predict(asked, PROBE).ranking
        shares.append(np.mean(ranking[:, 0] == asked.test.truth))
    assert shares[0] > 0.97
    assert shares[1] == 0.5  # the same features both ways: right once of twice


def test_direction_learns_of_the_same_clips_always() -> None:
    """Catches a choice of train clips that depends on their order or number."""
    ids = [f"clip {k}" for k in range(100)]
    chosen = some(ids, 30)
    assert len(chosen) == 30
    assert some(ids[::-1], 30) == chosen
    rest = [clip for clip in ids if clip in chosen or clip < "clip 50"]
    assert some(rest, 30) == chosen
    assert some(ids, None) == set(ids) == some(ids, 1000)


@pytest.fixture
def ordered(
    params: Params, recognised: None, score: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    plain = {"linear": params.evaluation.linear, "direction_clips": 16, "seed": 0}
    return lambda **changes: score("order", **{**plain, **changes})


def test_a_stage_scores_all_orders_and_reuses_its_features(
    params: Params,
    ordered: Callable[..., dict[str, Any]],
    computed: list[int],
) -> None:
    """Catches a probe unlike recognition's, lost clips that are forgotten, features in order that
    are computed anew, and altered ones that a new setting of the probe computes anew."""
    body = ordered()
    assert sorted(computed) == [SIZES["test"], SIZES["test"], SIZES["test"], 16]
    kinds = [(row["label"], row["frames"]) for row in body["scores"]]
    assert kinds == [
        ("colour", "in_order"),
        *(("colour", o) for o in ORDERS),
        ("direction", "both_ways"),
    ]
    evaluated = read_json(RunLayout(params.name, RUN).result("evaluation"))
    (probe,) = (row for row in evaluated["scores"] if row["probe"] == "linear")
    first, *_, last = body["scores"]
    assert first["top1"] == probe["top1"]
    assert (first["scored"], first["of"]) == (probe["scored"], probe["of"])
    assert (last["scored"], last["of"], last["train_clips"]) == (
        SIZES["test"],
        SIZES["test"] + 1,
        16,
    )
    assert last["missing"] == ["lost-test"]
    shown = table({RUN: body, "other": {}})
    assert shown is not None
    assert [c.title for c in shown.columns] == ["in order", *ORDERS, "both ways"]

    computed.clear()
    probe_again = {"solver": "lbfgs", "inverse_regularisation": [1.0], "max_iterations": 50}
    ordered(linear=probe_again)
    assert computed == []
    ordered(seed=1)
    assert len(computed) == 4
