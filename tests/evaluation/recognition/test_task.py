"""Which clips a probe gets, and the reasons for those it does not get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.configuration.schema import LinearProbe, NearestNeighbours
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition import knn, linear, task
from pipeline.evaluation.recognition.probes import Probe, Results, probe_all
from pipeline.evaluation.recognition.task import Task

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


def test_val_is_scored_beside_test_and_decides_nothing_there() -> None:
    """Catches scores on val that are those on test, or that hide val clips that were lost."""
    train = ["a", "b"] * 5
    truth = {"train": train, "val": ["a", "b", "b", ""], "test": ["a", "b"]}
    results = probe(truth, {"lost": "val", "gone": "test"})
    assert [(row.probe, row.split) for row in results.scores] == [
        ("linear", "test"),
        ("knn", "test"),
    ]
    assert [(row.probe, row.split) for row in results.validation] == [
        ("linear", "val"),
        ("knn", "val"),
    ]
    for row in results.validation:
        assert (row.scored, row.of, row.missing, row.unlabelled_clips) == (3, 5, ["lost"], 1)
        assert row.asked == "3 of 4 val clips with this label, 1 more without it"
    assert probe({"train": train, "test": ["a", "b"]}).validation == []


def test_without_test_val_is_scored_and_no_test_clip_is_seen() -> None:
    """Catches a trial that looks at the test split, and a missing val that is passed over."""
    truth = {"train": ["a", "b"] * 5, "val": ["a", "b", "b"]}
    labels, features = data_set(truth)
    results = probe_all(("kind",), labels, features, {"gone": "test"}, PROBES, split="val")
    assert [(row.split, row.scored, row.of) for row in results.scores] == [("val", 3, 3)] * 2
    assert results.validation == []
    assert {row["split"] for row in results.details} == {"val"}
    del features["val"]
    results = probe_all(("kind",), labels, features, {}, PROBES, split="val")
    assert results.scores == []
    assert "there is no clip in split 'val'" in results.skipped[0].reason


def test_one_answer_for_all_is_noticed() -> None:
    """Catches a probe that answers the commonest class whatever the clip, and passes for one that
    has learned something."""
    labels, features = data_set({"train": ["a", "a", "b"] * 4, "test": ["a", "b", "a", "b"]})
    for split, part in features.items():
        features[split] = replace(part, values=np.ones_like(part.values))
    results = probe_all(("kind",), labels, features, {}, PROBES)
    assert [row.constant for row in results.scores] == ["a", "a"]
    assert [row.top1 for row in results.scores] == [row.majority for row in results.scores]
    assert [row.constant for row in probe({"train": ["a", "b"], "test": ["a", "b"]}).scores] == [
        None,
        None,
    ]


def test_a_test_split_of_one_class_is_said() -> None:
    """Catches 100 % of a split in which nothing else could be answered rightly."""
    results = probe({"train": ["a", "b"] * 3, "test": ["a", "a", "a"]})
    (note,) = [n for n in results.skipped if n.probe == "linear"]
    assert "all 3 test clips are of one class, 'a'" in note.reason
    assert note.clips == 3


def test_features_that_are_not_finite_are_said() -> None:
    """Catches a traceback of scikit-learn, or a score, for an encoder that gives NaN."""
    labels, features = data_set({"train": ["a", "b"], "test": ["a", "b"]})
    features["test"].values[1, 0, 0] = np.nan
    results = probe_all(("kind",), labels, features, {}, PROBES)
    assert results.scores == []
    reason = "the features of 1 clips are not finite: the encoder is broken"
    assert [note.reason for note in results.skipped] == [reason] * 2


@pytest.mark.parametrize("classes", [5, 6])
def test_top5_is_of_six_classes_or_more(classes: int) -> None:
    """Catches a top-5 that says only how many classes a probe names."""
    names = [chr(97 + k) for k in range(classes)] * 2
    (row, _) = probe({"train": names, "test": names}).scores
    assert (row.top5 is None) == (classes < 6)


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
