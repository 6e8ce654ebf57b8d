"""What a task asks: which clips are learned from, which are scored, and what they stand for."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.schema import SevereTask
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.severe import problem


def entry(clip: str, split: str, **labels: str) -> ClipEntry:
    return ClipEntry(clip, Path("shard.tar"), 0, 1, 8, 8.0, 32, 32, split, labels)


class Listed(DatasetIndex):
    """An index of clips that lie in no file."""

    def clips(self, splits: Any) -> list[ClipEntry]:
        found = (each for each in self.shards if each.split in splits)
        return sorted(found, key=lambda each: each.id)  # type: ignore[attr-defined]


def index(*entries: ClipEntry, lost: tuple[dict[str, str], ...] = ()) -> DatasetIndex:
    return Listed(Path(), "listed", "raw", tuple(entries), {}, {}, lost)  # type: ignore[arg-type]


def task(answer: str = "class", **changes: Any) -> SevereTask:
    metric = {"class": "top1", "classes": "average_precision", "count": "relative_error"}[answer]
    clips = {"kind": "stored", "data": "listed", "label": "kind", **changes.pop("clips", {})}
    body = {"name": "task", "column": "ssv2", "answer": answer, "metric": metric, "clips": clips}
    return SevereTask.model_validate({**body, **changes})


def built(asked: SevereTask, *entries: ClipEntry, **rest: Any) -> problem.Problem:
    found = problem.build(asked, index(*entries, **rest))
    assert isinstance(found, problem.Problem), found
    return found


def test_classes_are_those_of_train_and_others_count_as_wrong() -> None:
    """Test labels that a probe gets to know, and test clips left out because they are hard."""
    found = built(
        task(),
        *(entry(f"train-{k}", "train", kind="ab"[k % 2]) for k in range(4)),
        entry("test-0", "test", kind="b"),
        entry("test-1", "test", kind="new"),
        entry("test-2", "test"),
        entry("val-0", "val", kind="c"),
        lost=({"id": "test-9", "split": "test"}, {"id": "train-9", "split": "train"}),
    )
    assert found.classes == ("a", "b")
    assert found.train.truth.tolist() == [0, 1, 0, 1]
    assert found.test.ids == ["test-0", "test-1"]
    assert found.test.truth.tolist() == [1, -1]
    assert (found.lost, found.unlabelled, found.unseen) == (("test-9",), 1, 1)


def test_several_classes_and_counts() -> None:
    """Spaces that make a class of their own, an empty label that is one, counts as text."""
    found = built(
        task("classes"),
        entry("train-0", "train", kind="x; y"),
        entry("train-1", "train", kind="y;"),
        entry("test-0", "test", kind="z ;x"),
    )
    assert found.classes == ("x", "y", "z")
    assert found.train.truth.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert found.test.truth.tolist() == [[1, 0, 1]]
    assert found.unseen == 1
    counted = built(task("count"), entry("a", "train", kind="3"), entry("b", "test", kind="2.5"))
    assert (counted.train.truth.tolist(), counted.test.truth.tolist()) == ([3.0], [2.5])
    for text in ("0", "-1", "many", "nan", "inf"):
        with pytest.raises(UserError, match="above 0"):
            built(task("count"), entry("a", "train", kind=text), entry("b", "test", kind="1"))


def test_no_clip_is_both_learned_from_and_scored() -> None:
    """A leak by configuration: train and test name one split."""
    with pytest.raises(UserError, match="learns from"):
        built(task(clips={"train": ["train", "val"], "test": ["val"]}), entry("a", "val", kind="x"))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry("a", "train", kind="x")], "no test clip"),
        ([entry("a", "test", kind="x"), entry("b", "train", other="x")], "no train clip"),
        ([entry("a", "train", kind="x"), entry("b", "test", kind="x")], "one class"),
    ],
)
def test_what_cannot_be_asked_is_said(entries: list[ClipEntry], said: str) -> None:
    """A task on a data set without it that stops the seven others."""
    assert said in str(problem.build(task(), index(*entries)))


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
    st.integers(1, 45),
    st.randoms(use_true_random=False),
)
def test_few_labels_are_balanced_and_always_the_same(
    names: list[str], samples: int, order: random.Random
) -> None:
    """A sample that depends on the order of shards, misses a class while another has many, or has
    a clip twice; and one of 10 labels that is not part of the one of 20."""
    entries = [entry(f"clip-{k}", "train", kind=name) for k, name in enumerate(names)]
    chosen = problem.few(entries, "kind", samples, balanced=True)
    mixed = list(entries)
    order.shuffle(mixed)
    assert problem.few(mixed, "kind", samples, balanced=True) == chosen
    assert len({each.id for each in chosen}) == len(chosen) == min(samples, len(entries))
    had, got = Counter(names), Counter(each.labels["kind"] for each in chosen)
    for name, count in had.items():
        others = max(got.values())
        assert got[name] == count or got[name] >= others - 1
    more = problem.few(entries, "kind", samples + 3, balanced=True)
    assert {each.id for each in chosen} <= {each.id for each in more}


def test_few_of_several_classes_are_drawn_without_looking_at_them() -> None:
    """Rare combinations of labels that get as many clips as the common ones."""
    entries = [entry(f"clip-{k}", "train", kind=f"{k};x") for k in range(30)]
    renamed = [entry(f"clip-{k}", "train", kind="x") for k in range(30)]
    first = problem.few(entries, "kind", 10, balanced=False)
    assert [e.id for e in first] == [e.id for e in problem.few(renamed, "kind", 10, balanced=False)]
    assert len(first) == 10
    assert not np.array_equal([e.id for e in first], sorted(e.id for e in entries)[:10])
