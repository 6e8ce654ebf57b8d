"""Retrieval: against a ranking made clip by clip, at its limits, and as a stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import restrict
from pipeline.errors import UserError
from pipeline.evaluation import features, stage
from pipeline.evaluation.recognition.task import Labelled
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.evaluation.retrieval import run
from pipeline.evaluation.retrieval.table import table
from pipeline.runtime import similarity

from ..conftest import RUN, SIZES
from ..recognition.problems import problem, shuffled

K = (1, 5, 10, 20, 50)


def clips(prefix: str, values: np.ndarray[Any, Any], truth: list[int]) -> Labelled:
    """Features (n, D) of clips as they are given to a benchmark, in one view each."""
    ids = np.array([f"{prefix}{number:02d}" for number in range(len(values))])
    return Labelled(ids, values.astype(np.float32)[:, None], np.array([*map(str, truth)]))


def places_one_by_one(queries: Labelled, gallery: Labelled, depth: int) -> list[int]:
    """Rank the gallery for each query with Python's own sums and sort; equals by their ids."""
    places = []
    for query, name in zip(queries.features[:, 0].tolist(), queries.truth, strict=True):
        ranked = []
        for clip, row, its in zip(
            gallery.ids, gallery.features[:, 0].tolist(), gallery.truth, strict=True
        ):
            length = math.hypot(*query) * math.hypot(*row)
            cosine = math.fsum(a * b for a, b in zip(query, row, strict=True)) / (length or 1)
            ranked.append((-round(cosine, 9), str(clip), str(its)))
        classes = [its for _, _, its in sorted(ranked)]
        first = classes.index(str(name)) if name in classes else depth
        places.append(min(first, depth))
    return places


# Small whole numbers: equal and opposite directions, and zeros, are frequent.
rows = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
labelled = st.lists(st.tuples(rows, st.integers(0, 3)), min_size=1, max_size=14)


@settings(max_examples=200)
@given(labelled, labelled, st.integers(1, 20), st.randoms())
def test_places_are_those_of_a_ranking_clip_by_clip(
    asked: list[tuple[list[int], int]],
    known: list[tuple[list[int], int]],
    depth: int,
    random: Any,
) -> None:
    """Catches another distance, a class that is found where it is not, and equally near clips whose
    order depends on where they lie in the gallery."""
    queries = clips("q", np.array([row for row, _ in asked]), [name for _, name in asked])
    gallery = clips("g", np.array([row for row, _ in known]), [name for _, name in known])
    order = list(range(len(known)))
    random.shuffle(order)
    mixed = Labelled(gallery.ids[order], gallery.features[order], gallery.truth[order])
    expected = places_one_by_one(queries, gallery, depth)
    assert run.first_hits(queries, gallery, depth).tolist() == expected
    assert run.first_hits(queries, mixed, depth).tolist() == expected


def test_a_planted_signal_is_found_and_shuffled_labels_give_chance() -> None:
    """Catches queries compared with other clips' labels, and a chance of another gallery."""
    asked = problem(6.0, sizes={"train": 300, "val": 0, "test": 400})
    assert [row["recall"] for row in run.rows(asked, K)] == [1.0] * len(K)
    noise = [
        [row["recall"] for row in run.rows(broken, K)]
        for seed in range(20)
        for broken in [type(asked)(**{**vars(asked), "train": shuffled(asked.train, seed)})]
    ]
    expected = [row["chance"] for row in run.rows(asked, K)]
    assert np.mean(noise, axis=0) == pytest.approx(expected, abs=0.03)


def test_chance_is_that_of_random_galleries() -> None:
    """Catches drawing with replacement, and classes taken for equally frequent."""
    gallery = np.array([*"aaaaaaabbc"])
    queries = np.array([*"abcx"])
    rng = np.random.default_rng(0)
    for k in (1, 3, 10, 50):
        hits = [
            np.mean([name in rng.permutation(gallery)[:k] for name in queries]) for _ in range(4000)
        ]
        assert run.chance(queries, gallery, k) == pytest.approx(np.mean(hits), abs=0.02)
    assert run.chance(queries, gallery, 1) == pytest.approx((0.7 + 0.2 + 0.1 + 0) / 4)
    assert run.chance(queries, gallery, 50) == 0.75  # no train clip is of class x


def test_a_query_knows_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a statistic of the test split, lengths that count, and a result that depends on how
    many queries are compared at a time."""
    asked = problem(1.0)
    places = run.first_hits(asked.test, asked.train, 50)
    few = np.arange(len(asked.test.ids)) % 7 == 0
    assert (run.first_hits(asked.test.take(few), asked.train, 50) == places[few]).all()
    scale = np.random.default_rng(1).uniform(0.1, 10, (len(asked.test.ids), 1, 1))
    scaled = Labelled(asked.test.ids, asked.test.features * scale, asked.test.truth)
    assert (run.first_hits(scaled, asked.train, 50) == places).all()
    for block in (1, 3, 1000):
        monkeypatch.setattr(similarity, "BLOCK", block)
        assert (run.first_hits(asked.test, asked.train, 50) == places).all()


@pytest.fixture
def retrieve(score: Callable[..., dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Score the run's features, as far as recognition has written them."""
    return lambda: score("retrieval", k=[5, 1, 5])


def test_features_are_those_of_recognition(
    params: Params, retrieve: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches clips that are decoded or encoded a second time, a census that leaves out lost clips
    or those without a label, and features of other weights."""
    layout = RunLayout(params.name, RUN)
    with pytest.raises(UserError, match=f"evaluate --run {RUN}"):
        retrieve()
    stage.run(BENCHMARKS["evaluation"], restrict(params, "evaluate", RUN), RUN)
    monkeypatch.setattr(features, "extract", None)
    body = retrieve()
    assert [(row["label"], row["k"]) for row in body["scores"]] == [("colour", 1), ("colour", 5)]
    row = body["scores"][0]
    assert row["recall"] > 0.8 > 0.4 > row["chance"]
    assert row["scored"] == SIZES["test"] - 1
    assert row["of"] == SIZES["test"] + 1
    assert row["missing"] == ["lost-test"]
    assert row["unlabelled_clips"] == 1
    shown = table({RUN: body, "other": {}})
    assert shown is not None
    assert [column.title for column in shown.columns] == ["R@1", "R@5"]
    assert shown.runs[0].values[0] == 100 * row["recall"]
    assert shown.runs[0].scored == f"{row['scored']} of {row['of']}"
    assert shown.runs[1].values == (None, None)
    group, name, value = next(BENCHMARKS["retrieval"].metrics(body))
    assert (group, name, value) == ("retrieval", "colour_r1", row["recall"])

    content = layout.features.read_bytes()
    layout.features.write_bytes(content + b"\0")
    with pytest.raises(UserError, match=f"evaluate --run {RUN}"):
        retrieve()


def test_without_a_label_there_is_a_reason(
    params: Params, retrieve: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a benchmark that ends the chain, or says nothing, where there is nothing to ask."""
    stage.run(BENCHMARKS["evaluation"], restrict(params, "evaluate", RUN), RUN)
    known = run.extracted.read

    def without_labels(job: Any) -> Any:
        found = known(job)
        return type(found)(**{**vars(found), "labels": {clip: {} for clip in found.labels}})

    monkeypatch.setattr(run.extracted, "read", without_labels)
    body = retrieve()
    assert body["scores"] == []
    ((label, reason),) = [(note["label"], note["reason"]) for note in body["skipped"]]
    assert label == "colour"
    assert "no clip has a label" in reason
