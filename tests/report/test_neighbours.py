"""Nearest neighbours: the clips that are shown are the nearest, and what is said of them is so."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.report import neighbours, results, selection
from pipeline.report.results import Results
from pipeline.runtime import similarity

from .experiments import Experiment


@pytest.fixture
def found(experiment: Experiment) -> Results:
    with contextlib.chdir(experiment.folder):
        return results.read(experiment.params)


def entry(name: str, motion: str) -> ClipEntry:
    labels = {"motion": motion} if motion else {}
    return ClipEntry(name, Path("x.tar"), 0, 0, 1, 1.0, 8, 8, "train", labels)


def test_each_test_clip_finds_what_its_features_say(found: Results, experiment: Experiment) -> None:
    """Catches an order turned round, places mixed up between splits, and a label of another."""
    with contextlib.chdir(experiment.folder):
        groups = neighbours.neighbour_groups(found)
        train = [clip.id for clip in found.index.clips(["train"])]
        test = [clip.id for clip in found.index.clips(["test"])]
        labels = {clip.id: clip.labels for clip in found.index.clips(["train", "test"])}
    assert [group.run for group in groups] == ["sigma_mlp", "pixel", "random"]
    for query in groups[0].queries:
        assert query.nearest[0].clip == train[test.index(query.clip.clip)]
        cosines = [each.similarity for each in query.nearest]
        assert cosines == sorted(cosines, reverse=True)
        assert cosines[0] == pytest.approx(1.1 / np.sqrt(1.1**2 + 3 * 0.1**2), abs=1e-4)
        for each in query.nearest:
            for (label, value), agrees in zip(each.labels, each.agrees, strict=True):
                assert value == labels[each.clip][label]
                assert agrees == (value == labels[query.clip.clip][label])


def test_the_search_agrees_with_scikit_learn() -> None:
    """Catches a block that is dropped, and cosines that belong to other rows."""
    rng = np.random.default_rng(0)
    asked, searched = (rng.normal(size=(n, 8)).astype(np.float32) for n in (600, 40))
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (asked, searched)]
    places, cosines = similarity.nearest(*units, neighbours.NEAREST)
    oracle = NearestNeighbors(n_neighbors=5, metric="cosine").fit(searched)
    distances, expected = oracle.kneighbors(asked)
    assert (places == expected).all()
    assert np.allclose(cosines, 1 - distances, atol=1e-5)


def test_agreement_is_told_beside_chance() -> None:
    """Catches a share of clips without label, and a chance of another data set."""
    motions = {"a": "up", "b": "down", "c": "", "p": "up", "q": "up", "r": "left", "s": "down"}
    entries = {name: entry(name, motion) for name, motion in motions.items()}
    nearest = np.array([0, 0, 3])
    told = neighbours.agreement("abc", "pqrs", nearest, entries, ["motion", "weather"])
    assert told == [("motion", 0.5, pytest.approx((2 / 4 + 1 / 4) / 2))]


def test_fewer_are_shown_where_there_is_no_room(found: Results, experiment: Experiment) -> None:
    """Catches a page that grows beyond what can be sent."""
    with contextlib.chdir(experiment.folder):
        groups = neighbours.neighbour_groups(found)
    whole = sum(group.size for group in groups)
    kept = selection.within(groups, neighbours.QUERIES, whole // 2)
    assert 0 < sum(group.size for group in kept) <= whole // 2
    assert selection.within(groups, neighbours.QUERIES, whole) == groups
    assert selection.within(groups, neighbours.QUERIES, 0) == []


def test_without_features_there_are_none(
    found: Results, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a report that fails where features were not kept, and damage passed over."""
    monkeypatch.chdir(tmp_path)
    run = found.runs[0]
    assert neighbours.read_features(run) is None
    run.layout.features.parent.mkdir(parents=True)
    run.layout.features.write_bytes(b"PK damaged")
    with pytest.raises(UserError) as caught:
        neighbours.read_features(run)
    assert caught.value.remedy == "python -m pipeline evaluate --run sigma_mlp"
