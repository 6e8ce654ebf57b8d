"""Which clips a probe gets, and the reasons for those it does not get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.configuration.schema import LinearProbe, NearestNeighbours
from pipeline.evaluation import knn, linear, task
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition import Probe, Results, probe_all
from pipeline.evaluation.task import Task

LINEAR = LinearProbe(inverse_regularisation=(0.1, 1.0), max_iterations=100)
PROBES: dict[str, Probe] = {
    "linear": lambda asked: linear.predict(asked, LINEAR),
    "knn": lambda asked: knn.predict(asked, NearestNeighbours(k=(3,), temperature=0.07)),
}
Truth = dict[str, list[str]]  # split -> the label of each clip, "" where it has none


def data_set(truth: Truth) -> tuple[dict[str, dict[str, str]], dict[str, SplitFeatures]]:
    """Return labels by clip and features by split: two columns that give classes a and b away."""
    labels, features = {}, {}
    for split, names in truth.items():
        ids = tuple(f"{split}-{k}" for k in range(len(names)))
        rows = [[name == "a", name == "b", 0.1 * k] for k, name in enumerate(names)]
        features[split] = SplitFeatures(
            ids, np.array(rows, dtype=np.float32).reshape(len(ids), 1, 3)
        )
        found = zip(ids, names, strict=True)
        labels |= {clip: {"kind": name} if name else {} for clip, name in found}
    return labels, features


def probe(truth: Truth, lost: dict[str, str] | None = None) -> Results:
    labels, features = data_set(truth)
    return probe_all(("kind",), labels, features, lost or {}, PROBES)


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        ({"train": ["", ""], "test": [""]}, "no clip has a label 'kind'"),
        ({}, "no clip has a label 'kind'"),
        ({"train": ["a", "b"]}, "there is no clip in split 'test'"),
        ({"test": ["a", "b"]}, "there is no clip in split 'train'"),
        ({"train": ["a", "b"], "test": ["", ""]}, "no clip of split 'test' has a label 'kind'"),
        ({"train": ["", ""], "test": ["a", "b"]}, "no clip of split 'train' has a label 'kind'"),
        ({"train": ["a", "a"], "test": ["a", "b"]}, "are of one class, 'a'"),
        ({"train": ["a", "b"], "test": ["c", "d"]}, "train has none of the classes"),
    ],
)
def test_a_probe_that_cannot_be_run_says_why(truth: Truth, reason: str) -> None:
    """Catches a crash, a silent gap, or a meaningless score where labels or splits are missing."""
    results = probe(truth)
    assert [(note.probe, note.clips) for note in results.skipped] == [("linear", 0), ("knn", 0)]
    assert all(reason in note.reason for note in results.skipped)
    assert results.scores == results.details == results.answers == []


def test_every_test_row_is_accounted_for() -> None:
    """Catches scores that hide lost clips, clips without a label, or classes train lacks."""
    truth = {"train": ["a", "b", "", "a", "b"], "test": ["a", "b", "", "c", "a"]}
    lost = {"z": "test", "y": "test", "x": "train"}
    results = probe(truth, lost)
    assert [score.probe for score in results.scores] == ["linear", "knn"]
    for score in results.scores:
        assert score.missing == ["y", "z"]
        assert (score.scored, score.missing_clips, score.unlabelled_clips) == (4, 2, 1)
        assert score.of == 7 == score.scored + score.missing_clips + score.unlabelled_clips
        assert (score.classes, score.chance, score.train_clips) == (2, 0.5, 4)
        assert score.unseen_clips == 1
        assert score.top1 == 0.75  # all but the clip of class c, which counts as wrong
    counts = [(note.clips, note.reason) for note in results.skipped if note.probe == "knn"]
    assert [clips for clips, _ in counts] == [1, 1, 1]
    assert "split 'train' have no label" in counts[0][1]
    assert "split 'test' have no label" in counts[1][1]
    assert "train does not have" in counts[2][1]
    (detail,) = results.details
    assert detail["classes"] == ["a", "b", "c"]
    assert detail["confusion"][2][2] == 0
    assert sum(map(sum, detail["confusion"])) == 4
    assert [len(answer.ranking) for *_, answer in results.answers] == [4, 4]


def test_val_without_labels_does_not_choose() -> None:
    """Catches a choice of C on no clips at all."""
    labels, features = data_set({"train": ["a", "b"] * 5, "val": ["", ""], "test": ["a", "b"]})
    asked = task.build("kind", labels, features)
    assert isinstance(asked, Task)
    assert asked.val is None
    assert asked.unlabelled == {"val": 2}


def test_labels_and_features_stay_together() -> None:
    """Catches rows that shift where clips without a label are left out."""
    labels, features = data_set({"train": ["", "a", "b", "", "a"], "test": ["b", "", "a"]})
    asked = task.build("kind", labels, features)
    assert isinstance(asked, Task)
    assert asked.train.ids.tolist() == ["train-1", "train-2", "train-4"]
    for part in (asked.train, asked.test):
        assert part.features[:, 0, 0].tolist() == (part.truth == "a").tolist()
        assert part.features[:, 0, 1].tolist() == (part.truth == "b").tolist()


def test_a_probe_restricted_to_labels_is_not_asked_of_others() -> None:
    """Catches a costly probe that runs on every label, and one that reports the others skipped."""
    labels, features = data_set({"train": ["a", "b"], "test": ["a", "b"]})
    results = probe_all(("kind",), labels, features, {}, PROBES, {"linear": ("other",)})
    assert [score.probe for score in results.scores] == ["knn"]
    assert results.skipped == []


def test_clips_that_failed_are_missing_from_the_scores() -> None:
    """Catches a score over fewer clips that does not say which ones could not be read."""
    labels, features = data_set({"train": ["a", "b"], "test": ["a", "b"]})
    features["test"] = replace(features["test"], failed=("gone",))
    (row, _) = probe_all(("kind",), labels, features, {}, PROBES).scores
    assert (row.scored, row.of, row.missing) == (2, 3, ["gone"])
